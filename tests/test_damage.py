"""A damaged, edited or strange run folder: every verb says what is wrong, or gives the numbers that it gave before. Nothing is
believed, nothing gets out.

AECLI_SOAK=1 tries every damage, which takes an hour; otherwise a sample of each kind.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import damage
import numpy as np
import pytest
from damage import Damage
from process import SOAK, TINY, called

from aecli.evaluation.request import EvalRequest
from aecli.runs import commits
from aecli.runs.data import open_run_data
from aecli.runs.directory import Run
from aecli.runs.trained import load
from aecli.verbs.evaluate import Watch, evaluate_run

CODES = {0, 2, 3, 4, 5, 7}
"""What a verb may end with: no bug, no divergence, no device."""
EVAL = ("eval", "--only", "objective,reconstruction", "--json")
SAMPLE = ("sample", "--sampler", "gaussian", "-n", "4")


class Whole(NamedTuple):
    """A run that nothing happened to, `place/runs/id`, beside `other`; and what verbs make of it."""

    place: Path
    id: str
    metrics: dict[str, Any]
    drawn: dict[str, Any]
    arrays: dict[str, str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    place = tmp_path_factory.mktemp("whole")
    (place / "c.yaml").write_text(TINY.replace("steps: 40", "steps: 20"))
    for name in ("other", "sound"):
        done = called("train", "c.yaml", "--name", name, cwd=place)
        assert done.returncode == 0, done.stderr
    run = done.stdout.strip()
    folder = Run(place / "runs" / run)
    metrics = json.loads(_ok(called(EVAL[0], run, *EVAL[1:], cwd=place)))
    drawn = _arrays(_ok(called(SAMPLE[0], run, *SAMPLE[1:], cwd=place)), place)
    _leave_unfinished(folder)
    copy = place.with_name("resumed")
    shutil.copytree(place, copy)
    _ok(called("train", "--resume", run, "--set", "train.steps=22", cwd=copy))
    return Whole(place, run, metrics, drawn, _leaves(copy / "runs" / run, 22))


def _ok(done: Any) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def _arrays(printed: str, place: Path) -> dict[str, Any]:
    with np.load(place / printed.splitlines()[-1]) as file:
        return dict(file)


def _leaves(run: Path, step: int) -> dict[str, str]:
    return {leaf.path: leaf.sha256 for leaf in commits.read(run / "checkpoints", step).leaves}


def _leave_unfinished(run: Run) -> None:
    """The journal of an evaluation that a signal ended."""
    trained = load(run, "best", lambda line: None)
    data = open_run_data(run, trained.experiment.data, lambda line: None)

    def stop(name: str) -> None:
        if name == "reconstruction":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, trained, data, EvalRequest(only=("objective", "reconstruction")), Watch(stop))
    assert (run.path / "eval" / ".test.unfinished").is_dir()


def hold(whole: Whole, folder: Path, one: Damage) -> str:
    """Asserts that every verb holds against a damage. Returns the exit codes of `eval`, `sample` and `train --resume`."""
    place = folder / "place"
    shutil.copytree(whole.place, place)
    run = place / "runs" / whole.id
    one.do(run / one.file)
    outside = _bytes(damage.elsewhere(run))
    listed = _called("runs", "--json", cwd=place)
    assert listed.returncode == 0 and {fact["id"] for fact in json.loads(listed.stdout)} >= {"other-" + _tail(whole, "other")}
    _called("runs", cwd=place)
    _called("show", whole.id, cwd=place)
    done = _called(EVAL[0], whole.id, *EVAL[1:], cwd=place)
    codes = [str(done.returncode)]
    if done.returncode == 0 and not _older(done):
        now = json.loads(done.stdout)
        assert {name: metric["value"] for name, metric in now.items()} == {n: m["value"] for n, m in whole.metrics.items()}
    done = _called(SAMPLE[0], whole.id, *SAMPLE[1:], cwd=place)
    codes.append(str(done.returncode))
    if done.returncode == 0 and not _older(done):
        now = _arrays(done.stdout, place)
        assert now.keys() == whole.drawn.keys() and all(np.array_equal(now[name], whole.drawn[name]) for name in now)
    done = _called("train", "--resume", whole.id, "--set", "train.steps=22", cwd=place)
    if done.returncode == 0:
        assert "resuming at step" in done.stderr and _leaves(run, 22) == whole.arrays
    codes.append(str(done.returncode))
    assert _bytes(damage.elsewhere(run)) == outside, "what lies outside of the run is as it was"
    return " ".join(codes)


def _older(done: Any) -> bool:
    """Whether a verb says that it uses an older checkpoint than the run had."""
    return "using step" in done.stderr or "is lost (" in done.stderr


def _tail(whole: Whole, name: str) -> str:
    [path] = (whole.place / "runs").glob(f"{name}-*")
    return path.name.removeprefix(f"{name}-")


def _called(*arguments: str, cwd: Path) -> Any:
    done = called(*arguments, cwd=cwd)
    text = done.stdout + done.stderr
    assert done.returncode in CODES and "internal error" not in text and "Traceback" not in text, (arguments, done)
    assert all(line.isprintable() for line in text.split("\n")), (arguments, text)
    if done.returncode:
        assert "error: " in done.stderr, (arguments, done)
    return done


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KINDS = ("run.json", "state.json", "config", "commit", "resealed commit", "numbers", "files", "folders")
SAMPLE_OF = 8
"""Damages of each kind that the suite tries."""


def damages(run: Path, kind: str) -> Iterator[Damage]:
    newest = f"checkpoints/{commits.steps(run / 'checkpoints')[-1]}.commit.json"
    if kind in ("run.json", "state.json"):
        yield from damage.of_fields(run, kind)
    elif kind == "config":
        yield from damage.of_bits(run, "config.resolved.yaml", 1500)
    elif kind == "commit":
        yield from damage.of_fields(run, newest)
    elif kind == "resealed commit":
        yield from damage.of_fields(run, newest, reseal=True)
    elif kind == "numbers":
        yield from damage.of_fields(run, "eval/test.json")
        yield from damage.of_fields(run, "eval/.test.unfinished/protocol.json")
    elif kind == "files":
        yield from damage.of_files(run)
    else:
        yield from damage.of_folders(run)


def chosen(every: Sequence[Damage]) -> Sequence[Damage]:
    return every if SOAK else every[:: max(1, len(every) // SAMPLE_OF)]


@pytest.mark.timeout(0 if SOAK else 300)
@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_holds_against(kind: str, whole: Whole, tmp_path: Path) -> None:
    failed: list[str] = []
    ends: Counter[str] = Counter()
    some = chosen(list(damages(whole.place / "runs" / whole.id, kind)))
    for number, one in enumerate(some):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            ends[hold(whole, folder, one)] += 1
        except AssertionError as error:
            failed.append(f"{one.file} {one.name}: {str(error)[:1500]}")
        shutil.rmtree(folder)
    print(f"{kind}: {len(some)} damages, {len(failed)} not held; eval, sample, resume ended with {dict(ends.most_common())}")
    assert not failed, f"{len(failed)} of {len(some)}:\n" + "\n".join(failed)
