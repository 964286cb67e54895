"""A run is looked at from its files, which stay as they are, until nobody holds it any more."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import edit, made, row
from process import ENDLESS, aecli, called, commits, started, wait_for

from aecli.config.load import parse
from aecli.errors import RunError
from aecli.runs.directory import Run
from aecli.verbs import watch as watching
from aecli.verbs.watch import Tail, follow, length


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made(tmp_path / "runs")


@pytest.mark.parametrize(
    ("state", "code"), [("completed", 0), ("diverged", 6), ("interrupted", 4), ("failed", 4), ("created", 4), ("running", 4)]
)
def test_a_run_that_nobody_holds_is_told_once(run: Run, tmp_path: Path, state: str, code: int) -> None:
    run.set_state(state, step=40, best_step=30, best_value=1.5, reason="why")
    done = called("watch", "last", cwd=tmp_path)
    told = "crashed" if state == "running" else state
    assert done.returncode == code and done.stdout == f"{run.id}: {told} at step 40, best 1.5 at step 30 (why)\n"
    assert done.stderr == ""
    assert called("watch", "none", cwd=tmp_path).returncode == 4


def followed(run: Run, *steps: Callable[[], Any]) -> list[list[int]]:
    """The steps of the rows of each look, while `steps` happen one after another; then the run is let go."""
    left = list(steps)
    with contextlib.ExitStack() as held:
        held.enter_context(run.locked())

        def pause(seconds: float) -> None:
            if left:
                left.pop(0)()
            else:
                held.close()

        return [[each.step for each in rows] for rows in follow(run, pause)]


def test_each_row_is_told_once_as_it_comes(run: Run) -> None:
    def begin_line() -> None:
        with run.metrics.open("a") as file:
            file.write('{"split": "train", "step": 4, ')

    def end_line() -> None:
        with run.metrics.open("a") as file:
            file.write('"epoch": 0.5}\nno row\n')

    seen = followed(
        run,
        lambda: None,
        lambda: run.append_metrics(row(1)),
        lambda: [run.append_metrics(row(2)), run.append_metrics(row(3, "validation"))],
        begin_line,
        end_line,
        lambda: run.append_metrics(row(5)),
    )
    assert seen == [[], [], [1], [2, 3], [], [4], [5]]


def test_only_what_is_new_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    parse_json = watching.parse_json
    monkeypatch.setattr(watching, "parse_json", lambda line: [read.append(len(line)), parse_json(line)][1])
    tail = Tail(run.metrics)
    for step in range(50):
        run.append_metrics(row(step))
        assert [each.step for each in tail.rows()] == [step]
    assert len(read) == 50 and tail.rows() == []


def test_of_a_long_file_the_end_is_read(run: Run) -> None:
    for _ in range(20):
        run.append_metrics(row(1, note="x" * (watching.RECENT // 10)))
    run.append_metrics(row(2))
    rows = Tail(run.metrics).rows()
    assert rows[-1].step == 2 and 1 < len(rows) < 12
    tail = Tail(run.metrics)
    tail.rows()
    with run.metrics.open("a") as file:
        file.write("x" * 3 * watching.RECENT + "\n")
    run.append_metrics(row(3))
    assert [each.step for _ in range(5) for each in tail.rows()] == [3], "what is no line holds nobody up"


def test_rows_that_a_resume_cuts_off_are_followed_by_those_that_are_new(run: Run) -> None:
    run.append_metrics(row(1))
    offset = run.metrics_size()
    for step in (2, 3, 4):
        run.append_metrics(row(step))
    seen = followed(run, lambda: run.cut_metrics(offset), lambda: run.append_metrics(row(2)))
    assert seen == [[1, 2, 3, 4], [1], [2]]


def test_metrics_that_are_no_file_are_no_rows(run: Run, tmp_path: Path) -> None:
    assert Tail(run.metrics).rows() == []
    os.mkfifo(run.metrics)
    assert Tail(run.metrics).rows() == []
    run.metrics.unlink()
    run.metrics.mkdir()
    assert Tail(run.metrics).rows() == []


@pytest.mark.parametrize("setting", ["steps: 7", "epochs: 1", "epochs: 3"])
def test_the_length_is_that_of_the_training(run: Run, setting: str) -> None:
    text = f"data: {{name: digits, batch_size: 3}}\nmodel: {{variant: vae, latent: 2}}\ntrain: {{{setting}}}\n"
    config = parse(text, "x")
    (run.path / "config.resolved.yaml").write_text(config.resolved())
    assert length(run) == (config.experiment.steps(run.info().data.sizes.train), 3)


@pytest.mark.parametrize(
    "text", ["{}", "train: {steps: x}\ndata: {batch_size: 1}", "train: {steps: 1}", "[", "train: {steps: -1}"]
)
def test_a_length_that_is_not_told_is_an_error(run: Run, tmp_path: Path, text: str) -> None:
    (run.path / "config.resolved.yaml").write_text(text)
    with pytest.raises(RunError, match=r"config\.resolved\.yaml"):
        length(run)
    with run.locked():
        assert called("watch", "last", cwd=tmp_path).returncode == 4


def test_a_run_that_is_removed_meanwhile_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0)
    with run.locked():
        monkeypatch.setattr(watching, "follow", lambda run: iter([shutil.rmtree(run.path)][:0]))
        done = called("watch", "last", cwd=tmp_path)
    assert done.returncode == 4 and "has been removed" in done.stderr


def test_a_watch_sees_a_training_to_its_end_and_leaves_it_alone(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(ENDLESS)
    with started("train", "c.yaml", cwd=tmp_path) as training:
        wait_for(lambda: commits(tmp_path), training)
        with started("watch", "last", cwd=tmp_path) as first, started("watch", "last", cwd=tmp_path) as second:
            assert first.stderr is not None and second.stderr is not None
            assert "running at step" in first.stderr.readline() and "of 10,000,000" in second.stderr.readline()
            first.send_signal(signal.SIGINT)
            out, err = first.communicate(timeout=60)
            assert first.returncode == 130 and out == "" and err.endswith("interrupted\n") and training.poll() is None
            training.send_signal(signal.SIGTERM)
            out, err = second.communicate(timeout=60)
            assert second.returncode == 4 and ": interrupted at step" in out
        training.communicate(timeout=60)
        assert training.returncode == 143
    assert aecli("watch", "last", cwd=tmp_path).stdout == out


def test_a_watch_writes_nothing(run: Run, tmp_path: Path) -> None:
    edit(run, "state.json", state="running")
    run.append_metrics(row(3))

    def files() -> dict[str, tuple[bytes, int]]:
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in run.path.rglob("*") if path.is_file()}

    with run.locked():
        before = files()
        for _ in follow(run, lambda seconds: None):
            break
        length(run)
    assert files() == before
    called("watch", "last", cwd=tmp_path)
    assert files() == before
