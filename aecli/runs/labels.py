"""Tags and the note of a run, `labels.json`: what somebody wants to remember of it. `run.json` says what it is, and stays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from aecli.runs.directory import Run
from aecli.runs.records import SCHEMA, Labels, validated
from aecli.system.files import exclusive, write_json
from aecli.system.reading import GONE, Unreadable, read_json, set_aside

FILE = "labels.json"


def look(run: Run) -> tuple[Labels, str | None]:
    """The labels and None; or none, and what is wrong with the file. Raises OSError as the system does."""
    try:
        return validated(Labels, read_json(_path(run))), None
    except GONE:
        return Labels(), None
    except Unreadable as error:
        return Labels(), f"{FILE} cannot be read: {error}"


@contextlib.contextmanager
def changing(run: Run, say: Callable[[str], None]) -> Generator[Labels]:
    """The labels while nobody else changes them; `write` within it. What cannot be read is set aside, with a line. The run may be
    in training: its own lock is another."""
    with exclusive(run.path / ".labels.lock", f"labels {run.id}", say):
        run.info()  # or it has been removed meanwhile
        found, wrong = look(run)
        if wrong is not None:
            say(f"{wrong}; set aside as {set_aside(_path(run)).name}")
        yield found


def write(run: Run, before: Labels, **changed: Any) -> None:
    """Replaces the file at once, by what it held and what has changed of it."""
    write_json(_path(run), {"schema": SCHEMA, **before.as_json(), **changed})


def _path(run: Run) -> Path:
    return run.path / FILE
