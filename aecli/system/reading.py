"""Reads files that nobody vouches for: of a stranger, damaged or edited. Regular files alone, of a bounded size, and JSON of a
bounded depth. Nothing here knows what the files hold."""

from __future__ import annotations

import errno
import json
import os
import stat
from math import isfinite
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20
"""No file that is kept is as large, but for arrays and metrics."""
MOST_PARTS = 2_000_000
"""Brackets and commas in JSON: each part takes many times the memory of its bytes."""
MOST_DEPTH = 32
"""Levels of brackets in each other."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


GONE = (FileNotFoundError, NotADirectoryError)
"""What the system says where there is no file. Its other errors (no descriptor, permission or memory left, a disk that fails)
tell nothing about the bytes: nobody takes them for damage, and what a failing disk holds is not given up while it fails."""


_OF_THE_SYSTEM = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM}


def of_the_system(error: BaseException) -> bool:
    """Whether an error tells of the machine (too many open files, no permission, a disk that fails), and not of the file that was
    read: to remove or replace that would be bad advice."""
    return isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM


class Unreadable(Exception):
    """A file that is there and is not what it is to be; the message says what is wrong, without the file's name."""


def kind_of(mode: int) -> str:
    """What stands in a file's place, in words; empty for a regular file. `mode` is that of `os.lstat`."""
    return _KINDS.get(stat.S_IFMT(mode), "" if stat.S_ISREG(mode) else "no regular file")


def open_regular(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """A descriptor of a regular file. A link is not followed, and a FIFO not waited for. Raises Unreadable for whatever else
    stands there, and for a file to be written to that has a second name; OSError as the system does."""
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        # A socket gives ENXIO, a FIFO without a reader too; a link ELOOP, on some systems EMLINK; a folder to write to EISDIR.
        if error.errno in (errno.ENXIO, errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.ENODEV) and (kind := _kind_at(path)):
            raise Unreadable(f"it is {kind}") from None
        raise
    facts = os.fstat(handle)
    wrong = f"it is {kind}" if (kind := kind_of(facts.st_mode)) else ""
    if not wrong and flags & (os.O_WRONLY | os.O_RDWR) and facts.st_nlink > 1:
        wrong = "it has a second name elsewhere (a hard link), which would be written to"
    if wrong:
        os.close(handle)
        raise Unreadable(wrong)
    return handle


def is_path(text: str) -> bool:
    """Whether a file could be called so: of null bytes and lone surrogates, unless they stand for bytes that are no UTF-8, the
    system makes no name, and Python raises what nobody expects of a path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _kind_at(path: Path) -> str:
    try:
        return kind_of(os.lstat(path).st_mode)
    except OSError:
        return ""


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file. Raises Unreadable if it is none, or holds more than `most` bytes; OSError as the system does,
    FileNotFoundError where there is none."""
    with os.fdopen(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise Unreadable(f"it is larger than {most:,} bytes")
        return file.read()


def parse_json(data: bytes) -> Any:
    """What JSON says. Raises Unreadable for what is no JSON, NaN, infinity and numbers that overflow to it among it, and for what
    is nested too deep or has too many parts."""
    if data.count(b"[") + data.count(b"{") + data.count(b",") > MOST_PARTS:
        raise Unreadable(f"it has more than {MOST_PARTS:,} parts")
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise Unreadable(f"it is nested more than {MOST_DEPTH} levels deep") from None
    except ValueError as error:
        raise Unreadable(f"it is no JSON ({error})") from None
    if _is_deeper(value, MOST_DEPTH):
        raise Unreadable(f"it is nested more than {MOST_DEPTH} levels deep")
    return value


def read_json(path: Path) -> Any:
    """The same of a file. Raises Unreadable and OSError as `read_regular` does."""
    return parse_json(read_regular(path))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not isfinite(value):
        raise ValueError(f"{digits[:40]} is larger than any number")
    return value


def _is_deeper(value: Any, most: int) -> bool:
    """Level by level, so that a deep value needs no deep stack."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(most + 1):
        inner: list[Any] = []
        for each in level:
            held = each.values() if type(each) is dict else each
            inner += [one for one in held if type(one) is dict or type(one) is list]
        if not inner:
            return False
        level = inner
    return True


def set_aside(path: Path) -> Path:
    """Renames what cannot be read, whatever it is, so that its place is free and nothing is lost. Returns where it is now. Raises
    OSError as the system does, and if there are a thousand such already."""
    for number in range(1, 1000):
        target = path.with_name(f"{path.name}.damaged" + (f".{number}" if number > 1 else ""))
        if not os.path.lexists(target):
            break
    else:
        target = path.with_name(f"{path.name}.damaged")
        raise FileExistsError(errno.EEXIST, "file exists a thousand times", str(target))
    os.rename(path, target)
    return target
