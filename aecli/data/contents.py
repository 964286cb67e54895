"""What files hold, as SHA-256, without reading again what has not changed.

An index under the cache folder keeps the hash of each file that was read, by its path, size, times of change and inode. A file
that was changed less than `RACY_NS` before it was read is not kept: within the resolution of its file system's clock it could
change once more and look the same (the same rule as git's for its index).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from aecli.config.schema import OWN_FILES, Data
from aecli.data.sources.base import Say, base_of
from aecli.data.sources.lister import Folder, walk
from aecli.data.sources.registry import RULES
from aecli.errors import DataError
from aecli.system.files import exclusive
from aecli.system.folders import cache_root
from aecli.system.own import open_own
from aecli.system.progress import say

RACY_NS = 2_000_000_000
SLOW_BYTES = 2 * 2**30
"""To read more than this is told before."""
_BUSY_SECONDS = 30.0
_TABLES = """
create table if not exists files (path text primary key, stat text, sha256 text, seal text);
create table if not exists notes (key text primary key, value text, seal text);
"""

T = TypeVar("T")
Digests: TypeAlias = Callable[[Sequence[Path]], list[str]]
"""The SHA-256 of each file."""


def identity(data: Data, say: Say, rules: int = RULES) -> str:
    """A text that says what the files of a data set hold: of own files the SHA-256 of the file, or of a folder that of the names
    of its folders and the content of its images; of a TFDS name that of everything that is prepared. Where they lie is no part
    of it; where there is nothing, it is empty. Raises OSError if a file cannot be read, DataError if it is none."""
    return _identity(data, rules, lambda paths: sha256(paths, say))


def known_identity(data: Data, rules: int = RULES) -> str | None:
    """The same where the index knows every file as it is, so that none is read; None otherwise."""

    def known(paths: Sequence[Path]) -> list[str]:
        digests = [digest for digest in _known(_named(paths)) if digest is not None]
        if len(digests) < len(paths):
            raise LookupError
        return digests

    try:
        return _identity(data, rules, known) or None
    except (LookupError, OSError, DataError):
        return None


def _identity(data: Data, rules: int, digests: Digests) -> str:
    if data.name not in OWN_FILES:
        path = cache_root() / "tfds" / base_of(data.name)
    else:
        assert data.path is not None
        path = Path(data.path)
    if not path.exists():
        return ""
    if not path.is_dir():
        return digests([path])[0]
    # The first rules read hidden files, too.
    return _of_everything(path, digests) if data.name not in OWN_FILES or rules == 1 else _of_images(path, digests)


def sha256(paths: Sequence[Path], say: Say) -> list[str]:
    """The SHA-256 of each file, read only where the index does not know it as it is."""
    named = _named(paths)
    digests = _known(named)
    missing = [i for i, digest in enumerate(digests) if digest is None]
    if (size := sum(named[i].status.st_size for i in missing)) > SLOW_BYTES:
        say(f"reading {size / 1e9:.1f} GB to know their content (once, until files change)")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fresh = dict(zip(missing, pool.map(lambda i: _read(paths[i]), missing), strict=True))
    kept = [(named[i].key, read.facts, read.digest) for i, read in fresh.items() if read.facts is not None]
    if kept:
        _with_index(lambda index: _keep_files(index, kept))
    return [digest if digest is not None else fresh[i].digest for i, digest in enumerate(digests)]


class _Named(NamedTuple):
    """What the index knows a file by, and its present state."""

    key: str
    status: os.stat_result


def _named(paths: Sequence[Path]) -> list[_Named]:
    folders = {folder: Path(os.path.realpath(folder)) for folder in {path.parent for path in paths}}
    return [_Named(str(folders[path.parent] / path.name), os.stat(path)) for path in paths]


def _known(files: Sequence[_Named]) -> list[str | None]:
    """The SHA-256 of each file that the index knows as it is."""
    known = _with_index(lambda index: [_known_file(index, key, _facts(status)) for key, status in files])
    return known or [None] * len(files)


def noted(key: str) -> str | None:
    """What `note` kept under a key; None if nothing."""

    def look(index: sqlite3.Connection) -> str | None:
        row = index.execute("select value, seal from notes where key = ?", (key,)).fetchone()
        return str(row[0]) if row is not None and row[1] == _seal(key, row[0]) else None

    return _with_index(look)


def note(key: str, value: str) -> None:
    def keep(index: sqlite3.Connection) -> None:
        with index:
            index.execute("insert or replace into notes values (?, ?, ?)", (key, value, _seal(key, value)))

    _with_index(keep)


class _Read(NamedTuple):
    """`facts` is None for a file that changed shortly before it was read, or while it was."""

    digest: str
    facts: str | None


def _read(path: Path) -> _Read:
    with open_own(path) as file:
        now, before = time.time_ns(), os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        settled = _facts(before) == _facts(os.fstat(file.fileno())) and now - before.st_ctime_ns > RACY_NS
    return _Read(digest, _facts(before) if settled else None)


def _facts(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _of_images(root: Path, digests: Digests) -> str:
    tree = walk(root)
    paths = [path for path, _ in tree.every()]
    content = dict(zip(paths, digests(paths), strict=True))
    digest = hashlib.sha256()

    def tell(folder: Folder, name: str) -> None:
        # Not how many are hidden: a system may put some there at any time.
        others = sorted((what, n) for what, n in folder.left_out.items() if what != "hidden")
        digest.update(os.fsencode(f"{name}/ {others}\n"))
        for path in folder.images:
            digest.update(os.fsencode(f"{path.name} {content[path]}\n"))
        for inner in folder.folders:
            tell(inner, f"{name}/{inner.path.name}")

    tell(tree, "")
    return digest.hexdigest()


def _of_everything(root: Path, digests: Digests) -> str:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path, content in zip(paths, digests(paths), strict=True):
        digest.update(os.fsencode(f"{path.relative_to(root)} {content}\n"))
    return digest.hexdigest()


def _known_file(index: sqlite3.Connection, key: str, facts: str) -> str | None:
    row = index.execute("select stat, sha256, seal from files where path = ?", (os.fsencode(key),)).fetchone()
    return str(row[1]) if row is not None and row[0] == facts and row[2] == _seal(key, *row[:2]) else None


def _keep_files(index: sqlite3.Connection, files: Sequence[tuple[str, str, str]]) -> None:
    rows = [(os.fsencode(key), facts, digest, _seal(key, facts, digest)) for key, facts, digest in files]
    with index:
        index.executemany("insert or replace into files values (?, ?, ?, ?)", rows)


def _seal(*words: object) -> str:
    """What a row must bear to be believed: SQLite does not notice when a bit of a value turns over."""
    return hashlib.sha256("\0".join(map(str, words)).encode(errors="surrogateescape")).hexdigest()[:16]


def _with_index(use: Callable[[sqlite3.Connection], T]) -> T | None:
    """What `use` makes of the index. One that is damaged is made anew; where there can be none, because the folder cannot be
    written to or somebody holds it for too long, None: it saves time and nothing else."""
    path = cache_root() / "contents.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _used(path, use)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            with exclusive(path.with_name(".contents.lock"), "makes the index of contents anew", say):
                try:
                    return _used(path, use)
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError:
                    path.unlink(missing_ok=True)
                    path.with_name(path.name + "-journal").unlink(missing_ok=True)
                    return _used(path, use)
    except (sqlite3.Error, OSError):
        with contextlib.suppress(sqlite3.Error), _connected(path, "?mode=ro") as index:  # another user's
            return use(index)
    return None


def _used(path: Path, use: Callable[[sqlite3.Connection], T]) -> T:
    with _connected(path) as index:
        index.executescript(_TABLES)
        return use(index)


@contextlib.contextmanager
def _connected(path: Path, mode: str = "") -> Generator[sqlite3.Connection]:
    if path.exists() and not path.is_file():
        raise sqlite3.OperationalError(f"{path} is no file")  # SQLite would wait for a FIFO
    with contextlib.closing(sqlite3.connect(path.absolute().as_uri() + mode, timeout=_BUSY_SECONDS, uri=True)) as index:
        yield index
