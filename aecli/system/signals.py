"""SIGINT, SIGTERM and SIGHUP: the first lets work end at a boundary with its state saved, the second ends the process.

Python runs a signal's handler between two instructions of its own, which is seconds away while XLA compiles. So a thread, which
the system's handler wakes by a byte in a pipe, ends the process at the second signal, whatever the main thread does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ONE_SECONDS = 1.0
"""Signals within this time of the first count as one: a wrapper such as `uv run` passes on what the terminal has sent to all."""
AGAIN_SECONDS = 0.01


class Signals:
    """While it is entered, a signal is only noted in `received`. In another thread than the main one, to which Python gives no
    signals, it does nothing."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for signum in _heeded():
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            if handler is not None:  # of a program that embeds Python, which set its own without it
                signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.received = self.received or signum


class Terminated(BaseException):
    """SIGTERM or SIGHUP outside of `Signals`: unwinds like KeyboardInterrupt, so that temporary files are removed."""

    def __init__(self, signum: int = signal.SIGTERM) -> None:
        super().__init__(signum)
        self.signum = signum


def _heeded() -> list[int]:
    """The signals that are not ignored by the wish of whoever started the process, as `nohup` wishes."""
    return [signum for signum in SIGNALS if signum != signal.SIGHUP or signal.getsignal(signum) != signal.SIG_IGN]


def raise_on_signals() -> None:
    """SIGINT raises KeyboardInterrupt, SIGTERM and SIGHUP raise `Terminated`, once; while a module is being imported they end the
    process, since extensions turn an exception there into an ImportError of their own. Where Python ignores exceptions, as in
    the callback by which JAX has its arrays collected, the signal comes again a moment later. A second signal after ONE_SECONDS
    ends the process at once."""
    raised: list[float] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            if "importlib._bootstrap" in frame.f_code.co_filename:
                _end(signum)
            frame = frame.f_back
        if raised and time.monotonic() - raised[0] < ONE_SECONDS:
            return
        raised.append(time.monotonic())
        raise KeyboardInterrupt if signum == signal.SIGINT else Terminated(signum)

    def again(ignored: sys.UnraisableHookArgs) -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt | Terminated):
            sys.__unraisablehook__(ignored)
            return
        signum = ignored.exc_value.signum if isinstance(ignored.exc_value, Terminated) else signal.SIGINT
        raised.clear()
        _Watcher.forget()
        timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signum))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again
    for signum in _heeded():
        signal.signal(signum, handle)
    _Watcher.start()


def end_on_signals() -> None:
    """A signal ends the process with `interrupted` and 128 + its number: before work has begun, and while what was printed is
    written out."""
    for signum in _heeded():
        signal.signal(signum, lambda signum, frame: _end(signum))


def leave_to_python() -> None:
    """For the end of the process, when its exit code is decided: SIGINT, which would change it, is ignored while Python takes
    itself down, and the others end the process as the system does."""
    for signum in _heeded():
        signal.signal(signum, signal.SIG_IGN if signum == signal.SIGINT else signal.SIG_DFL)


def _end(signum: int) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + signum)


class _Watcher:
    """The thread that ends the process at the second signal. One for the process, begun with the first `raise_on_signals`."""

    _first: float | None = None
    _thread: threading.Thread | None = None

    @classmethod
    def start(cls) -> None:
        cls._first = None
        if cls._thread is not None and cls._thread.is_alive():
            return
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        cls._thread = threading.Thread(target=cls._watch, args=(reading,), name="signals", daemon=True)
        cls._thread.start()

    @classmethod
    def forget(cls) -> None:
        """The signal that came has had no effect, and will come again."""
        cls._first = None

    @classmethod
    def _watch(cls, reading: int) -> None:
        while data := os.read(reading, 1):
            if data[0] not in SIGNALS:
                continue
            now = time.monotonic()
            if cls._first is None:
                cls._first = now
            elif now - cls._first >= ONE_SECONDS:
                _end(data[0])
