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
from typing import NamedTuple

from aecli.errors import InterruptedRun, translate
from aecli.system.progress import say
from aecli.system.signals import SIGNALS, Terminated, raise_on_signals

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
    with _Busy(), _output_to(sweep.log(number)):
        raise_on_signals()
        try:
            from aecli.sweeps.cell import finish

            code, message, help = finish(sweep, number)
        except InterruptedRun as error:
            code, message, help = 128 + error.signum, error.message, ""
        except (KeyboardInterrupt, Terminated) as error:
            code, message, help = 128 + (error.signum if isinstance(error, Terminated) else signal.SIGINT), "interrupted", ""
        except Exception as error:
            import traceback

            known = translate(error)
            if known is None:
                traceback.print_exc()
            else:
                say(known.render())
            text = (str(error).splitlines() or [""])[0]
            code = known.code if known is not None else 1
            message = known.message if known is not None else f"internal error: {type(error).__name__}: {text}"
            help = (known.help if known is not None else None) or ""
        finally:
            _heed_nothing()
    return Outcome(code, message, help, time.monotonic() - begun)


class _Busy:
    """While it is entered, there is a cell to be saved."""

    now = False

    def __enter__(self) -> None:
        _Busy.now = True

    def __exit__(self, *_: object) -> None:
        _Busy.now = False


def _heed_nothing() -> None:
    """Between two cells: the sweep, which has had the signal too, begins no other."""
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:  # as `nohup` wishes
            signal.signal(signum, lambda signum, frame: None)


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
