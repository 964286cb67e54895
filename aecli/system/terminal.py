"""What reaches a terminal: text alone. Names of files and classes, arguments, and whatever a run that somebody else made says may
hold sequences that move the cursor, recolour lines or turn their order around; all of it comes out as visible escapes."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterable
from typing import Any

from aecli.errors import printable_lines

NARROWEST = 40
"""Columns of a terminal that is said to have fewer, or none: in them nothing could be told."""


def columns_of(stream: Any) -> int | None:
    """How many columns the terminal has that a stream leads to, as COLUMNS or the system says; None where there is no terminal,
    and nothing needs to be cut."""
    import shutil  # which the command does not need to start

    if not (stream.isatty() or os.environ.get("FORCE_COLOR")):
        return None
    told = os.environ.get("COLUMNS", "")
    return max(NARROWEST, int(told) if told.isdecimal() else shutil.get_terminal_size().columns)


class Escaped:
    """A text stream that writes what is not printable as escapes; lines stay lines. `stream` is the one below, for those who draw
    on a terminal and escape what they are given themselves. Whoever closes the other end of a pipe has read enough: what
    follows goes nowhere. With `lossy` nothing that cannot be written is an error, since there is no other place to tell it."""

    def __init__(self, stream: Any, lossy: bool = False) -> None:
        self.stream, self._lossy = stream, lossy

    def write(self, text: str) -> int:
        with self._forgiving():
            self.stream.write(printable_lines(text))
        return len(text)

    def flush(self) -> None:
        with self._forgiving():
            self.stream.flush()

    @contextlib.contextmanager
    def _forgiving(self) -> Generator[None]:
        try:
            yield
        except BrokenPipeError:
            silence(self.stream)
        except OSError:
            if not self._lossy:
                raise
            silence(self.stream)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def escaping() -> Generator[None]:
    """Until it ends, stdout and stderr are `Escaped`."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Escaped(unescaped(sys.stdout)), Escaped(unescaped(sys.stderr), lossy=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def silence(stream: Any) -> None:
    """What is written to a stream from here on goes nowhere, what waits in its buffer too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextlib.contextmanager
def stdout_kept() -> Generator[None]:
    """Until it ends, what libraries write to stdout past Python goes nowhere: results alone stand there."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def open_standard_streams() -> None:
    """Gives a process that was started without stdin, stdout or stderr one that leads nowhere: the next file that is opened would
    take its number otherwise, and be written to."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 (open as long as the process)


def unescaped(stream: Any) -> Any:
    """The stream below, where one is `Escaped`."""
    return stream.stream if isinstance(stream, Escaped) else stream
