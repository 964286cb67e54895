"""What the formats of functions have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from aecli.exports.functions import Form, Function

Arrays = Sequence[NDArray[Any]]


class Unable(Exception):
    """A function that a format cannot hold: the reason, and what helps if anything does."""

    def __init__(self, reason: str, help: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.help = reason, help


class Written(NamedTuple):
    """A function in a file: the forms of what the file takes; `given` makes that of the inputs of the function; `read` reads the
    file anew, as who uses it does, and calls it."""

    file: str
    inputs: tuple[Form, ...]
    given: Callable[[Arrays], list[NDArray[Any]]]
    read: Callable[[Arrays], NDArray[Any]]


class Format(NamedTuple):
    """`check` raises UsageError where the format cannot be written here. `write` writes a function for any number of examples, or
    for `batch` of them. `script` are the parts of `use.py`, `versions` names what the file depends on."""

    name: str
    check: Callable[[], None]
    write: Callable[[Path, Function, int | None], Written]
    script: Mapping[str, str]
    packages: tuple[str, ...]


def first_line(error: BaseException) -> str:
    """What went wrong, in one line of at most 300 letters."""
    text = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
