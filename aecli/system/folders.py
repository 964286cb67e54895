"""Folders outside of runs that aecli writes to."""

from __future__ import annotations

import os
from pathlib import Path

from aecli.errors import StorageError
from aecli.system.files import current_umask


def cache_root() -> Path:
    """Where prepared and decoded data is kept: AECLI_DATA_DIR, or aecli in the user's cache folder. Raises StorageError if
    neither is known."""
    if given := os.environ.get("AECLI_DATA_DIR"):
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "aecli"
    try:
        return Path.home() / ".cache" / "aecli"
    except RuntimeError:
        message = "there is no home folder, in which prepared and decoded data is kept"
        raise StorageError(message, "set AECLI_DATA_DIR to a folder that you can write to") from None


def cache_folder(name: str) -> Path:
    """A folder below `cache_root`, made where it is not there. Raises StorageError if it cannot be."""
    folder = cache_root() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"the folder for prepared and decoded data, {cache_root()}, cannot be made or written to: {error.strerror}",
            "set AECLI_DATA_DIR to a folder that you can write to",
        ) from None
    return folder


def open_to_readers(root: Path) -> None:
    """Gives a folder, and those in it, the modes that the user's umask allows: temporary ones are made for the user alone."""
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o777 & ~current_umask())
