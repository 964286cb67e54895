"""Signals outside of the training loop: whatever runs, the process ends by them."""

from __future__ import annotations

import subprocess
import sys

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
