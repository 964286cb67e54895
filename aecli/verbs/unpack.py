"""`aecli import`: runs out of an archive, which nobody vouches for. Whole and as they were, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from aecli.errors import RunError, StorageError
from aecli.runs.directory import Run
from aecli.runs.parts import MOST
from aecli.runs.records import ArchivedRun, FileFacts, Manifest, validated
from aecli.system.files import fsync_directory, fsync_tree, make_folder, remove_tree
from aecli.system.own import open_own
from aecli.system.reading import MOST_BYTES, Unreadable, parse_json
from aecli.system.room import free_disk, gigabytes
from aecli.verbs.archive import MANIFEST, PIECE, contents_of

_IMPORTING = ".importing-"
"""The start of the name of a folder that an archive is unpacked into."""
_GZIP = b"\x1f\x8b"


class Imported(NamedTuple):
    """`same`: the run was there already, and is as it is in the archive."""

    run: Run
    same: bool


def unpack(file: Path, root: Path, say: Callable[[str], None]) -> list[Imported]:
    """Brings the runs of an archive into a folder of runs. Raises RunError for an archive that is damaged, or holds what no
    archive of aecli does, and for a run of which there is another of the same id; StorageError if there is no room. Nothing is
    there then that was not there before."""
    try:
        with open_own(file) as raw:
            return _unpack(raw, root, say)
    except Unreadable as error:
        raise RunError(f"{file} is no whole archive of runs: {error}", "nothing was imported; copy it again") from None


def _unpack(raw: IO[bytes], root: Path, say: Callable[[str], None]) -> list[Imported]:
    packed = raw.read(len(_GZIP)) == _GZIP
    raw.seek(0)
    with _reading():
        stream = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw)
        tar = tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:")  # noqa: SIM115 (it holds nothing)
    manifest = _manifest(tar)
    known = {run.id: _is_there(root, run) for run in manifest.runs}
    size = sum(facts.size for run in manifest.runs if not known[run.id] for facts in run.files.values())
    if size > (free := free_disk(root)):
        raise StorageError(f"the archive unpacks to {gigabytes(size)}, and {gigabytes(free)} are free", "free some space")
    make_folder(root)
    _sweep(root, say)
    with _temporary(root) as place:
        _extract(tar, manifest, place, {run_id for run_id, same in known.items() if same})
        _check_end(stream)
        new = [run for run in manifest.runs if not known[run.id]]
        for run in new:
            Run(place / run.id).info()
            fsync_tree(place / run.id)
        for run in new:
            if os.path.lexists(root / run.id):
                raise _other(root, run.id, "it was made meanwhile")
        for run in new:
            os.rename(place / run.id, root / run.id)
        fsync_directory(root)
    return [Imported(Run(root / run.id), known[run.id]) for run in manifest.runs]


def _manifest(tar: tarfile.TarFile) -> Manifest:
    first = _next(tar)
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MOST_BYTES:
        raise Unreadable(f"it does not begin with {MANIFEST}")
    manifest = validated(Manifest, parse_json(b"".join(_pieces(tar, first))))
    if len({run.id for run in manifest.runs}) < len(manifest.runs):
        raise Unreadable("a run is in it twice")
    if sum(len(run.files) + len(run.folders) for run in manifest.runs) > MOST:
        raise Unreadable(f"it holds more than {MOST:,} files")
    for run in manifest.runs:
        folders = {*run.folders, *(parent for name in (*run.files, *run.folders) for parent in _parents(name))}
        if both := folders & run.files.keys():
            raise Unreadable(f"{min(both)} is a file and a folder in it")
        if "run.json" not in run.files:
            raise Unreadable(f"{run.id} in it is no run")
    return manifest


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _is_there(root: Path, run: ArchivedRun) -> bool:
    """Whether the same run is there. Raises RunError if another one is, or something else of its name."""
    path = root / run.id
    if not os.path.lexists(path):
        return False
    if path.is_symlink() or not path.is_dir():
        raise _other(root, run.id, "it is no folder")
    here = {name: (part.size, part.sha256) for name, part in contents_of(path).files.items()}
    there = {name: (facts.size, facts.sha256) for name, facts in run.files.items()}
    if different := sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name)):
        more = f" and {len(different) - 1:,} more" if len(different) > 1 else ""
        raise _other(root, run.id, f"{different[0]}{more} differ{'s' * (not more)}")
    return True


def _other(root: Path, run_id: str, why: str) -> RunError:
    message = f"there is another run {run_id} in {root} than in the archive: {why}"
    return RunError(message, "nothing was imported; `aecli rm` removes a run, and --runs-dir names another folder")


def _extract(tar: tarfile.TarFile, manifest: Manifest, place: Path, same: set[str]) -> None:
    """Writes every file that the manifest names, and nothing else; of runs that are there already it is only looked at. Links,
    devices and modes are not taken over, since no file is made by tarfile."""
    for run in manifest.runs:
        if run.id not in same:
            above = {parent for name in run.files for parent in _parents(name)[-1:]}
            for folder in ("", *run.folders, *above):
                os.makedirs(place / run.id / folder, exist_ok=True)
    folders = {f"{run.id}/{name}".rstrip("/") for run in manifest.runs for name in ("", *run.folders)}
    files = {f"{run.id}/{name}": facts for run in manifest.runs for name, facts in run.files.items()}
    while (member := _next(tar)) is not None:
        if member.type == tarfile.DIRTYPE and not member.size and member.name in folders:
            folders.remove(member.name)
            continue
        facts = files.pop(member.name, None)
        if facts is None or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
            raise Unreadable(f"{member.name} is not what its list has")
        if member.size != facts.size:
            raise Unreadable(f"{member.name} has {member.size:,} bytes, and its list says {facts.size:,}")
        _take(tar, member, facts, None if member.name.partition("/")[0] in same else place / member.name)
    if files:
        raise Unreadable(f"{min(files)} is missing")


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, facts: FileFacts, path: Path | None) -> None:
    digest = hashlib.sha256()
    with open(os.devnull if path is None else path, "wb" if path is None else "xb") as file:
        for piece in _pieces(tar, member):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != facts.sha256:
        raise Unreadable(f"the checksum of {member.name} is wrong")


def _check_end(stream: _Bounded) -> None:
    """A file that was cut lacks the blocks of zeros at the end, and gzip tells of a wrong sum only there."""
    if stream.cut:
        raise Unreadable("its end is missing")
    with _reading():
        for _ in range(10):
            piece = stream.read(PIECE)
            if piece.strip(b"\0"):
                break
            if not piece:
                return
    raise Unreadable("it goes on after its end")


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    with _reading():
        return tar.next()


def _pieces(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    with _reading():
        file = tar.extractfile(member)
    if file is None:
        raise Unreadable(f"{member.name} is no file")
    while True:
        with _reading():
            piece = file.read(PIECE)
        if not piece:
            return
        yield piece


@contextlib.contextmanager
def _reading() -> Generator[None]:
    """What gzip and tarfile raise of damaged bytes, of whatever kind it is, says that they are damaged."""
    try:
        yield
    except Unreadable:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise Unreadable(str(error)) from None
    except Exception as error:
        raise Unreadable(f"{error or type(error).__name__}") from None


class _Bounded:
    """A stream of which no more is read at once than a header or a piece of a file takes: a header that says otherwise would have
    it all in memory. `cut`: the last read found less than it wanted."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.cut = stream, False
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= PIECE:
            raise Unreadable("it has a header larger than any")
        data = self._stream.read(size)
        self.cut = len(data) < size
        return data


@contextlib.contextmanager
def _temporary(root: Path) -> Generator[Path]:
    """A hidden folder that is gone when this ends, or swept by the next import."""
    place = Path(tempfile.mkdtemp(prefix=_IMPORTING, dir=root))
    with _open_folder(place) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield place
        finally:
            remove_tree(place)


@contextlib.contextmanager
def _open_folder(path: Path | str) -> Generator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


def _sweep(root: Path, say: Callable[[str], None]) -> None:
    """Removes what killed imports left, which nobody holds."""
    for entry in list(os.scandir(root)):
        if entry.name.startswith(_IMPORTING) and entry.is_dir(follow_symlinks=False):
            try:
                with _open_folder(entry.path) as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_tree(Path(entry.path))
            except OSError as error:
                if not isinstance(error, BlockingIOError | FileNotFoundError):
                    say(f"{entry.path}, the rest of an import, stays: {(error.strerror or str(error)).lower()}")
