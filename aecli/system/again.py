"""Signals in a program that is not the command: what has saved itself for one lets it go on to whom it was meant for."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar

from aecli.errors import InterruptedRun
from aecli.system.progress import tell

T = TypeVar("T")


def signalled_again(work: Callable[[], T]) -> T:
    """What `work()` gives, for a program that has its own way with signals: one that work has ended at, with its state saved, is
    told and raised again, so that Ctrl-C becomes a KeyboardInterrupt and SIGTERM ends the process."""
    try:
        return work()
    except InterruptedRun as error:
        stopped = error
    tell(stopped.render())
    signal.raise_signal(stopped.signum)
    raise stopped
