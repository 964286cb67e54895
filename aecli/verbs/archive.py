"""`aecli archive`: whole runs in one file, with the hash of each of their files. Two archives of a run are the same bytes."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from aecli.errors import RunError, UsageError
from aecli.runs import commits
from aecli.runs.directory import Run
from aecli.runs.parts import check_parts
from aecli.runs.records import SCHEMA
from aecli.system.files import replacing, to_json
from aecli.system.reading import Unreadable, open_regular

MANIFEST = "aecli-archive.json"
ENDINGS = (".tar.gz", ".tgz", ".tar")
PIECE = 2**20
"""Bytes that are read at once."""


class Part(NamedTuple):
    """A file of a run: where it is, or what it holds, and its size and hash."""

    source: Path | bytes
    size: int
    sha256: str


class Contents(NamedTuple):
    """What an archive holds of a run, by names below its folder, which are sorted."""

    folders: list[str]
    files: dict[str, Part]

    def as_json(self, run_id: str) -> dict[str, Any]:
        files = {name: {"size": part.size, "sha256": part.sha256} for name, part in self.files.items()}
        return {"id": run_id, "folders": self.folders, "files": files}


class Written(NamedTuple):
    runs: int
    files: int
    size: int


def check_target(target: Path) -> None:
    """Raises UsageError for a file that is there, or whose name says nothing of a form that is written."""
    if not target.name.endswith(ENDINGS):
        raise UsageError(
            f"-o {target}: an archive ends with {', '.join(ENDINGS)}", f"-o {target.name.split('.')[0] or 'runs'}.tar.gz"
        )
    if os.path.lexists(target):
        raise UsageError(f"{target} is there already", "name another file, or remove it")


def archive(runs: Sequence[Run], target: Path, checkpoints: bool = True) -> Written:
    """Writes runs into one file, all but locks and what killed writes left; without `checkpoints` a mark says so. Raises RunError
    for a run that somebody trains, or that changes meanwhile, UsageError as `check_target` does."""
    check_target(target)
    runs = sorted(dict.fromkeys(runs), key=lambda run: run.id)
    with contextlib.ExitStack() as held:
        for run in runs:
            held.enter_context(_untrained(run))
        contents = {run.id: contents_of(run.path, checkpoints) for run in runs}
        with replacing(target) as file:
            with _packed(file, target) as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _write(tar, contents)
            size = file.tell()
    return Written(len(runs), sum(len(each.files) for each in contents.values()), size)


@contextlib.contextmanager
def _untrained(run: Run) -> Generator[None]:
    """Nobody trains the run meanwhile. Where it cannot be written to, nobody can."""
    lock = run.locked("archives it")
    try:
        lock.__enter__()
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM) or run.is_locked():
            raise
        yield
        return
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@contextlib.contextmanager
def _packed(file: IO[bytes], target: Path) -> Generator[IO[bytes]]:
    """What is written to it is packed as the name of the archive says, without a name or a time."""
    if target.name.endswith(".tar"):
        yield file
        return
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
        yield cast("IO[bytes]", packed)


def contents_of(run: Path, checkpoints: bool = True) -> Contents:
    """All that is below a run's folder but locks and temporary files, with hashes. Raises RunError for what no run holds."""
    check_parts(run)
    folders: list[str] = []
    files: dict[str, Part] = {}
    for folder, below, names in os.walk(run):
        inside = os.path.relpath(folder, run)
        prefix = "" if inside == "." else f"{inside}/"
        folders += [prefix + name for name in below]
        for name in names:
            if not _passing(name):
                files[prefix + name] = _part(run, prefix + name)
    if not checkpoints:
        left_out = [name for name in files if name.startswith("checkpoints/")]
        for name in left_out:
            del files[name]
        folders = [name for name in folders if not name.startswith("checkpoints/")]
        if left_out:
            files[f"checkpoints/{commits.LEFT_OUT}"] = Part(b"", 0, hashlib.sha256(b"").hexdigest())
    return Contents(sorted(folders), dict(sorted(files.items())))


def _passing(name: str) -> bool:
    """A lock, or what is being written."""
    return name.startswith(".") and name.endswith(("lock", ".tmp"))


def _part(run: Path, name: str) -> Part:
    try:
        with os.fdopen(open_regular(run / name), "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return Part(run / name, file.tell(), digest.hexdigest())
    except (FileNotFoundError, Unreadable):
        raise _changed(run.name, name) from None


def _write(tar: tarfile.TarFile, contents: dict[str, Contents]) -> None:
    manifest = to_json({"schema": SCHEMA, "runs": [each.as_json(run_id) for run_id, each in contents.items()]})
    tar.addfile(_entry(MANIFEST, len(manifest)), io.BytesIO(manifest))
    for run_id, (folders, files) in contents.items():
        for name in ("", *folders):
            tar.addfile(_entry(f"{run_id}/{name}".rstrip("/"), None))
        for name, part in files.items():
            with _opened(run_id, name, part) as file:
                hashing = _Hashing(file)
                try:
                    tar.addfile(_entry(f"{run_id}/{name}", part.size), cast("IO[bytes]", hashing))
                except OSError as error:
                    if error.errno is None:  # tarfile's own: the file has become shorter
                        raise _changed(run_id, name) from None
                    raise
                if hashing.digest.hexdigest() != part.sha256 or file.read(1):
                    raise _changed(run_id, name)


def _entry(name: str, size: int | None) -> tarfile.TarInfo:
    """A folder where there is no size. Nothing of whoever wrote it, nor when."""
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE if size is None else tarfile.REGTYPE
    entry.size, entry.mode = size or 0, 0o755 if size is None else 0o644
    return entry


def _opened(run_id: str, name: str, part: Part) -> IO[bytes]:
    if isinstance(part.source, bytes):
        return io.BytesIO(part.source)
    try:
        return os.fdopen(open_regular(part.source), "rb")
    except (FileNotFoundError, Unreadable):
        raise _changed(run_id, name) from None


def _changed(run_id: str, name: str) -> RunError:
    return RunError(f"{name} of run {run_id} has changed while it was archived", "wait for whoever writes it, and try again")


class _Hashing:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data
