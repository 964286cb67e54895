"""Runs that an older version made are listed, shown, evaluated, sampled and gone on with; see tests/old_runs/README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from process import handlers_kept
from typer.testing import CliRunner, Result

from aecli.cli.app import app

OLD = Path(__file__).parent / "old_runs"
RUNS = {path.name.split("-")[0]: path.name for path in (OLD / "runs").iterdir()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Path:
    """A copy, in the folder that its relative paths are meant from."""
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def aecli(*arguments: Any) -> Result:
    with handlers_kept():
        result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_old_runs_are_listed_and_shown(place: Path) -> None:
    facts = {fact["id"]: fact for fact in json.loads(aecli("runs", "--json").stdout)}
    assert set(facts) == set(RUNS.values())
    assert {(fact["state"], fact["variant"]) for fact in facts.values()} == {("completed", "vae"), ("completed", "bottleneck")}
    for run in RUNS.values():
        shown = aecli("show", run)
        assert run in shown.stdout and "no hash was kept" in shown.stdout and "Traceback" not in shown.output


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_evaluated_as_it_was(place: Path, name: str) -> None:
    file = place / "runs" / RUNS[name] / "eval" / "test.json"
    before = json.loads(file.read_text())
    file.unlink()
    done = aecli("eval", RUNS[name], "--only", "objective,reconstruction", "--json")
    now = json.loads(done.stdout)
    assert {"loss", "mse", "psnr_db"} <= set(now) <= set(before) and done.stderr.count("warning") == 1
    assert "has checkpoints of an older version, which do not say what config" in done.stderr
    for key, metric in now.items():
        cap = {"cap_db": 100.0} if metric["unit"] == "dB" else {}
        rel = 1e-2 if metric["evaluator"] == "reconstruction" else 1e-3  # version 1 did not clip what no picture shows
        assert metric["value"] == pytest.approx(before[key]["value"], rel=rel), key
        assert metric["protocol"] | {"version": 1} == before[key]["protocol"] | {"version": 1} | cap, key


@pytest.mark.parametrize("name", RUNS)
def test_numbers_of_an_older_version_are_marked_and_do_not_stand_beside_new_ones(place: Path, name: str) -> None:
    file = place / "runs" / RUNS[name] / "eval" / "test.json"
    assert f"{file.name} (version 1 of the metrics" in aecli("show", RUNS[name]).stdout
    done = aecli("eval", RUNS[name], "--only", "objective")
    assert "held numbers of version 1 of the metrics" in done.stderr
    after = json.loads(file.read_text())
    assert {metric["evaluator"] for metric in after.values()} == {"objective"}
    assert "of the metrics" not in aecli("show", RUNS[name]).stdout + aecli("eval", RUNS[name], "--only", "objective").stderr


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_sampled_as_it_was(place: Path, name: str) -> None:
    [file] = (place / "runs" / RUNS[name] / "samples").glob("reconstruct-*.npz")
    before = dict(np.load(file))
    file.unlink()
    aecli("sample", RUNS[name], "--mode", "reconstruct", "-n", 4)
    now = dict(np.load(file))
    assert now.keys() == before.keys()
    for key, array in before.items():
        assert np.abs(now[key].astype(int) - array).max() <= 1, key


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_gone_on_with(place: Path, name: str) -> None:
    state = place / "runs" / RUNS[name] / "state.json"
    step = json.loads(state.read_text())["step"]
    done = aecli("train", "--resume", RUNS[name], "--set", f"train.steps={step + 2}")
    assert done.stdout.strip() == RUNS[name] and f"resuming at step {step}" in done.stderr
    assert json.loads(state.read_text()) | {"state": "completed", "step": step + 2} == json.loads(state.read_text())
