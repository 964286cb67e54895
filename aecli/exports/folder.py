"""The folder of an export: there as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

from aecli.errors import StorageError, UsageError
from aecli.system.files import current_umask, fsync_directory, fsync_tree, remove_tree
from aecli.system.reading import GONE, Unreadable, read_json

FACTS = "export.json"
"""What an export says of itself; by it one is known."""


def check_target(target: Path, force: bool) -> None:
    """Raises UsageError if something stands there that may not be replaced, StorageError if there is no place for it."""
    if not target.parent.is_dir():
        raise StorageError(f"there is no folder {target.parent} for {target.name}", "make it first")
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise StorageError(f"{target} is there already, and is no folder", "name another by -o")
    if not any(target.iterdir()):
        return
    if not _is_export(target):
        raise UsageError(f"{target} is there already, and is no export of aecli", "name another folder by -o, or remove it")
    if not force:
        raise UsageError(f"{target} is there already", "--force replaces the export, or name another folder by -o")


def _is_export(target: Path) -> bool:
    try:
        facts = read_json(target / FACTS)
    except (*GONE, Unreadable):
        return False
    return isinstance(facts, dict) and "aecli" in facts and "format" in facts


@contextlib.contextmanager
def new_folder(target: Path, force: bool) -> Generator[Path]:
    """A folder to write to that takes the place of `target` once all is written; after an error nothing is left of it, and what
    stood there is as it was."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    old = temporary.with_suffix(".old")
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~current_umask())
        fsync_tree(temporary)
        check_target(target, force)  # again: it took a while
        if target.is_dir():
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except BaseException:
            if old.is_dir():
                os.rename(old, target)
            raise
    except BaseException:
        remove_tree(temporary)
        raise
    fsync_directory(target.parent)
    remove_tree(old)
