"""A run that a stranger made: nothing that it holds leads what is read, written or removed out of its folder, and nothing in it
decides what its numbers are of."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit import dataset, experiment, fit, go_on

from aecli.errors import CheckpointError, RunError
from aecli.evaluation.request import EvalRequest
from aecli.runs import commits, directory, numbers, seal
from aecli.runs.directory import Run
from aecli.runs.records import Place, validated
from aecli.runs.trained import load
from aecli.sampling.request import SampleRequest
from aecli.system.reading import Unreadable, open_regular, parse_json, read_regular, set_aside
from aecli.verbs.evaluate import Watch, evaluate_run
from aecli.verbs.sample import sample_run
from aecli.verbs.train import resume

E = "variant: vae, hidden: [12], latent: 3"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return fit(tmp_path / "runs", experiment(E), dataset())[0]


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)
        made.bind(path.name)


@pytest.mark.parametrize("where", ["metrics.jsonl", ".lock", "samples/x.png", "eval/.lock", "checkpoints/6/extra", "new"])
@pytest.mark.parametrize(("make", "what"), [(_link, "a link"), (os.mkfifo, "a FIFO"), (_socket, "a socket")])
def test_a_run_holds_files_and_folders_alone(
    run: Run, where: str, make: Callable[[Path], None], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path)
    (run.path / where).unlink(missing_ok=True)
    make(run.path / where)
    with pytest.raises(RunError, match=f"{where} of run {run.id} is {what}"):
        directory.find(run.path.parent, run.id)
    assert what in directory.run_facts(run)["note"]


@pytest.mark.parametrize("name", ["checkpoints", "samples", "eval"])
def test_a_folder_of_a_run_is_one(run: Run, name: str) -> None:
    os.rename(run.path / name, run.path / "aside")
    (run.path / name).write_text("x")
    with pytest.raises(RunError, match=f"{name} of run .* is a file, and no folder"):
        directory.find(run.path.parent, run.id)


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_a_file_with_a_second_name_is_not_written_to(run: Run, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    os.replace(run.path / name, victim)
    os.link(victim, run.path / name)
    before = victim.read_bytes()
    with pytest.raises(RunError, match="hard link"), run.locked():
        run.append_metrics({"step": 1})
    assert victim.read_bytes() == before


def test_a_link_to_a_run_beside_it_is_followed_and_one_elsewhere_told(run: Run, tmp_path: Path) -> None:
    root = run.path.parent
    (root / "best").symlink_to(run.id)
    assert directory.find(root, "best") == run and directory.every(root) == [run]
    other = tmp_path / "other"
    other.mkdir()
    (other / "there").symlink_to(run.path)
    with pytest.raises(RunError, match="links to runs elsewhere are not followed") as caught:
        directory.find(other, "there")
    assert caught.value.help == f"--runs-dir {root} {run.id}"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Run, Run]:
    """Two runs on the same data whose configs differ in one setting."""
    first = fit(tmp_path / "runs", experiment(E), dataset())[0]
    return first, fit(tmp_path / "runs", experiment(E.replace("latent: 3", "latent: 2")), dataset())[0]


def _measured(run: Run, *only: str) -> dict[str, float | None]:
    metrics = evaluate_run(run, load(run, "last", str), dataset(), EvalRequest(only=only)).metrics
    return {name: recorded.metric.value for name, recorded in metrics.items()}


def test_numbers_of_another_run_are_not_taken_for_its_own(pair: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    mine, other = pair
    own = _measured(mine, "objective", "reconstruction")
    _measured(other, "objective", "reconstruction")
    shutil.rmtree(mine.path / "eval")
    shutil.copytree(other.path / "eval", mine.path / "eval")
    assert numbers.read(mine.path / "eval", "test", mine.info().identity).wrong == "they are not what aecli wrote of this run"
    assert _measured(mine, "objective") == {name: own[name] for name in _measured(mine, "objective")}
    assert "mse" not in _measured(mine, "objective") and "set aside as test.json.damaged" in capsys.readouterr().err
    shutil.copy(other.path / "eval" / "test.json", mine.path / "eval")
    (mine.path / "eval" / ".test.seal.json").unlink()
    assert numbers.read(mine.path / "eval", "test", mine.info().identity).wrong == "their seal is gone"
    assert _measured(mine, "objective", "reconstruction") == own


def test_unfinished_work_on_another_run_is_not_gone_on_with(pair: tuple[Run, Run]) -> None:
    mine, other = pair
    own = _measured(mine, "objective")

    def stop(name: str) -> None:
        if name == "reconstruction":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        only = EvalRequest(only=("objective", "reconstruction"))
        evaluate_run(other, load(other, "last", str), dataset(), only, Watch(stop))
    shutil.copytree(other.path / "eval" / ".test.unfinished", mine.path / "eval" / ".test.unfinished")
    assert _measured(mine, "objective") == own


def test_numbers_of_a_run_on_other_data_are_not_taken_for_its_own(tmp_path: Path) -> None:
    mine, other = (fit(tmp_path / "runs", experiment(E), data)[0] for data in (dataset(), dataset(train=47)))
    for file in ("config.resolved.yaml", "config.yaml"):
        assert (mine.path / file).read_bytes() == (other.path / file).read_bytes()
    evaluate_run(other, load(other, "last", str), dataset(train=47), EvalRequest(only=("objective",)))
    shutil.rmtree(mine.path / "eval")
    shutil.copytree(other.path / "eval", mine.path / "eval")
    assert numbers.read(mine.path / "eval", "test", mine.info().identity).wrong is not None


def test_numbers_of_a_run_whose_fingerprint_is_half_a_letter_are_not_believed(run: Run) -> None:
    _measured(run, "objective")
    assert numbers.read(run.path / "eval", "test", "\ud800").wrong == "they are not what aecli wrote of this run"


def test_samplers_of_another_run_are_fitted_anew(pair: tuple[Run, Run]) -> None:
    mine, other = pair

    def drawn(run: Run) -> bytes:
        request = SampleRequest(sampler="gaussian", n=2)
        _, arrays = sample_run(run, load(run, "last", str), dataset, request)
        with np.load(arrays) as file:
            return file["image"].tobytes()

    own = drawn(mine)
    drawn(other)
    shutil.rmtree(mine.path / "samplers")
    shutil.copytree(other.path / "samplers", mine.path / "samplers")
    assert drawn(mine) == own


@pytest.mark.parametrize("files", [("state.json",), ("run.json", "config.resolved.yaml", "config.yaml")])
def test_what_contradicts_the_checkpoints_is_told_where_runs_are_listed(pair: tuple[Run, Run], files: tuple[str, ...]) -> None:
    mine, other = pair
    assert directory.run_facts(mine)["note"] is None
    for file in files:
        shutil.copy(other.path / file, mine.path / file)
    assert "checkpoint" in directory.run_facts(mine)["note"]


def test_a_resume_after_a_kill_between_checkpoint_and_state_tells_both_alike(run: Run) -> None:
    state = json.loads((run.path / "state.json").read_text())
    old = {"state": "running", "step": 3, "best_step": 3, "best_value": 1e9}
    (run.path / "state.json").write_text(json.dumps(state | old))
    go_on(run, experiment(E), dataset())
    assert directory.run_facts(run)["note"] is None
    assert json.loads((run.path / "state.json").read_text())["best_value"] == state["best_value"]


def test_the_variant_is_that_of_the_config(run: Run) -> None:
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(info | {"variant": "gan"}))
    with pytest.raises(RunError, match="says variant 'gan', its config 'vae'"):
        load(run, "last", str)


@pytest.mark.parametrize("name", ["/dev/zero", "../../run.json", "a/../../b", "", "a//b", "./a", "a\0b"])
def test_names_in_a_commit_file_stay_inside(run: Run, name: str) -> None:
    step = commits.steps(run.checkpoints)[-1]
    manifest = json.loads(commits.path_of(run.checkpoints, step).read_bytes())
    manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    commits.write(run.checkpoints, step, manifest)
    with pytest.raises(Unreadable, match="leads out of the checkpoint's folder"):
        commits.read(run.checkpoints, step)


def test_a_file_that_was_not_saved_with_a_checkpoint_is_not_read(run: Run) -> None:
    step = commits.steps(run.checkpoints)[-1]
    for known in commits.steps(run.checkpoints):
        (run.checkpoints / str(known) / "d" / "more").write_text("x")
    said: list[str] = []
    with pytest.raises(CheckpointError, match="every checkpoint"):
        load(run, "last", said.append)
    assert f"checkpoint {step} is damaged (d/more was not saved with it)" in said[0]


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("config.resolved.yaml", "seed: 0", "seed: 1"),
        ("config.resolved.yaml", "latent: 3", "latent: 4"),
        ("config.resolved.yaml", "batch_size: 16", "batch_size: 8"),
        ("run.json", '"train": 48', '"train": 49'),
        ("run.json", "made on the spot", "made of the spot"),
        ("run.json", '"classes": 3', '"classes": 4'),
    ],
)
def test_a_run_that_was_changed_since_a_checkpoint_is_refused(run: Run, file: str, before: str, after: str) -> None:
    path = run.path / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(RunError, match=r"has been changed since checkpoint|not what the run was started with"):
        load(run, "last", lambda line: None)
    path.write_text(text)
    load(run, "last", lambda line: None)


def test_steps_and_epochs_are_no_part_of_the_seal() -> None:
    one, other = (f"seed: 0\ntrain: {{steps: {steps}, epochs: null, keep: 2}}\n" for steps in (5, 9))
    assert seal.of_config(one) == seal.of_config(other) != seal.of_config(one.replace("keep: 2", "keep: 3"))


def test_a_run_that_has_never_begun_is_held_to_its_config_too(run: Run) -> None:
    info = run.info().model_copy(update={"experiment": seal.of_config("seed: 0\n")})
    seal.check_config(run.id, "seed: 0\n", info)
    with pytest.raises(RunError, match="not what the run was started with"):
        seal.check_config(run.id, "seed: 1\n", info)


def test_a_run_that_has_lost_its_commit_files_is_not_begun_again(run: Run) -> None:
    for step in commits.steps(run.checkpoints):
        commits.path_of(run.checkpoints, step).unlink()
    before = sorted(run.checkpoints.rglob("*"))
    for state in (True, False):
        if not state:
            (run.path / "state.json").unlink()
        with pytest.raises(CheckpointError, match=r"holds the arrays of step 6"):
            resume(run, ["train.steps=12"])
        with pytest.raises(CheckpointError, match=r"holds the arrays of step 6"):
            load(run, "last", lambda line: None)
    assert sorted(run.checkpoints.rglob("*")) == before, "what is left stays"


def test_a_state_above_0_is_enough_not_to_begin_again(run: Run) -> None:
    import shutil

    shutil.rmtree(run.checkpoints)
    run.checkpoints.mkdir()
    with pytest.raises(CheckpointError, match=r"state\.json tells of step 6"):
        resume(run, ["train.steps=12"])


@pytest.mark.parametrize("gone", ["commit", "arrays too"])
def test_a_lost_newest_checkpoint_is_told(run: Run, gone: str) -> None:
    first, last = commits.steps(run.checkpoints)
    commits.path_of(run.checkpoints, last).unlink()
    if gone == "arrays too":
        shutil.rmtree(run.checkpoints / str(last))
    said: list[str] = []
    assert load(run, "last", said.append).step == first
    assert f"checkpoint {last} of run {run.id} is lost" in said[0] and f"is of step {first}" in said[0]


def test_a_lost_best_checkpoint_is_told(run: Run) -> None:
    first, last = commits.steps(run.checkpoints)
    commit = commits.read(run.checkpoints, last)
    commits.write(run.checkpoints, last, {**commit.as_json(), "extra": _with_best(commit.extra, first)})
    commits.path_of(run.checkpoints, first).unlink()
    said: list[str] = []
    assert load(run, "best", said.append).step == last
    assert any(f"checkpoint {first} of run {run.id}, its best, is lost" in line for line in said)


def _with_best(extra: dict[str, Any], step: int) -> dict[str, Any]:
    return {**extra, "progressed": {**extra["progressed"], "best_step": step}}


def test_a_first_save_that_was_killed_is_begun_again(run: Run) -> None:
    first, last = commits.steps(run.checkpoints)
    for step in (first, last):
        commits.path_of(run.checkpoints, step).unlink()
    shutil.rmtree(run.checkpoints / str(last))
    run.set_state("interrupted", step=0)
    with pytest.raises(CheckpointError):
        commits.check_not_lost(run.checkpoints, run.id, 0)
    (run.checkpoints / commits.SAVING).write_text(str(first))
    commits.check_not_lost(run.checkpoints, run.id, 0)
    go_on(run, experiment(E), dataset())
    assert commits.steps(run.checkpoints) == [first, last] and not (run.checkpoints / commits.SAVING).exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[Infinity]",
        "1e999",
        '[{"x": -1e400}]',
        "[" * 100_000,
        '{"a":' * 40 + "1" + "}" * 40,
        "\xff",
        "1" * 5000,
        "[" + "{}," * 2_000_000 + "1]",
    ],
)
def test_what_is_no_json_or_too_deep_is_told(text: str) -> None:
    with pytest.raises(Unreadable):
        parse_json(text.encode("latin1"))
    assert parse_json(b"[" * 30 + b"]" * 30) is not None


@pytest.mark.parametrize("text", ["~\0", "/a\0b", "~\ud800"])
def test_a_place_of_data_that_no_path_leads_to_is_told(text: str) -> None:
    sound = {"given": "~/x", "absolute": "/x\udcff", "from_run": "../../x"}
    assert validated(Place, sound).as_json() == sound
    for key in sound:
        with pytest.raises(Unreadable, match=f"'{key}' is no path"):
            validated(Place, {**sound, key: text})


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    assert read_regular(file) == b"x" * 100
    with pytest.raises(Unreadable, match="larger than 99 bytes"):
        read_regular(file, 99)
    for path, what in ((tmp_path, "a folder"), (Path("/dev/null"), "a device")):
        with pytest.raises(Unreadable, match=what):
            read_regular(path)
    with pytest.raises(Unreadable, match="a device"):
        os.close(open_regular(Path("/dev/null"), os.O_WRONLY))
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "nowhere")


def test_what_is_set_aside_is_not_lost(tmp_path: Path) -> None:
    for content in ("a", "b"):
        (tmp_path / "x").write_text(content)
        set_aside(tmp_path / "x")
    assert [(tmp_path / name).read_text() for name in ("x.damaged", "x.damaged.2")] == ["a", "b"]
