"""Opens the user's own files: data, masks, configs. Links are followed, since people link to where their data lies; what is no
regular file is refused at once, since a FIFO is waited for and a device may never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from aecli.errors import DataError
from aecli.system.reading import kind_of


def open_own(path: Path) -> BufferedReader:
    """A file to read bytes from. Raises DataError if it is a FIFO, a socket or a device, OSError as `open` does, for a folder
    too."""
    check_own(path)  # to open a device may already do something to it
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_own(path: Path) -> None:
    """Raises what `open_own` does, for libraries that open a file by its path."""
    _check(os.stat(path).st_mode, path)


def _check(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind := kind_of(mode):
        raise DataError(f"{path} is {kind}, not a file", "name a file; what comes through a pipe, save first")
