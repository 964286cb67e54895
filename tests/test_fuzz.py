"""The fuzzer, for a moment and always the same: no target fails, and it would tell if one did."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import IO

import fuzz
import pytest
from fuzz import hunt, replay
from fuzz_targets import Target, prepare, targets
from mutations import of_bytes

INPUTS = {"commit": 60, **dict.fromkeys(("run.json", "state.json", "metrics.jsonl", "test.json", "labels.json"), 25)}
"""Of targets that run whole verbs, or read a checkpoint; of the others 200."""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Target]:
    place = tmp_path_factory.mktemp("fuzz") / "place"
    prepare(place)
    return targets(place)


@pytest.mark.parametrize(
    "name",
    [
        "config",
        "flag",
        "run.json",
        "state.json",
        "metrics.jsonl",
        "test.json",
        "labels.json",
        "archive",
        "commit",
        "npz",
        "npy",
        "image",
    ],
)
def test_a_file_of_whatever_bytes_is_a_value_or_a_documented_error(name: str, every: dict[str, Target], tmp_path: Path) -> None:
    most = len(every[name].seeds) + INPUTS.get(name, 200)
    tally = hunt(name, every[name], tmp_path, 0, lambda n, seconds: n < most)
    assert not tally.faults, "\n".join(fault.text for fault in tally.faults)
    assert tally.inputs == most and len(tally.ends) >= 3


def test_every_target_is_tried(every: dict[str, Target]) -> None:
    [tried] = [mark.args[1] for mark in test_a_file_of_whatever_bytes_is_a_value_or_a_documented_error.pytestmark]
    assert list(every) == tried


def _fails(data: bytes) -> str:
    if b"\xff" in data:
        raise KeyError("a byte that nobody thought of")
    return "value"


def _hangs(data: bytes) -> str:
    while b"\xff" in data:
        pass
    return "value"


def _swallows(data: bytes) -> str:
    return "value" if b"\xff" not in data else f"value of {len(bytearray(b'x' * 200_000_000))}"


def small(run: Callable[[bytes], str], seconds: int = 60) -> Target:
    """A target whose inputs have a minute each: to look for garbage in a process of many tests takes more than a second."""
    return Target(run, of_bytes, [b"a" * 100], seconds)


def test_an_input_that_fails_is_found_made_smaller_kept_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tally = hunt("small", small(_fails), tmp_path, 0, lambda n, seconds: n < 300)
    [fault] = tally.faults
    assert re.fullmatch(r"KeyError at tests/test_fuzz\.py:\d+", fault.kind)
    assert fault.path.parent == tmp_path and fault.path.read_bytes() == b"\xff"
    assert "a byte that nobody thought of" in fault.path.with_name(f"{fault.path.name}.txt").read_text()
    assert "1 faults" in tally.line("small") and str(fault.path) in fuzz.told(fault)
    assert replay(fault.path, small(_fails)) == 1 and "KeyError" in capsys.readouterr().err
    assert replay(fault.path, small(lambda data: "value")) == 0
    assert not list(tmp_path.glob("*.running"))


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        (_hangs, "TooLong"),
        pytest.param(
            *(_swallows, "TooMuch"),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does"),
        ),
    ],
)
def test_an_input_that_takes_too_much_is_found(
    run: Callable[[bytes], str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "MOST_BYTES", 10**8)
    target = small(run, 1 if kind == "TooLong" else 60)._replace(seeds=[b"a", b"\xff"])
    [fault] = hunt("small", target, tmp_path, 0, lambda n, seconds: n < 2).faults
    assert fault.kind.startswith(kind) and fault.path.read_bytes() == b"\xff"


def test_an_end_that_is_new_becomes_a_seed(tmp_path: Path) -> None:
    """Two bytes that only one after the other are likely."""

    def run(data: bytes) -> str:
        if data[:2] == b"\xff\xff":
            raise ValueError
        return "first" if data[:1] == b"\xff" else "none"

    def mutate(data: bytes, chance: Random) -> bytes:
        at = chance.randrange(len(data))
        return data[:at] + bytes([chance.randrange(230, 256)]) + data[at + 1 :]

    tally = hunt("small", Target(run, mutate, [b"abc"], 1), tmp_path, 0, lambda n, seconds: n < 1000)
    assert len(tally.faults) == 1


def test_an_input_that_ends_the_process_is_kept_and_another_process_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds: list[str] = []

    def run(command: list[str], stderr: IO[bytes]) -> subprocess.CompletedProcess[bytes]:
        seeds.append(command[command.index("--seed") + 1])
        (tmp_path / "npy.running").write_bytes(b"deadly")
        stderr.write(b"Fatal Python error")
        return subprocess.CompletedProcess(command, -11 if len(seeds) == 1 else 0)

    monkeypatch.setattr(fuzz.subprocess, "run", run)
    assert fuzz._in_processes("npy", tmp_path, argparse.Namespace(keep=tmp_path), 5, 60) == 1
    assert seeds == ["5", "6"] and "the process ended with -11" in capsys.readouterr().out
    [path] = [path for path in tmp_path.glob("npy-*") if path.suffix != ".txt"]
    assert path.read_bytes() == b"deadly" and "Fatal" in path.with_name(f"{path.name}.txt").read_text()
