"""Small files that are either whole or not there, and checksums. Nothing here knows what the files hold."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO

from aecli.errors import StorageError
from aecli.system.reading import Unreadable, open_regular

WAIT_SECONDS = 1.0
"""How long a lock is waited for without a word."""
_MOST_WORD = 200
"""Bytes of what the holder of a lock leaves in its file."""


def fsync_directory(path: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(path: Path) -> None:
    """Makes every file and folder under `path`, and its own name in the parent, survive a power cut."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            handle = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        fsync_directory(Path(folder))
    fsync_directory(path.parent)


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, where they are not there, so that they survive a power cut. Raises FileExistsError if
    something else stands there."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync_directory(path.parent)


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` at once: a reader, a kill or a power cut sees the old file or the new one."""
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file to write to that takes the place of `path` at once when all is written; after an error `path` is as it was."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~current_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_directory(path.parent)


def current_umask() -> int:
    """mkstemp makes private files; those of a run are to be as readable as any other file of the user."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def to_json(value: Any) -> bytes:
    """JSON with a newline; NaN and infinity, which are no JSON, raise ValueError."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace")  # lone surrogates, which stand for bytes of paths, as JSON writes them


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, to_json(value))


def sha256_file(path: Path) -> str:
    """Raises Unreadable if it is no regular file, OSError as the system does."""
    with os.fdopen(open_regular(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(path: Path, doing: str, say: Callable[[str], None]) -> Generator[None]:
    """Holds an advisory lock on `path`, which is made where needed and never deleted. Waits for whoever has it, and after a
    second says who that is and what it is `doing` ("decodes digits"). Raises StorageError if no file can be made there."""
    # Nobody may delete it, not even its holder: who waits has opened that file, and would hold it while the next one makes and
    # holds another of the same name. What stays is empty and hidden, one for each thing that was ever guarded.
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = open_regular(path, os.O_RDWR | os.O_CREAT)
    except Unreadable as error:
        raise StorageError(f"{path}, which is to be locked, cannot be: {error}", "move it away") from None
    with os.fdopen(handle, "r+b", buffering=0):
        if not is_taken(handle, WAIT_SECONDS):
            say(f"waiting for {_holder(handle)}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        _leave(handle, f"process {os.getpid()}, which {doing}")
        try:
            yield
        finally:
            _leave(handle, "")


def holder_of(path: Path) -> str | None:
    """Who holds the lock on a file, in the words that it left there, or `another process`; None if nobody does."""
    try:
        handle = open_regular(path)
    except (OSError, Unreadable):
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _holder(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Removes a folder with all that is in it; links in it are not followed. Somebody else may do the same at once. Raises
    OSError as the system does."""
    while os.path.lexists(path):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def append_line(file: BinaryIO, line: bytes) -> None:
    """Adds a line, given with its end, to a file that is open for reading and appending. What a kill or a lost block left of the
    line before is ended."""
    size = os.fstat(file.fileno()).st_size
    cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
    file.write(b"\n" * cut + line)


def is_taken(handle: int, seconds: float) -> bool:
    """Whether the lock on an open file could be had within so many seconds: most are held for less, some for an instant by who
    only looks, and nobody wants to know."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.02)


def _leave(handle: int, word: str) -> None:
    """Writes into a lock's file who holds it; a disk that is full keeps nobody from holding it."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, word.encode(errors="replace")[:_MOST_WORD], 0)


def _holder(handle: int) -> str:
    """What the holder of a lock left in its file; whatever else stands there is not shown."""
    word = os.pread(handle, _MOST_WORD, 0).decode(errors="replace")
    return word if re.match(r"\Aprocess \d+, which [^\n]+\Z", word) else "another process"
