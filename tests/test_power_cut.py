"""Wherever the power fails, the run that is found afterwards is whole, and no older than what was acknowledged.

A training, two evaluations and a sampler are done once, and every step of it on the disk noted (`powercut.py`). The disk is then
stopped after each of these steps, in four ways, and what is left is opened. AECLI_SOAK=1 stops after every one, otherwise after
one in twenty.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pytest
from powercut import KINDS, Disk, Event, Recorder
from process import SOAK, called

from aecli.errors import RunError
from aecli.runs import checkpoint, commits, directory, numbers, trained
from aecli.sampling import samplers
from aecli.sweeps import flow
from aecli.sweeps import folder as sweeps
from aecli.sweeps.asked import from_flags
from aecli.sweeps.draft import draft
from aecli.sweeps.holding import Held
from aecli.system import arrays

CONFIG = """\
seed: 0
data: {name: vectors, path: made.npy, batch_size: 16, validation: 16, standardize: zscore}
model: {variant: bottleneck, net: linear, latent: 2}
optimizer: {learning_rate: 1e-3}
train: {steps: 24, checkpoint_every: 4, log_every: 2, keep: 2}
"""
EACH = 1 if SOAK else 20
Told: TypeAlias = Sequence[tuple[str, Any]]


class Story(NamedTuple):
    """What was done to the run `name`, the first `began` events being what was there; `digests` of the arrays of each step that
    was saved."""

    name: str
    began: int
    events: list[Event]
    digests: Mapping[int, Mapping[str, str]]

    def cuts(self, each: int = EACH) -> list[int]:
        """After how many events the power fails: every time or a sample, and after the last."""
        return [*range(self.began, len(self.events), each), len(self.events)]

    def told(self, word: str) -> int:
        """How many events there were when this was told first."""
        return next(count for count, event in enumerate(self.events) if event.kind == "told" and event.value[0] == word)


def told_digests(folder: Path, step: int) -> dict[str, str]:
    return {leaf.path: leaf.sha256 for leaf in commits.read(folder, step).leaves}


def record(home: Path, *calls: list[str]) -> Story:
    """Calls the program with the power on, in a folder whose runs are noted."""
    (home / "runs").mkdir(exist_ok=True)
    recorder = Recorder(home / "runs")
    digests: dict[int, dict[str, str]] = {}
    save, create, write, keep = checkpoint.save, directory.create, numbers.write, samplers.keep

    def told_save(folder: Path, step: int, *rest: Any) -> None:
        save(folder, step, *rest)
        digests[step] = told_digests(folder, step)
        recorder.tell("saved", step)

    def told_create(*args: Any, **more: Any) -> directory.Run:
        run = create(*args, **more)
        recorder.tell("created", run.id)
        return run

    def told_write(folder: Path, split: str, identity: str | None, found: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        recorder.tell("writing", sorted(found))
        write(folder, split, identity, found, values)
        recorder.tell("numbers", sorted(found))

    def told_keep(path: Path, key: str, made: Mapping[str, Any]) -> None:
        keep(path, key, made)
        recorder.tell("sampler", (path.name, key))

    with pytest.MonkeyPatch.context() as patch, recorder.recording():
        patch.setattr(checkpoint, "save", told_save)
        patch.setattr(directory, "create", told_create)
        patch.setattr(numbers, "write", told_write)
        patch.setattr(samplers, "keep", told_keep)
        for call in calls:
            done = called(*call, cwd=home)
            assert done.returncode == 0, done.stderr
    (run,) = directory.every(home / "runs")
    return Story(run.id, recorder.began, recorder.events, digests)


def new_home(home: Path) -> Path:
    home.mkdir()
    np.save(home / "made.npy", np.random.default_rng(0).normal(size=(96, 6)).astype(np.float32))
    (home / "tiny.yaml").write_text(CONFIG)
    return home


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return record(
        new_home(tmp_path_factory.mktemp("power") / "home"),
        ["train", "tiny.yaml"],
        ["eval", "last", "--only", "objective"],
        ["eval", "last", "--only", "reconstruction"],
        ["sample", "last", "-n", "4", "--sampler", "gaussian"],
    )


def disks(story: Story, folder: Path, cuts: Collection[int]) -> Iterator[tuple[str, Path, Told]]:
    """Each disk that may be left after so many events, with what was told before."""
    disk, lot = Disk(), random.Random(0)
    root = next(event.node for event in story.events if event.kind == "sync")
    for count, event in enumerate(story.events, 1):
        disk.apply(event)
        for kind in KINDS if count in cuts else ():
            target = folder / "runs"
            shutil.rmtree(target, ignore_errors=True)
            disk.write(root, target, kind, lot)
            yield f"after {count} of {len(story.events)}, {kind}", target, [*disk.told]


def check_all(story: Story, folder: Path, cuts: Collection[int], before: Told = ()) -> set[int | None]:
    """Opens every disk, and tells of all that are wrong; the steps that were found."""
    wrong: list[str] = []
    steps: set[int | None] = set()
    seen: set[str] = set()
    for where, runs, told in disks(story, folder, cuts):
        held = {str(path.relative_to(runs)): path.is_file() and path.read_bytes() for path in sorted(runs.rglob("*"))}
        digest = hashlib.sha256(repr((told, held)).encode()).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        try:
            steps.add(check(story, runs, [*before, *told]))
        except Exception as error:
            wrong.append(f"{where}: {type(error).__name__}: {error}")
    assert wrong == [], f"{len(wrong)} of {len(KINDS) * len(cuts)}:\n" + "\n".join(wrong[:20])
    return steps


def refuse(line: str) -> None:
    raise AssertionError(line)


def check(story: Story, runs: Path, told: Told) -> int | None:
    """Opens what is left as `--resume`, `eval` and `sample` do; the step of the checkpoint that it found."""
    said = dict(told)
    saved = said.get("saved")
    if not directory.every(runs):
        assert "created" not in said, "the run is gone"
        return None
    run = directory.find(runs, story.name)
    trained.read_scaling(run)
    assert directory.run_facts(run)["note"] is None
    with run.locked():
        run.mend(refuse)
    known = commits.steps(run.checkpoints)
    commits.check_not_lost(run.checkpoints, run.id, run.recorded().step)
    if saved is None and not known:
        with pytest.raises(RunError, match="has no checkpoint yet"):
            trained.load(run, "last", refuse)
        return None
    found = trained.load(run, "last", refuse)
    assert saved is None or found.step >= saved, "older than the last that was acknowledged"
    held = {path: hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for path, leaf in checkpoint.leaves(found.state).items()}
    assert held == story.digests[found.step]
    beside = commits.read(run.checkpoints, found.step).extra
    run.cut_metrics(beside["metrics_offset"])
    rows, damaged = run.read_rows()
    assert [row.step for row in rows if row.split == "train"] == [*range(2, found.step + 1, 2)] and not damaged
    stored = numbers.read(run.path / "eval", "test", run.info().identity, values=True)
    assert stored.wrong is None
    assert sorted(stored.numbers) in (said.get("numbers", []), said.get("writing", []))
    if "sampler" in said:
        name, key = said["sampler"]
        assert arrays.kept(run.path / "samplers" / name, key) is not None
    return found.step


@pytest.mark.timeout(0 if SOAK else 300)
def test_what_is_found_after_a_power_cut_is_whole_and_as_new_as_was_told(story: Story, tmp_path: Path) -> None:
    assert len(story.events) >= 500
    assert {None, 24} <= check_all(story, tmp_path, story.cuts())


@pytest.mark.timeout(0 if SOAK else 300)
@pytest.mark.parametrize("before", [40, 20, 4] if SOAK else [12])
def test_a_resume_after_a_cut_in_a_first_save_can_be_cut_again(story: Story, before: int, tmp_path: Path) -> None:
    """`before`: so many events before the first checkpoint was acknowledged."""
    home = new_home(tmp_path / "home")
    for _, runs, _ in disks(story, tmp_path, [story.told("saved") - before]):  # the last kind stays
        shutil.rmtree(home / "runs", ignore_errors=True)
        shutil.copytree(runs, home / "runs")
    again = record(home, ["train", "--resume", story.name])
    assert again.digests[24] == story.digests[24], "it ends as one that was never cut"
    assert check_all(again, tmp_path, again.cuts(), [("created", story.name)]) >= {24}


def test_a_sweep_that_was_begun_and_each_run_that_was_noted_are_found_after_a_power_cut(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")
    (home / "runs").mkdir()
    made = draft(from_flags(home / "tiny.yaml", grid=["model.latent=1,2"], seeds=2), None, refuse)
    recorder = Recorder(home / "runs")
    with recorder.recording():
        sweep = flow.create(home / "runs", made, [Held("f" * 64)] * len(made.groups))
        recorder.tell("begun", sweep.plan())
        for cell in (3, 1, 2):
            sweep.append(cell=cell, run=f"run-{cell}")
            recorder.tell("noted", cell)
    story = Story(sweep.id, recorder.began, recorder.events, {})
    cuts, found = story.cuts(1), set[int]()
    for where, runs, told in disks(story, tmp_path, cuts):
        said, noted = dict(told), [value for word, value in told if word == "noted"]
        ids = sweeps.every(runs)
        assert ids == [sweep.id] or "begun" not in said, where
        if ids:
            left = sweeps.find(runs, "last")
            assert left.plan().model_dump(exclude={"created"}) == sweep.plan().model_dump(exclude={"created"}), where
            assert left.config() == CONFIG and (left.path / "logs").is_dir(), where
            lines = [line.cell for line in left.lines()[0]]
            assert lines[: len(noted)] == noted and lines == [3, 1, 2][: len(lines)], where
            left.append(cell=4, run="run-4")
            assert [line.cell for line in left.lines()[0]] == [*lines, 4], "whatever was left of a line"
            found.add(len(lines))
    assert found == {0, 1, 2, 3}
