"""Several processes that train one run: the numbers of one process with as many devices, one folder, and one end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from process import ENDLESS, QUICK, TINY, aecli, called, commits, environment, started, wait_for

from aecli.runs import checkpoint
from aecli.runs.directory import Run
from aecli.runs.trained import load

TWO_DEVICES = f"--xla_force_host_platform_device_count=2 {QUICK}"
CONFIG = TINY.replace("batch_size: 32", "batch_size: 32, validation: 0.1, tier: memmap, augment: {name: shift, pixels: 1}")
HALF = CONFIG.replace("steps: 40", "steps: 20")


def free_address() -> str:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{some.getsockname()[1]}"


@contextlib.contextmanager
def pair(*arguments: Any, cwd: Path, follower: tuple[Any, ...] | None = None) -> Generator[list[subprocess.Popen[str]]]:
    """The same command in two processes; with `follower` another one in process 1."""
    group = ("--coordinator", free_address(), "--processes", 2)
    with (
        started(*arguments, *group, "--process", 0, cwd=cwd) as leads,
        started(*(follower or arguments), *group, "--process", 1, cwd=cwd) as follows,
    ):
        yield [leads, follows]


def ends(processes: list[subprocess.Popen[str]], seconds: float = 60) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each."""
    told = [process.communicate(timeout=seconds) for process in processes]
    return [(process.returncode, *words) for process, words in zip(processes, told, strict=True)]


def trained(processes: list[subprocess.Popen[str]], cwd: Path) -> Run:
    """The run of two processes that end well."""
    (code, out, err), follower = ends(processes)
    assert code == 0, err
    assert follower == (0, "", "")
    return Run(cwd / "runs" / out.strip())


def weights(run: Run) -> dict[str, Any]:
    """Every array of the newest checkpoint."""
    return {path: np.asarray(leaf) for path, leaf in checkpoint.leaves(load(run, "last", print).state).items()}


def numbers(run: Run) -> list[tuple[str, int, dict[str, float]]]:
    """The rows of metrics: split, step, and the values that tell nothing of time."""
    return [(row.split, row.step, {k: v for k, v in row.values.items() if k != "images_per_s"}) for row in run.rows()]


def same(one: Run, other: Run) -> None:
    """Asserts that two runs are the same but for the last bits."""
    for (split, step, values), (*place, expected) in zip(numbers(one), numbers(other), strict=True):
        assert [split, step] == place and values == pytest.approx(expected, rel=1e-6)
    found, expected_arrays = weights(one), weights(other)
    assert found.keys() == expected_arrays.keys()
    for path, array in found.items():
        np.testing.assert_allclose(array, expected_arrays[path], rtol=0, atol=1e-6, err_msg=path)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two processes as Slurm starts them, which find each other."""
    place = tmp_path_factory.mktemp("together")
    (place / "c.yaml").write_text(HALF)
    step = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    tasks = [{**step, "SLURM_PROCID": number, "SLURM_LOCALID": number} for number in "01"]
    command = ("train", "c.yaml", "--coordinator", "auto")
    with started(*command, cwd=place, **tasks[0]) as leads, started(*command, cwd=place, **tasks[1]) as follows:
        return trained([leads, follows], place)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One process with two devices."""
    place = tmp_path_factory.mktemp("alone")
    (place / "c.yaml").write_text(HALF)
    done = aecli("train", "c.yaml", cwd=place, XLA_FLAGS=TWO_DEVICES)
    return Run(place / "runs" / done.stdout.strip())


def test_two_processes_have_the_numbers_of_one_with_two_devices(together: Run, alone: Run) -> None:
    assert [path.name for path in together.path.parent.iterdir()] == [together.id], "process 0 alone keeps the run"
    info = together.info()
    assert (info.processes, len(info.devices)) == (2, 2)
    assert (alone.info().processes, len(alone.info().devices)) == (1, 2)
    assert together.recorded().state == "completed"
    same(together, alone)


def test_a_run_goes_on_with_another_number_of_processes(together: Run, alone: Run) -> None:
    longer = ("--resume", "last", "--set", "train.steps=40")
    done = aecli("train", *longer, cwd=together.path.parent.parent, XLA_FLAGS=TWO_DEVICES)
    assert done.returncode == 0 and "resuming at step 20" in done.stderr, done.stderr
    with pair("train", *longer, cwd=(place := alone.path.parent.parent)) as processes:
        assert trained(processes, place).id == alone.id
    assert together.recorded().step == alone.recorded().step == 40
    same(together, alone)


def test_a_signal_to_one_ends_all_with_the_state_saved(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(ENDLESS)
    with pair("train", "c.yaml", cwd=tmp_path) as processes:
        wait_for(lambda: commits(tmp_path), processes[0])
        processes[1].send_signal(signal.SIGTERM)
        (code, out, err), (other_code, other_out, other_err) = ends(processes)
    assert (code, out, other_code, other_out) == (143, "", 143, ""), err + other_err
    [run] = map(Run, (tmp_path / "runs").iterdir())
    assert run.recorded().state == "interrupted"
    assert f"stopped at step {run.recorded().step}, which is saved" in err
    assert "process 0: stopped at step" in other_err


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_ends_the_other(victim: int, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(ENDLESS)
    with pair("train", "c.yaml", cwd=tmp_path) as processes:
        wait_for(lambda: commits(tmp_path), processes[0])
        processes[victim].kill()
        code, _, err = ends(processes)[1 - victim]
    assert code == 8, err
    last = err.splitlines()[-2:]
    assert last[0].startswith("error: ") and "gone" in last[0] and "--resume" in last[1], err
    [run] = map(Run, (tmp_path / "runs").iterdir())
    assert run.state() == ("failed" if victim else "crashed")


def test_processes_with_other_settings_are_refused_before_there_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    other = ("train", "c.yaml", "--set", "model.latent=4")
    with pair("train", "c.yaml", cwd=tmp_path, follower=other) as processes:
        (code, out, err), (other_code, other_out, other_err) = ends(processes)
    assert (code, out, other_code, other_out) == (2, "", 2, "")
    assert "model.latent is 4 there, and 3 in process 0" in err and "model.latent is 4 there" in other_err
    assert not (tmp_path / "runs").exists()


def test_one_that_fails_ends_the_other_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    with pair("train", "c.yaml", cwd=tmp_path, follower=("train", "nowhere.yaml")) as processes:
        (code, _, err), (other_code, _, other_err) = ends(processes)
    assert code == other_code == 2
    assert "nowhere.yaml" in other_err and "process 1: " in err and "nowhere.yaml" in err


def test_one_that_fails_while_the_other_waits_for_it_ends_both(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for i in range(20):
            Image.new("L", (4, 4), 12 * i).save(tmp_path / folder / f"{i}.png")
    text = ENDLESS.replace("name: digits, batch_size: 32", "name: folder, path: a, tier: stream, batch_size: 4")
    (tmp_path / "c.yaml").write_text(text)
    other = ("train", "c.yaml", "--set", "data.path=b")
    with pair("train", "c.yaml", cwd=tmp_path, follower=other) as processes:
        wait_for(lambda: commits(tmp_path), processes[0])
        shutil.rmtree(tmp_path / "b")
        (code, _, err), (other_code, _, other_err) = ends(processes)
    assert code == other_code == 3, err
    assert str(tmp_path / "b") in other_err and "process 1: " in err and str(tmp_path / "b") in err


MEET = """
import sys
from aecli.system import hosts
hosts.WAIT_SECONDS = 1
from aecli.__main__ import main
main()
"""


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_come_are_told(process: int, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    address = free_address()
    command = ["train", "c.yaml", "--coordinator", address, "--process", str(process), "--processes", "2"]
    done = subprocess.run(
        [sys.executable, "-c", MEET, *command], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 8, done.stderr
    assert f"error: not all 2 processes came to {address} within 1 s" in done.stderr


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--process", 0, "--processes", 2], "need --coordinator"),
        (["--coordinator", "here", "--process", 0, "--processes", 2], "no HOST:PORT"),
        (["--coordinator", "here:70000", "--process", 0, "--processes", 2], "no HOST:PORT"),
        (["--coordinator", "here:1234", "--process", 0], "needs --process and --processes"),
        (["--coordinator", "here:1234", "--process", 2, "--processes", 2], "0 to 1"),
        (["--coordinator", "auto", "--process", 0], "by itself"),
    ],
)
def test_flags_that_say_no_group_are_refused(flags: list[Any], told: str, tmp_path: Path) -> None:
    done = called("train", "c.yaml", *flags, cwd=tmp_path)
    assert done.returncode == 2 and told in done.stderr, done.stderr


def test_processes_count_operations_alike_and_measure_no_minutes(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    with pair("train", "c.yaml", "--set", "train.flop=3e6", cwd=tmp_path) as processes:
        run = trained(processes, tmp_path)
    found = run.info().budget
    assert found is not None and run.recorded().step == found.steps == 3e6 // found.per_step > 1
    with pair("train", "c.yaml", "--set", "train.minutes=1", cwd=tmp_path) as processes:
        for code, _, err in ends(processes):
            assert code == 2 and "minutes are measured by one process, and these are 2" in err
