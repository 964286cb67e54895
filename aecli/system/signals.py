"""SIGINT and SIGTERM as a flag that loops poll, so that work ends at a boundary with its state saved."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """While it is entered, the first signal is only noted in `received`; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        for signum in SIGNALS:
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self.received = signum


AGAIN_SECONDS = 0.01


class Terminated(BaseException):
    """SIGTERM outside of `Signals`: unwinds like KeyboardInterrupt, so that temporary files are removed."""


def raise_on_signals() -> None:
    """SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`; while a module is being imported they end the process, since
    extensions turn an exception there into an ImportError of their own. Where Python ignores exceptions, as in the callback by
    which JAX has its arrays collected, the signal comes again a moment later."""

    def handle(signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            if "importlib._bootstrap" in frame.f_code.co_filename:
                os.write(2, b"interrupted\n")
                os._exit(128 + signum)
            frame = frame.f_back
        raise KeyboardInterrupt if signum == signal.SIGINT else Terminated

    def again(ignored: sys.UnraisableHookArgs) -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt | Terminated):
            sys.__unraisablehook__(ignored)
            return
        signum = signal.SIGINT if isinstance(ignored.exc_value, KeyboardInterrupt) else signal.SIGTERM
        timer = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signum))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again
    for signum in SIGNALS:
        signal.signal(signum, handle)
