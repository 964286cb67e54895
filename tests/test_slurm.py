"""Sweeps as jobs of Slurm: on a real one, if this machine has it, and with programs that are called as Slurm's are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import slurm
from process import TINY, aecli, called, started, wait_for

from aecli.errors import DeviceError, RunError, UsageError
from aecli.runs import commits, directory
from aecli.runs.directory import Run
from aecli.sweeps import folder
from aecli.sweeps import slurm as engine
from aecli.sweeps.folder import Sweep
from aecli.sweeps.slurm import Array, Job, arrays

pytest.importorskip("submitit", reason="needs submitit: pip install 'aecli[slurm]'")
ENGINE = ["--engine", "slurm", "--time", "10m", "--threads", "1"]
LONG = TINY.replace("steps: 40", "steps: 6000").replace("checkpoint_every: 10", "checkpoint_every: 1000, eval_every: 100")


def digests(run: Run) -> dict[str, str]:
    return {leaf.path: leaf.sha256 for leaf in commits.read(run.checkpoints, commits.steps(run.checkpoints)[-1]).leaves}


def runs_of(home: Path) -> dict[int, Run]:
    """The run of each cell, of which there is one."""
    found: dict[int, Run] = {}
    for run in directory.every(home / "runs"):
        origin = run.info().sweep
        assert origin is not None and origin.cell not in found
        found[origin.cell] = run
    return found


def only_sweep(home: Path) -> Sweep:
    return folder.find((home / "runs").absolute(), "last")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "c.yaml").write_text(TINY)
    return tmp_path / "home"


@pytest.mark.skipif(slurm.why_not() is not None, reason=str(slurm.why_not()))
def test_on_a_real_cluster_a_job_that_is_ended_is_saved_and_goes_on_to_the_same_bits(tmp_path: Path, home: Path) -> None:
    (home / "c.yaml").write_text(LONG)
    (tmp_path / "slurm").mkdir()
    with slurm.cluster(tmp_path / "slurm") as env:
        with started("sweep", "c.yaml", "--seeds", "2", *ENGINE, cwd=home, **env) as process:
            wait_for(lambda: len({path.parts[-3] for path in home.glob("runs/*/checkpoints/*.commit.json")}) == 2, process, 120)
            (array,) = arrays(only_sweep(home))
            pickled = list(array.path.glob("*.pkl"))
            assert pickled and stat.S_IMODE(array.path.stat().st_mode) == 0o700
            subprocess.run(["scancel", "--signal=TERM", "--name", array.name], env=os.environ | env, check=True)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 128 + signal.SIGTERM, err
        assert [run.state() for run in runs_of(home).values()] == ["interrupted"] * 2
        assert not list(home.glob("runs/.sweeps/*/slurm/*/*.pkl")), "what was pickled is gone"
        before = runs_of(home)
        done = aecli("sweep", "--resume", "last", *ENGINE[:4], "--json", cwd=home, **env)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert [cell["state"] for cell in told["cells"]] == ["completed"] * 2 and runs_of(home) == before
        assert not (only_sweep(home).path / "slurm").exists()
    alone = aecli(*before[2].info().command[1:], cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert digests(runs_of(home)[2]) == digests(directory.find(tmp_path / "runs", "last"))


def test_a_sweep_is_submitted_and_looked_at_again(tmp_path: Path, home: Path) -> None:
    env = slurm.stand_in(tmp_path)
    done = aecli("sweep", "c.yaml", "--seeds", "2", *ENGINE, "--parallel", "1", "--no-wait", cwd=home, **env)
    assert done.returncode == 0 and "2 jobs submitted: squeue --name" in done.stderr, done.stderr
    (array,) = arrays(only_sweep(home))
    text = next(array.path.glob("*_submission.sh")).read_text()
    for flag in ("--array=0-1%1", "--time=10", "--cpus-per-task=1", f"--job-name={array.name}", "--signal=USR2@90"):
        assert f"#SBATCH {flag}\n" in text
    refused = aecli("sweep", "--resume", "last", cwd=home, **env)
    if arrays(only_sweep(home))[0].outcome(2) is None:
        assert refused.returncode == RunError.code and "queued or running in Slurm" in refused.stderr
    again = aecli("sweep", "--resume", "last", *ENGINE[:4], "--json", cwd=home, **env)
    assert again.returncode == 0 and "jobs submitted" not in again.stderr, again.stderr
    assert [cell["state"] for cell in json.loads(again.stdout)["cells"]] == ["completed"] * 2
    assert sorted(runs_of(home)) == [1, 2] and not (only_sweep(home).path / "slurm").exists()


def test_to_stop_waiting_leaves_the_jobs_to_themselves(tmp_path: Path, home: Path) -> None:
    env = slurm.stand_in(tmp_path)
    with started("sweep", "c.yaml", "--seeds", "1", *ENGINE, cwd=home, **env) as process:
        wait_for(lambda: list(home.glob("runs/.sweeps/*/slurm/*/cells.json")), process)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGINT
        assert "the jobs go on without being watched; scancel --name" in err and "aecli sweep --resume" in err
    done = aecli("sweep", "--resume", "last", *ENGINE[:4], cwd=home, **env)
    assert done.returncode == 0, done.stderr
    assert [run.state() for run in runs_of(home).values()] == ["completed"]


def test_a_job_that_ends_without_a_word_is_told(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", slurm.stand_in(tmp_path)["PATH"])
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(engine, "ENDED_SECONDS", 0.1)
    (tmp_path / "programs" / "srun").write_text("#!/bin/sh\nkill -9 $$\n")
    done = called("sweep", "c.yaml", "--seeds", "1", *ENGINE, cwd=home)
    assert done.returncode == DeviceError.code and "its job ended without a word" in done.stderr, done.stderr


def test_where_nothing_can_be_submitted_that_is_told_first(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        done = called("sweep", "c.yaml", "--seeds", "2", *ENGINE, cwd=home)
    assert done.returncode == UsageError.code and "there is no sbatch here" in done.stderr
    monkeypatch.setenv("PATH", slurm.stand_in(tmp_path)["PATH"])
    (tmp_path / "programs" / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: nope' >&2\nexit 1\n"
    )
    done = called("sweep", "c.yaml", "--seeds", "2", *ENGINE, "--partition", "nope", cwd=home)
    assert done.returncode == UsageError.code and "Slurm refuses: " in done.stderr and "nope" in done.stderr, done.stderr
    assert arrays(only_sweep(home)) == []


def test_what_is_pickled_is_which_cell_of_which_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("/runs", "x", 3)
    assert vars(job) == {"root": "/runs", "sweep_id": "x", "number": 3}
    assert vars(job.checkpoint().function) == vars(job), "and again, when it is requeued"


@pytest.mark.parametrize("warned", [True, False])
def test_a_job_whose_time_is_over_is_requeued_and_one_that_is_ended_is_not(
    warned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aecli.sweeps import worker

    requeued: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda signum, frame: requeued.append(signum))
    terms: list[int] = []
    term = signal.signal(signal.SIGTERM, lambda signum, frame: terms.append(signum))

    def work(root: str, sweep_id: str, number: int) -> Any:
        if warned:
            os.kill(os.getpid(), signal.SIGUSR2)
        return worker.Outcome(128 + signal.SIGTERM, "stopped")

    monkeypatch.setattr(worker, "work", work)
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path))
    try:
        Job("/runs", "x", 3)()
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.signal(signal.SIGTERM, term)
    assert bool(requeued) == bool(terms) == warned, "the run is saved as at SIGTERM, and then requeued"


@pytest.mark.parametrize("damage", ["{", '{"a": 1}', '["x"]'])
def test_cells_of_an_array_that_cannot_be_read_are_told(damage: str, tmp_path: Path) -> None:
    (tmp_path / ".sweeps" / "x" / "slurm" / "1").mkdir(parents=True)
    (tmp_path / ".sweeps" / "x" / "slurm" / "1" / "cells.json").write_text(damage)
    with pytest.raises(RunError, match="cannot be read"):
        arrays(Sweep(tmp_path, "x"))


@pytest.mark.parametrize("said", ["", "{", "[]", '{"code": "x"}', '{"code": 1, "message": 2, "help": "", "seconds": []}'])
def test_an_outcome_that_cannot_be_read_is_none(said: str, tmp_path: Path) -> None:
    (tmp_path / "cells.json").write_text("[7]")
    array = Array(Sweep(tmp_path, "x"), tmp_path)
    (tmp_path / "7.json").write_text(said)
    assert array.outcome(7) is None


def test_slurm_is_asked_only_where_it_can_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cells.json").write_text("[7]")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("squeue") is None
    assert Array(Sweep(tmp_path, "x"), tmp_path).jobs() is None, "and not: there are none"
