"""Signals outside of the training loop: whatever runs, the process ends by them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

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
