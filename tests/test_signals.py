"""Signals outside of the training loop: whatever runs, the process ends by them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SWALLOWED = """
import gc, os, signal, time
from aecli.system.signals import Terminated, raise_on_signals

def callback(phase, info):
    gc.callbacks.clear()
    os.kill(os.getpid(), signal.{name})
    time.sleep(0.01)  # the handler runs here, and what it raises Python ignores

raise_on_signals()
gc.callbacks.append(callback)
try:
    gc.collect()
    print("went on", flush=True)
    time.sleep(30)
except {error}:
    print("ended")
"""


@pytest.mark.parametrize(("name", "error"), [("SIGTERM", "Terminated"), ("SIGINT", "KeyboardInterrupt")])
def test_a_signal_whose_exception_is_ignored_comes_again(name: str, error: str) -> None:
    script = SWALLOWED.format(name=name, error=error)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("went on\nended\n", "")


def test_other_ignored_exceptions_are_still_told() -> None:
    script = """
from aecli.system.signals import raise_on_signals
raise_on_signals()
class Broken:
    def __del__(self):
        raise ValueError("in a finalizer")
broken = Broken()
del broken
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "in a finalizer" in done.stderr


SECOND = """
import hashlib, time
from aecli.system.signals import Signals, raise_on_signals

raise_on_signals()
with Signals() as signals:
    print("busy", flush=True)
    {work}
"""


def _signalled(work: str, after: float) -> tuple[int, str]:
    """How a process ends that is sent SIGINT twice, so many seconds apart."""
    process = subprocess.Popen(
        [sys.executable, "-c", SECOND.format(work=work)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    return process.returncode, out


def test_a_second_signal_ends_the_process_in_the_middle_of_a_call_that_runs_no_python() -> None:
    """As a compilation is: no handler of Python's runs until it returns."""
    assert _signalled('hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)', 1.2) == (130, "")


def test_two_signals_within_a_second_are_one() -> None:
    work = 'time.sleep(0.5); time.sleep(0.5); print("saved", signals.received, flush=True)'
    assert _signalled(work, 0.1) == (0, "saved 2\n")


STARTING = """
import os, runpy, signal, sys

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup has ignored

class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), int(sys.argv[2]))

sys.meta_path.insert(0, Signalling())
runpy.run_module("aecli", run_name="__main__")
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("imported", ["aecli.system.signals", "aecli.cli", "typer", "aecli.sampling.request"])
def test_a_signal_while_the_program_is_imported_ends_it_quietly(imported: str, signum: int) -> None:
    command = [sys.executable, "-c", STARTING, imported, str(int(signum))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if imported == "aecli.system.signals" and signum != signal.SIGINT:  # nothing of ours has run
        assert (done.returncode, done.stderr) == (-signum, "")
    else:
        assert (done.returncode, done.stderr, done.stdout) == (128 + signum, "interrupted\n", "")


ENDING = """
import atexit, os, signal, sys
from aecli.__main__ import main

class Late:
    def __del__(self, kill=os.kill, pid=os.getpid(), signum=signal.SIGINT):
        kill(pid, signum)

late = Late()  # goes when handlers of Python's do not run any more
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv = ["aecli", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["show", "last"], 4), (["show", "?"], 2)])
def test_a_signal_at_the_end_changes_no_exit_code(arguments: list[str], code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDING, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr


AMID = """
import os, signal, sys
from aecli.errors import RunError
from aecli.__main__ import main
render = RunError.render

def interrupted(self):
    os.kill(os.getpid(), int(os.environ["SIGNUM"]))
    return render(self)

RunError.render = interrupted
main()
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_an_error_is_told_is_told_itself(signum: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", AMID, "show", "last", "--runs-dir", str(tmp_path)]
    env = {**os.environ, "SIGNUM": str(int(signum))}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert (done.returncode, done.stderr) == (128 + signum, "interrupted\n")
