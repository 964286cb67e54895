"""The program as its users meet it: a process with arguments, an exit code, stdout and stderr."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

TINY = """\
seed: 0
data: {name: digits, batch_size: 32}
model: {variant: vae, hidden: [16], latent: 3}
optimizer: {learning_rate: 1e-3}
train: {steps: 40, checkpoint_every: 10, log_every: 10}
"""
ENDLESS = TINY.replace("steps: 40", "steps: 10000000").replace("checkpoint_every: 10", "checkpoint_every: 50")


def environment(**more: str) -> dict[str, str]:
    """As a user's shell has it: one device, whatever the tests themselves run on."""
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "AECLI_RUNS_DIR")}
    quick = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # what is compiled here runs for a moment
    return env | {"COLUMNS": "200", "NO_COLOR": "1"} | quick | more


def aecli(*arguments: Any, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aecli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=240)


@contextlib.contextmanager
def started(*arguments: Any, cwd: Path, **env: str) -> Generator[subprocess.Popen[str]]:
    """A process that is gone when the test is."""
    command = [sys.executable, "-m", "aecli", *map(str, arguments)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=cwd, env=environment(**env), stdout=pipe, stderr=pipe, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Until `condition()` holds; fails with the process's messages when it ends or takes too long."""
    give_up = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > give_up:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"exit {process.returncode}\n{out}\n{err}")
        time.sleep(0.01)


def commits(folder: Path) -> list[Path]:
    return list(folder.glob("runs/*/checkpoints/*.commit.json"))
