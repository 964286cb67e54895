"""The program as its users meet it: a process with arguments, an exit code, stdout and stderr."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Generator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

from aecli.cli.app import main
from aecli.system.signals import SIGNALS

TINY = """\
seed: 0
data: {name: digits, batch_size: 32}
model: {variant: vae, hidden: [16], latent: 3}
optimizer: {learning_rate: 1e-3}
train: {steps: 40, checkpoint_every: 10, log_every: 10}
"""
ENDLESS = TINY.replace("steps: 40", "steps: 10000000").replace("checkpoint_every: 10", "checkpoint_every: 50")

SOAK = bool(os.environ.get("AECLI_SOAK"))
"""Whether to take the time for everything of which the suite otherwise takes a sample, compiled as for a user."""
OLDER_LOOPS = "--xla_cpu_use_fusion_emitters=false" if metadata.version("jaxlib") < "0.11" else ""
"""XLA's older way of writing a loop. Newer releases have no such flag, and end the process where they are given one."""
QUICK = "" if SOAK else f"--xla_backend_optimization_level=0 {OLDER_LOOPS}".strip()
"""Flags of XLA for programs that run for a moment: compiled in half the time."""


def environment(**more: str) -> dict[str, str]:
    """As a user's shell has it: one device, whatever the tests themselves run on."""
    env = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "AECLI_RUNS_DIR")}
    return env | {"COLUMNS": "200", "NO_COLOR": "1", "XLA_FLAGS": QUICK} | more


def aecli(*arguments: Any, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aecli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=240)


@contextlib.contextmanager
def handlers_kept() -> Generator[None]:
    """What a verb makes of signals in this process ends with it."""
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def called(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same from within this process, which saves the seconds that jax takes to be imported: for what a verb prints, writes
    and ends with. What only a process shows (signals, pipes, an environment, imports) wants `aecli`."""
    out, err = io.StringIO(), io.StringIO()
    ours = environment()
    with (
        handlers_kept(),
        mock.patch.dict(os.environ, {name: ours[name] for name in ("COLUMNS", "NO_COLOR")}),
        mock.patch.object(sys, "argv", ["aecli", *map(str, arguments)]),
        mock.patch.object(sys, "unraisablehook", sys.unraisablehook),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        os.environ.pop("AECLI_RUNS_DIR", None)
        try:
            main()
        except SystemExit as end:
            code = end.code
        except Exception:  # as Python does where nobody catches it
            traceback.print_exc()
            code = 1
    assert isinstance(code, int)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


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
