"""What a worker does for one cell, whichever engine runs it: all that is left of it, with its output in the cell's log. Imports
nothing heavy, so that signals are heeded from the start."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aecli.errors import InterruptedRun, translate
from aecli.system.progress import say
from aecli.system.signals import SIGNALS, Terminated, raise_on_signals

if TYPE_CHECKING:
    from aecli.sweeps.folder import Sweep

ORPHAN_SECONDS = 0.5
"""How often a worker looks whether the sweep is still there."""
MOST_GROWN = 6 * 2**30
"""Bytes by which a worker may grow before loky replaces it between two cells; by default 300 MB, which a compiled program has."""


class Outcome(NamedTuple):
    """How a worker's part ended, as plain texts and numbers: `code` is an exit code, 0 if nothing is left to do for now, and
    `message` says why it is not."""

    code: int
    message: str = ""
    help: str = ""
    seconds: float = 0.0


def work(root: str, sweep_id: str, number: int) -> Outcome:
    """Trains or goes on with a cell of a sweep, and measures it, as far as that is left. Raises nothing."""
    from aecli.sweeps.folder import Sweep

    begun = time.monotonic()
    sweep = Sweep(Path(root), sweep_id)
    try:
        with _Busy(), _output_to(sweep.log(number)):
            ended = _finish(sweep, number)
    except OSError as error:  # there is no log to write to
        ended = _told(error)
    return Outcome(*ended, time.monotonic() - begun)


_come: list[int] = []
"""Signals that came while no cell heeded them: between two, or while one was begun."""


def _finish(sweep: Sweep, number: int) -> tuple[int, str, str]:
    """Code, message and help of how it ended; whatever is wrong stands in the log, too."""
    raise_on_signals()
    try:
        if _come:  # the sweep had begun this cell when the signal came
            raise Terminated(_come[0])
        from aecli.sweeps.cell import finish

        return finish(sweep, number)
    except InterruptedRun as error:
        return 128 + error.signum, error.message, ""
    except (KeyboardInterrupt, Terminated) as error:
        return 128 + (error.signum if isinstance(error, Terminated) else signal.SIGINT), "interrupted", ""
    except Exception as error:
        import traceback

        known = translate(error)
        with contextlib.suppress(OSError):  # a full disk
            say(known.render() if known is not None else traceback.format_exc())
        return _told(error)
    finally:
        _heed_nothing()


def _told(error: Exception) -> tuple[int, str, str]:
    known = translate(error)
    if known is None:
        return 1, f"internal error: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}", ""
    return known.code, known.message, known.help or ""


class _Busy:
    """While it is entered, there is a cell to be saved."""

    now = False

    def __enter__(self) -> None:
        _Busy.now = True

    def __exit__(self, *_: object) -> None:
        _Busy.now = False


def _heed_nothing() -> None:
    """Between two cells a signal is only noted: the sweep, which has had it too, begins no other."""
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:  # as `nohup` wishes
            signal.signal(signum, lambda signum, frame: _come.append(signum))


def begin(parent: int, pid_file: str) -> None:
    """What each worker of the local engine does first: it says who it is, and ends soon after the sweep, its run saved."""
    from joblib.externals.loky import process_executor

    # There is no other way to say it; where the name is another, workers are replaced more often than needed.
    setattr(process_executor, "_MAX_MEMORY_LEAK_SIZE", MOST_GROWN)  # noqa: B010
    _heed_nothing()
    Path(pid_file).write_text(str(os.getpid()))
    threading.Thread(target=_end_with, args=(parent,), name="orphan", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    if _Busy.now:
        os.kill(os.getpid(), signal.SIGTERM)
        while _Busy.now:
            time.sleep(0.05)
    os._exit(128 + signal.SIGTERM)


@contextlib.contextmanager
def _output_to(path: Path) -> Generator[None]:
    """Whatever is written to stdout and stderr, by libraries in C too, goes to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        yield
    finally:
        with contextlib.suppress(OSError):  # a full disk
            sys.stdout.flush()
            sys.stderr.flush()
        for descriptor, before in enumerate(kept, 1):
            os.dup2(before, descriptor)
            os.close(before)
        os.close(log)
