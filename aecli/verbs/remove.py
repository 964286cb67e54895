"""`aecli rm`: removes runs, wholly or not at all as far as anybody sees."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import NamedTuple

from aecli.errors import RunError
from aecli.runs import directory
from aecli.runs.directory import Run, run_facts
from aecli.system.files import fsync_directory, holder_of, remove_tree
from aecli.system.reading import Unreadable, open_regular

_REMOVED = ".removed-"
"""The start of the name of a run while it is removed: hidden, so that no list has it."""


class Going(NamedTuple):
    """A run that is to be removed, and what goes with it."""

    run: Run
    state: str
    files: int
    size: int


def chosen(root: Path, names: Sequence[str]) -> list[Going]:
    """What the names mean, each once. By its whole id a run is meant that no other verb takes, since it cannot be read. Raises
    RunError for a run that somebody holds, and for a link, which is not followed."""
    runs = {run.path: run for run in (_named(root, name) for name in names)}
    for run in runs.values():
        _check_free(run)
    return [Going(run, run_facts(run)["state"], *_extent(run.path)) for run in runs.values()]


def _named(root: Path, name: str) -> Run:
    if not directory.is_last(name):  # whatever is called so
        for run in directory.every(root):
            if run.id == name:
                return run
    if directory.is_id(name) and (root / name).is_symlink():
        raise RunError(f"{root / name} is a link, and links are not followed to what is removed", "name the run itself")
    return directory.find(root, name)


def _check_free(run: Run) -> None:
    """Raises RunError if somebody trains, evaluates or labels the run."""
    if run.is_locked():
        with run.locked():  # says by whom
            return
    _check_unused(run)


def _check_unused(run: Run) -> None:
    """Raises RunError if somebody does with the run what does not take its own lock: every lock in it is a hidden file."""
    own = run.path / ".lock"
    for folder, _, files in os.walk(run.path):
        for name in files:
            lock = Path(folder, name)
            if name.startswith(".") and name.endswith("lock") and lock != own and (holder := holder_of(lock)):
                raise RunError(f"run {run.id} is in use by {holder}", "wait for it, or stop it")


def _extent(path: Path) -> tuple[int, int]:
    """How many files there are below a folder, and their bytes; links are not followed."""
    files = size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(folder, name)).st_size
                files += 1
    return files, size


def remove(run: Run) -> None:
    """Removes a run. Its folder gets a hidden name first, so that a kill leaves no half of a run; nobody can begin to train it
    meanwhile. Raises RunError if somebody holds it."""
    root = run.path.parent
    hidden = root / f"{_REMOVED}{run.id if directory.is_id(run.id) else ''}-{secrets.token_hex(4)}"
    with _held(run):
        _check_unused(run)  # while it was asked about, somebody may have begun
        os.rename(run.path, hidden)
        fsync_directory(root)
        remove_tree(hidden)


@contextlib.contextmanager
def _held(run: Run) -> Generator[None]:
    try:
        with contextlib.suppress(FileNotFoundError):
            os.close(open_regular(run.path / ".lock", os.O_RDWR))
    except Unreadable:  # nobody can hold what is no file of the run's own
        yield
        return
    with run.locked("removes it"):
        yield


def sweep(root: Path, say: Callable[[str], None]) -> None:
    """Removes what killed removals left, and says what cannot be."""
    try:
        entries = list(os.scandir(root))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith(_REMOVED) and entry.is_dir(follow_symlinks=False):
            try:
                remove_tree(Path(entry.path))
            except OSError as error:
                say(f"{entry.path}, the rest of a run that was removed, stays: {(error.strerror or str(error)).lower()}")
