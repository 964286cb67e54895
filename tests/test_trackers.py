"""Trackers show what `metrics.jsonl` says, whatever became of the run and of them, and nothing of them leaves its folder."""

from __future__ import annotations

import importlib.util
import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit import dataset, experiment, fit, go_on, new_run
from PIL import Image
from process import TINY, called, commits, environment, started, wait_for
from tensorboardX.proto.event_pb2 import Event, SessionLog

from aecli.errors import ConfigError, RunError
from aecli.runs import directory, seal
from aecli.runs.directory import Run
from aecli.training import writers
from aecli.training.trackers import tensorboard

LINEAR = "variant: bottleneck, latent: 3, net: linear"
DATA = dataset(train=16)
TRACKED = TINY.replace("log_every: 10", "log_every: 10, trackers: [tensorboard]")
OTHERS = [
    pytest.param(
        name,
        marks=[
            pytest.mark.skipif(
                any(importlib.util.find_spec(package) is None for package in writers.NEEDS[name]), reason=f"needs aecli[{name}]"
            ),
            pytest.mark.filterwarnings("default"),  # of packages that warn of each other
        ],
    )
    for name in ("wandb", "mlflow")
]


def events(folder: Path) -> Iterator[Any]:
    """Those of all event files of a folder, in the order in which TensorBoard reads them. A record is its length, 4 bytes of a
    checksum, what it says, and 4 of another."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            yield Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length


def scalars(run: Run) -> dict[tuple[str, int], float]:
    """What TensorBoard shows of the training, by name and step: of a step and a name there is one."""
    found: dict[tuple[str, int], float] = {}
    for event in events(run.path / "tensorboard" / "training"):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                assert (value.tag, event.step) not in found
                found[value.tag, event.step] = value.simple_value
    return found


def expected(run: Run, number: Any = np.float32) -> dict[tuple[str, int], float]:
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return {
        (f"{row['split']}/{name}", row["step"]): float(number(value))
        for row in rows
        for name, value in row.items()
        if name not in ("split", "step")
    }


def tracked(*names: str, train: str = "steps: 6, log_every: 2, checkpoint_every: 2, keep: 9") -> Any:
    return experiment(LINEAR, f"{train}, trackers: [{', '.join(names)}]")


def undone(run: Run, *steps: int) -> None:
    """As a kill before these checkpoints would have left it."""
    for step in steps:
        (run.checkpoints / f"{step}.commit.json").unlink(missing_ok=True)


def test_tensorboard_shows_every_number_of_every_row_and_the_config(tmp_path: Path) -> None:
    run, _ = fit(tmp_path, tracked("tensorboard"), DATA)
    assert {row.split for row in run.rows()} == {"train", "validation"}
    found = scalars(run)
    assert found == expected(run)
    assert {"train/loss", "train/learning_rate", "train/gradient_norm", "train/seconds", "validation/loss"} <= {
        n for n, _ in found
    }
    (config,) = [
        value.tensor.string_val[0].decode()
        for event in events(run.path / "tensorboard" / "training")
        for value in event.summary.value
        if value.tag == "config/text_summary"
    ]
    assert "    model:\n      variant: bottleneck\n" in config


def test_a_run_that_goes_on_has_all_kept_rows_and_no_other(tmp_path: Path) -> None:
    """A live TensorBoard is told to forget what it has read of the old file."""
    run, _ = fit(tmp_path, tracked("tensorboard"), DATA)
    (before,) = (run.path / "tensorboard" / "training").iterdir()
    undone(run, 3, 4, 5, 6)
    assert go_on(run, tracked("tensorboard"), DATA).resumed_from == 2
    (after,) = (run.path / "tensorboard" / "training").iterdir()
    assert after.name != before.name and scalars(run) == expected(run)
    assert [row.step for row in run.rows() if row.split == "train"] == [2, 4, 6]
    start = next(event for event in events(after.parent) if event.HasField("session_log"))
    assert start.session_log.status == SessionLog.START and start.step == 0, "which purges all from this step on"
    times = [event.wall_time for event in events(after.parent) if event.step]
    assert times == sorted(times)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_cut_short_and_goes_on_shows_what_the_metrics_say(signum: int, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TRACKED.replace("steps: 40", "steps: 100000"))
    with started("train", "c.yaml", cwd=tmp_path) as process:
        wait_for(lambda: len(commits(tmp_path)) > 2, process)
        process.send_signal(signum)
        assert process.wait(60) == (130 if signum == signal.SIGINT else -signal.SIGKILL)
    (run,) = directory.every(tmp_path / "runs")
    # A kill between the two leaves a row that TensorBoard has not: never the reverse.
    assert scalars(run).items() <= expected(run).items() and scalars(run)
    length = run.recorded().step + 30
    done = called("train", "--resume", "last", "--set", f"train.steps={length}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert scalars(run) == expected(run) and run.recorded().step == length


def test_a_tracker_that_fails_is_told_of_once_and_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, told = tensorboard.TensorBoard.row, list[str]()

    def full(self: Any, row: Mapping[str, Any], at: float) -> None:
        if row["step"] > 2:
            raise OSError(28, "No space left on device")
        real(self, row, at)

    e = tracked("tensorboard")
    run = new_run(tmp_path, e, DATA)
    with monkeypatch.context() as patched:
        patched.setattr(tensorboard.TensorBoard, "row", full)
        go_on(run, e, DATA, told.append)
    assert len(told) == 1 and "tensorboard is written no more" in told[0] and "No space left" in told[0]
    assert run.state() == "completed" and max(step for _, step in scalars(run)) == 2 < max(row.step for row in run.rows())
    undone(run, 5, 6)
    go_on(run, e, DATA)
    assert scalars(run) == expected(run), "a resume writes what was missed"


def test_a_tracker_that_cannot_be_opened_ends_no_training(tmp_path: Path) -> None:
    run, told = new_run(tmp_path, tracked("tensorboard"), DATA), list[str]()
    (run.path / "tensorboard").write_text("a file in its place")
    go_on(run, tracked("tensorboard"), DATA, told.append)
    assert len(told) == 1 and run.state() == "completed" and len(run.rows()) > 0


def test_a_missing_package_is_told_with_its_place_and_extra_before_there_is_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    (tmp_path / "c.yaml").write_text(TRACKED)
    monkeypatch.setattr(writers, "find_spec", lambda package: None)
    for verb in ("train", "check"):
        done = called(verb, "c.yaml", cwd=tmp_path)
        assert done.returncode == 2 and "c.yaml:5:" in done.stderr + done.stdout
        assert "tensorboardX is not installed, and tensorboard needs it" in done.stderr + done.stdout
        assert "pip install 'aecli[tensorboard]'" in done.stderr + done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_resume_without_the_package_says_so_and_can_do_without_the_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path
) -> None:
    (tmp_path / "c.yaml").write_text(TRACKED)
    assert called("train", "c.yaml", cwd=tmp_path).returncode == 0
    (run,) = directory.every(tmp_path / "runs")
    longer = ("train", "--resume", "last", "--set", "train.steps=50")
    with monkeypatch.context() as patched:
        patched.setattr(writers, "find_spec", lambda package: None)
        done = called(*longer, cwd=tmp_path)
        assert done.returncode == 2 and "aecli[tensorboard]" in done.stderr and "train.trackers=[]" in done.stderr
        assert called(*longer, "--set", "train.trackers=[]", cwd=tmp_path).returncode == 0
    assert max(step for _, step in scalars(run)) == 40
    again = called(*longer[:-1], "train.steps=60", "--set", "train.trackers=[tensorboard]", cwd=tmp_path)
    assert again.returncode == 0 and scalars(run) == expected(run)
    assert max(step for _, step in scalars(run)) == 60


def test_trackers_are_no_part_of_the_experiment() -> None:
    plain, other = (seal.of_settings({"train": {"steps": 1, **more}}) for more in ({}, {"trackers": ["tensorboard"]}))
    assert plain == other


@pytest.mark.parametrize("text", ["tensorboard", "[comet]", "[tensorboard, tensorboard]"])
def test_what_is_no_list_of_trackers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="trackers"):
        experiment(LINEAR, f"steps: 1, trackers: {text}")


def test_without_trackers_nothing_of_them_is_imported() -> None:
    loaded = "[name for name in sys.modules if 'trackers' in name or 'tensorboardX' in name]"
    asked = f"import sys, aecli.verbs.train, aecli.verbs.sample; print({loaded})"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.strip() == "[]"


def test_the_picture_of_a_sample_stands_at_its_checkpoint(tmp_path: Path, data_dir: Path) -> None:
    """Under its mode's name, the bytes that are in `samples/`, and apart from what the training writes: a run can be sampled
    from while it goes on."""
    (tmp_path / "c.yaml").write_text(TRACKED)
    assert called("train", "c.yaml", cwd=tmp_path).returncode == 0
    (run,) = directory.every(tmp_path / "runs")
    before = scalars(run)
    for mode in ("prior", "reconstruct"):
        assert called("sample", "last", "--mode", mode, "-n", 4, cwd=tmp_path).returncode == 0
    shown = [(event.step, value) for event in events(run.path / "tensorboard" / "pictures") for value in event.summary.value]
    assert sorted((step, value.tag) for step, value in shown) == [(40, "prior"), (40, "reconstruct")]
    for _, value in shown:
        (file,) = (run.path / "samples").glob(f"{value.tag}-step40-*.png")
        with Image.open(file) as picture:
            assert (value.image.width, value.image.height) == picture.size
        assert value.image.encoded_image_string == file.read_bytes()
    assert scalars(run) == before
    for verb in (("archive", "last", "-o", "a.tar.gz"), ("import", "a.tar.gz", "--runs-dir", "elsewhere")):
        assert called(*verb, cwd=tmp_path).returncode == 0
    copy = Run(tmp_path / "elsewhere" / run.id)
    assert scalars(copy) == before
    assert called("rm", "last", "--yes", cwd=tmp_path).returncode == 0 and not run.path.exists()


def test_a_link_in_the_place_of_a_trackers_folder_is_refused(tmp_path: Path) -> None:
    run, _ = fit(tmp_path / "runs", tracked("tensorboard"), DATA)
    (run.path / "wandb").write_text("no folder")
    with pytest.raises(RunError, match="wandb"):
        directory.find(run.path.parent, run.id)


def test_a_picture_that_no_tracker_takes_is_told_of_as_a_picture(tmp_path: Path) -> None:
    run, told = new_run(tmp_path, tracked("tensorboard"), DATA), list[str]()
    (run.path / "tensorboard").write_text("a file in its place")
    writers.add_picture(run, ["tensorboard"], "prior", Image.new("L", (9, 7)), 6, told.append)
    assert len(told) == 1 and "the picture is in its file" in told[0] and "metrics.jsonl" not in told[0]


def files(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


def shown_by(name: str, run: Run) -> dict[tuple[str, int], float]:
    """The scalars of the training as the tracker's own package reads them."""
    if name == "mlflow":
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{run.path / 'mlflow' / 'mlflow.db'}")
        every = [experiment.experiment_id for experiment in client.search_experiments()]
        (training,) = client.search_runs(every, "attributes.run_name = 'training'")
        assert training.data.params["model.variant"] == "bottleneck"
        histories = [client.get_metric_history(training.info.run_id, name) for name in training.data.metrics]
        return {(metric.key, metric.step): metric.value for history in histories for metric in history}
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = (run.path / "wandb").glob(f"offline-run-*-{run.id}/*.wandb")
    found = dict[tuple[str, int], float]()
    give_up = time.monotonic() + 30
    records = list[Any]()
    while not any(record.HasField("exit") for record in records):  # its process writes the end after it has said so
        assert time.monotonic() < give_up
        time.sleep(0.1)
        records = [Record.FromString(data) for data in log_records(file.read_bytes())]
    for record in records:
        for item in record.history.item:
            name = "/".join(item.nested_key) or item.key
            if name.startswith(("train/", "validation/")):
                found[name, record.history.step.num] = json.loads(item.value_json)
    return found


def log_records(data: bytes) -> Iterator[bytes]:
    """Those of a log as LevelDB has it, behind a header of 7 bytes: blocks of 32 KiB, in which each piece of a record has 4 bytes
    of a checksum, its length, and whether it is whole (1), the first (2) or the last (4)."""
    block, at, record = 2**15, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record = (b"" if kind in (1, 2) else record) + data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4) and at <= len(data):
            yield record


@pytest.mark.parametrize("name", OTHERS)
def test_another_tracker_shows_the_same_and_stays_in_the_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    told = list[str]()
    run = new_run(tmp_path / "runs", tracked(name), DATA)
    go_on(run, tracked(name), DATA, told.append)
    assert not told and shown_by(name, run) == expected(run, float)
    undone(run, 3, 4, 5, 6)
    go_on(run, tracked(name), DATA, told.append)
    assert not [line for line in told if name in line] and shown_by(name, run) == expected(run, float)
    told.clear()
    writers.add_picture(run, [name], "prior", Image.new("L", (9, 7)), 6, told.append)
    writers.add_picture(run, [name], "prior", Image.new("L", (9, 7)), 6, told.append)
    assert not told and len([path for path in files(run.path / name) if path.suffix == ".png"]) == 2
    assert not files(home) and {path.name for path in tmp_path.iterdir()} == {"home", "runs"}
    assert directory.find(run.path.parent, run.id) == run, "no links, which no run holds"


@pytest.mark.parametrize("name", [each for each in OTHERS if each.values == ("mlflow",)])
def test_what_mlflow_is_told_of_a_run_that_was_moved_lies_where_the_run_is(name: str, tmp_path: Path) -> None:
    run, told = new_run(tmp_path / "runs", tracked(name), DATA), list[str]()
    go_on(run, tracked(name), DATA, told.append)
    writers.add_picture(run, [name], "prior", Image.new("L", (9, 7)), 6, told.append)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    moved = Run(tmp_path / "elsewhere" / run.id)
    for _ in range(2):
        writers.add_picture(moved, [name], "prior", Image.new("L", (9, 7)), 6, told.append)
    assert shown_by(name, moved) == expected(moved, float)
    undone(moved, 5, 6)
    go_on(moved, tracked(name), DATA, told.append)
    assert shown_by(name, moved) == expected(moved, float) and not [line for line in told if name in line]
    assert not (tmp_path / "runs").exists(), "where the run lay"
    assert len([path for path in files(moved.path / name) if path.suffix == ".png"]) == 3
