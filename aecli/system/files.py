"""Small files that are either whole or not there, and checksums. Nothing here knows what the files hold."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any


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


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` at once: a reader, a kill or a power cut sees the old file or the new one."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
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
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """A compressed npz, at once."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an npz by name. Raises what NumPy raises if it cannot be read."""
    import numpy as np

    # NumPy leaves a file open that it cannot read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def kept_arrays(path: Path, make: Callable[[], Mapping[str, Any]], lock: Path | None = None) -> dict[str, Any]:
    """The arrays in `path`, which `make()` gives if the file is not there yet. With a `lock` one process makes them and others
    wait; `make` must not ask for the same lock."""
    if not path.exists():
        with exclusive(lock) if lock is not None else contextlib.nullcontext():
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_arrays(path, make())
    return read_arrays(path)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, to_json(value))


def read_json(path: Path) -> Any:
    """What a JSON file holds; None if there is none, or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None] = lambda: None) -> Generator[None]:
    """Holds an advisory lock on `path`, which is made where needed and never deleted. Waits for whoever has it, and calls
    `waiting` before."""
    # Nobody may delete it, not even its holder: who waits has opened that file, and would hold it while the next one makes and
    # holds another of the same name. What stays is empty and hidden, one for each thing that was ever guarded.
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
