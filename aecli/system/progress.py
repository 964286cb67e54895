"""What a person sees while something runs: a bar on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from aecli.errors import printable_lines
from aecli.system.terminal import unescaped

PLAIN_SECONDS = 5.0
"""Without a terminal, at most one line in this time."""
RECENT_SECONDS = 30.0
"""The time left of a meter is told by the speed of at most the last so many seconds."""


_quiet = False


def be_quiet(quiet: bool = True) -> None:
    """From here on only warnings and errors are told, and no bar is shown."""
    global _quiet  # one process has one stderr
    _quiet = quiet


def is_quiet() -> bool:
    return _quiet


def say(line: str) -> None:
    """Tells what a person may like to know; nothing when they want it quiet."""
    if not _quiet:
        tell(line)


def tell(line: str) -> None:
    """Names of files and classes may be part of the line: what could move the cursor is made visible."""
    print(printable_lines(line), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    tell(f"warning: {text}")


def peak_bytes() -> int:
    """The most memory that this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def duration(seconds: float) -> str:
    """`1:05`, or `2:03:04`."""
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"


def age(created: Any) -> str:
    """How long ago an ISO time was: `3 min`."""
    try:
        then = datetime.datetime.fromisoformat(str(created))
        seconds = (datetime.datetime.now(datetime.UTC) - then).total_seconds()
    except (ValueError, TypeError):
        return "?"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def _bar() -> Any:
    """A bar on the terminal that goes away when it is done. Text comes from numbers of ours alone, and markup is off, so nothing
    in a config can style the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[text]}", markup=False),
    ]
    return Bar(*columns, console=Console(file=unescaped(sys.stderr)), transient=True, refresh_per_second=5)


class Progress:
    """Steps done out of `total`, with the loss, examples per second, called by their `kind`, and the time left."""

    def __init__(self, total: int, start: int = 0, title: str = "step", kind: str = "image") -> None:
        self._total, self._title, self._kind = total, title, kind
        self._first = (time.monotonic(), start)
        self._last_line = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() and not _quiet:
            self._bar = _bar()
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._first[1], text="compiling")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, step: int) -> None:
        """The first call is compiled: from here on the time left can be told."""
        self._first = (time.monotonic(), step)

    def update(self, step: int, values: Mapping[str, float], per_s: float, left: float | None = None) -> None:
        """`left`: the seconds left, where somebody knows them better than from the time since `begin`."""
        now = time.monotonic()
        if left is None:
            begun, start = self._first
            left = (now - begun) / max(1, step - start) * (self._total - step)
        loss = f"  loss {values['loss']:.5g}" if "loss" in values else ""
        text = f"{step:,}/{self._total:,}{loss}  {per_s:,.0f} {self._kind}s/s  {duration(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, text=text)
        elif now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            say(f"{self._title} {text}")

    def line(self, text: str) -> None:
        """A line that stays, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(printable_lines(text), markup=False, highlight=False, soft_wrap=True)
        else:
            say(text)


class Meter:
    """Parts that follow each other, each with so much done of so much, and the time they took."""

    def __init__(self) -> None:
        self._name, self._first = "", (time.monotonic(), 0)
        self._start = self._last_line = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    @property
    def seconds(self) -> float:
        """Since the meter was made."""
        return time.monotonic() - self._start

    def __enter__(self) -> Meter:
        if sys.stderr.isatty() and not _quiet:
            self._bar = _bar()
            self._task = self._bar.add_task("opening", total=None, text="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str) -> None:
        """The part before has ended."""
        self._name, self._first = name, (time.monotonic(), 0)
        if self._bar is not None:
            self._bar.update(self._task, description=name, completed=0, total=None, text="")

    def tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        begun, start = self._first
        if done < start:  # another pass
            begun, start = self._first = (now, done)
        left = f"  {duration((now - begun) / (done - start) * (total - done))} left" if start < done < total else ""
        if now - begun > RECENT_SECONDS:  # what was found done from before tells no speed
            self._first = (now, done)
        text = f"{done:,}/{total:,}{left}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, text=text)
        elif now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            say(f"{self._name} {text}")
