"""Checkpoints that survive kills, power cuts, bit flips and full disks.

Orbax writes the arrays, and tensorstore, which it is built on, reads them. `<step>.commit.json`, written after everything else is
on the disk, makes them a checkpoint, and a restore verifies all that it says of them (`commits.py`). While a checkpoint is being
written, `.saving` says so, and while one is being removed, its commit file is named `<step>.removed`: such arrays without a
commit file are what a kill left, and are swept. Others are a checkpoint whose commit file has been lost, and stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aecli.errors import CheckpointError, DeviceError, StorageError
from aecli.runs import commits
from aecli.runs.records import SCHEMA, Commit, Leaf
from aecli.system.files import fsync_directory, fsync_tree, sha256_file, write_atomic
from aecli.system.reading import GONE, Unreadable, open_regular, parse_json, set_aside
from aecli.system.room import free_memory, gigabytes

Warn = Callable[[str], None]

_HALF_FILE = re.compile(r"\A\.(room|\d+\.commit\.json\.\w+|\.saving\.\w+)\.tmp\Z")
_HALF_FOLDER = re.compile(r"\A\d+\.orbax-checkpoint-tmp(-\d+)?\Z")
"""Names that nothing has but what a killed save left."""
_MOST_DESCRIBED = 2**16
"""Bytes of the description of an array, which has a few hundred."""
_CODECS = {"", "regular", "bytes", "transpose", "sharding_indexed", "zstd", "gzip", "crc32c"}
"""What an array's pieces may be laid out and packed by. Not by blosc, which unpacks all that is there, however much."""
_OS_ERROR = re.compile(r"\bOS error (\d+)\b")


class Loaded(NamedTuple):
    """`state` has the structure of the template; `extra` is what was saved beside it."""

    step: int
    state: Any
    extra: dict[str, Any]


def leaves(state: Any) -> dict[str, Any]:
    """The arrays of a pytree by path, such as `params/encoder/mlp/layers/0/kernel/value`."""
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def save(folder: Path, step: int, state: Any, extra: Mapping[str, Any]) -> None:
    """Writes and commits a checkpoint; returns when it would survive a power cut. Raises StorageError without room, OSError
    as the system does. The state is to be finite: the caller has looked."""
    arrays = {path: np.asarray(leaf) for path, leaf in jax.device_get(leaves(state)).items()}
    size = sum(array.nbytes for array in arrays.values())
    _sweep(folder)
    _reserve(folder, 2 * size + 2**18, step)
    target = folder / str(step)
    if os.path.lexists(target):  # swept, had a kill left it
        set_aside(target)
    write_atomic(folder / commits.SAVING, str(step).encode())
    _write_arrays(target, arrays)
    fsync_tree(target)
    files = {
        str(path.relative_to(target)): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(target.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "schema": SCHEMA,
        "step": step,
        "files": files,
        "leaves": [
            {"path": path, "shape": list(array.shape), "dtype": str(array.dtype), "sha256": _digest(array)}
            for path, array in arrays.items()
        ],
        "extra": extra,
    }
    commits.write(folder, step, manifest)
    (folder / commits.SAVING).unlink(missing_ok=True)


def amend(folder: Path, step: int, extra: Mapping[str, Any]) -> None:
    """Replaces what was saved beside the state of a committed step; its arrays stay as they are."""
    commits.write(folder, step, {**commits.read(folder, step).as_json(), "extra": extra})


def retain(folder: Path, newest: int, best: int | None) -> None:
    """Removes all but the newest checkpoints and the best one, the commit file first. While somebody reads one, all stay
    until the next time."""
    with _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
        for step in commits.steps(folder)[:-newest] if free else ():
            if step != best:
                _remove(folder, step)


@contextlib.contextmanager
def _lock(folder: Path, mode: int) -> Generator[bool]:
    """Whether the folder of checkpoints could be locked."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, mode)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def restore(folder: Path, template: Any, warn: Warn, step: int | None = None, *, writing: bool = False) -> Loaded | None:
    """The newest good checkpoint, or the one of `step` if it is given and good, in the structure and placement of `template`.

    A damaged one is passed over with a warning, and set aside if `writing`, as is one without a commit file; None if there never
    was one. Raises CheckpointError if all are damaged, or if one is sound and belongs to another model, listing the differences;
    OSError and MemoryError as the system does: what it refuses to read is not damaged.
    """
    if not folder.is_dir():
        return None
    with _lock(folder, fcntl.LOCK_SH):
        return _restore(folder, template, warn, step, writing)


def _restore(folder: Path, template: Any, warn: Warn, step: int | None, writing: bool) -> Loaded | None:
    known = commits.steps(folder)
    if not known:
        return None
    for lost in commits.without_commit(folder) if writing else ():
        warn(f"the arrays of step {lost} have no commit file: set aside as {set_aside(folder / str(lost)).name}")
    order = sorted(known, key=lambda s: (s == step, s), reverse=True)
    for candidate in order:
        try:
            commit = commits.read(folder, candidate)
            if problems := _differences(commit, template):
                shown = problems[:8] + ([f"and {len(problems) - 8} more"] if len(problems) > 8 else [])
                raise CheckpointError(
                    f"checkpoint {candidate} does not fit the model:\n  " + "\n  ".join(shown),
                    "it was written for another config or another version of aecli",
                )
            arrays = _read_arrays(folder, candidate, commit)
        except Unreadable as damage:
            warn(f"checkpoint {candidate} is damaged ({damage})" + ("; set aside" if writing else ""))
            if writing:
                for path in (commits.path_of(folder, candidate), folder / str(candidate)):
                    if os.path.lexists(path):
                        set_aside(path)
                fsync_directory(folder)
            continue
        flat, structure = jax.tree_util.tree_flatten_with_path(template)
        paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
        placed = [jax.device_put(arrays[path], leaf.sharding) for path, (_, leaf) in zip(paths, flat, strict=True)]
        return Loaded(candidate, jax.tree.unflatten(structure, placed), commit.extra)
    raise CheckpointError(f"every checkpoint in {folder} is damaged", "restore the folder from a backup, or train again")


def _checkpointer() -> Any:
    import logging

    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # Of several processes that train one run, one writes: it would wait for the others.
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, use_zarr3=True, multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _reserve(folder: Path, size: int, step: int) -> None:
    """Raises StorageError if so many bytes cannot be written: no room, a quota, a limit on the size of files, a disk that
    fails. Orbax would find out half-way, on several threads at once, each with its own traceback."""
    path = folder / ".room.tmp"
    try:
        if not hasattr(os, "posix_fallocate"):  # macOS
            if shutil.disk_usage(folder).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        reason = (error.strerror or str(error)).lower()
        raise StorageError(f"no room for the checkpoint of step {step} in {folder}: {reason}", "free some space") from None
    finally:
        path.unlink(missing_ok=True)


def _write_arrays(target: Path, arrays: Mapping[str, Any]) -> None:
    import orbax.checkpoint as ocp

    try:
        with contextlib.closing(_checkpointer()) as checkpointer:
            checkpointer.save(_named(target), args=ocp.args.PyTreeSave(dict(arrays)))
    except ValueError as error:  # tensorstore reports what the system refused as a ValueError
        if refused := _refused(error, target):
            raise refused from None
        raise StorageError(f"the checkpoint cannot be written: {str(error).splitlines()[0]}", "free some space") from None


def _read_arrays(folder: Path, step: int, commit: Commit) -> dict[str, Any]:
    target = folder / str(step)
    there = _files_below(target)
    if unknown := sorted(there - set(commit.files)):
        raise Unreadable(f"{unknown[0]} was not saved with it")
    if gone := sorted(set(commit.files) - there):
        raise Unreadable(f"{gone[0]} is gone")
    for name, facts in commit.files.items():
        size, digest = _size_and_sha256(target / name)
        if size != facts.size:
            raise Unreadable(f"{name} has {size} bytes instead of {facts.size}")
        if digest != facts.sha256:
            raise Unreadable(f"the checksum of {name} is wrong")
    size = sum(prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in commit.leaves)
    if size > (free := free_memory()):
        raise DeviceError(
            f"checkpoint {step} takes {gigabytes(size)} of memory, and {gigabytes(free)} are free", "free some memory"
        )
    try:
        arrays = _load(_named(target), commit.leaves)
    except (OSError, MemoryError, Unreadable, StorageError):
        raise
    except Exception as error:  # files that are as they were written, and yet cannot be read
        if refused := _refused(error, target):
            raise refused from None
        raise Unreadable(f"tensorstore: {type(error).__name__}: {str(error).splitlines()[0]}") from None
    for leaf in commit.leaves:
        array = arrays.get(leaf.path)
        if array is None or list(array.shape) != leaf.shape or str(array.dtype) != leaf.dtype or _digest(array) != leaf.sha256:
            raise Unreadable(f"array {leaf.path} is not what was saved")
    return arrays


def _named(target: Path) -> Path:
    """A path that tensorstore takes. Raises StorageError if there is none."""
    path = target.absolute()
    try:
        str(path).encode()
    except UnicodeEncodeError:
        message = f"no checkpoint can be kept in {path}, whose name is no UTF-8"
        raise StorageError(message, "rename the folder, or name another with --runs-dir") from None
    return path


def _load(target: Path, leaves: Sequence[Leaf]) -> dict[str, Any]:
    """The arrays that Orbax wrote, without what it wrote beside them: that would have to be believed. Raises Unreadable if one is
    described as another than the commit file says."""
    import tensorstore as ts

    store = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{target}/"}}
    entries = ts.KvStore.open(store).result()
    for leaf in leaves:  # all of them before any is opened: tensorstore believes what it is told, and dies of it
        described = bytes(entries.read(f"{leaf.path}/zarr.json").result().value)
        if wrong := _wrongly_described(described, leaf):
            raise Unreadable(f"array {leaf.path} is not described as what was saved: {wrong}")
    opened = [ts.open({"driver": "zarr3", "kvstore": {**store, "path": f"{leaf.path}/"}}, open=True) for leaf in leaves]
    arrays = [each.result().read() for each in opened]
    return {leaf.path: array.result() for leaf, array in zip(leaves, arrays, strict=True)}


def _wrongly_described(described: bytes, leaf: Leaf) -> str:
    """What is wrong with the description of an array in zarr's third form; empty if it is that of the leaf, in no larger pieces
    than it has and packed by nothing that unpacks to more than is asked for."""
    if len(described) > _MOST_DESCRIBED:
        return f"it is larger than {_MOST_DESCRIBED:,} bytes"
    try:
        told = parse_json(described)
    except Unreadable as error:
        return str(error)
    if not isinstance(told, dict) or told.get("shape") != leaf.shape or told.get("data_type") != leaf.dtype:
        return "of another shape or type"
    inside: list[Any] = [told.get("chunk_grid"), told.get("codecs")]
    while inside:
        each = inside.pop()
        if isinstance(each, list):
            inside += each
        elif isinstance(each, dict):
            inside += each.values()
            piece = each.get("chunk_shape")
            if "chunk_shape" in each and not _is_part(piece, leaf.shape):
                return "in pieces that are no parts of it"
            if (name := str(each.get("name", ""))) not in _CODECS:
                return f"packed by {name[:40]!r}"
    return ""


def _is_part(piece: Any, shape: Sequence[int]) -> bool:
    if not isinstance(piece, list) or len(piece) != len(shape):
        return False
    return all(type(size) is int and 1 <= size <= max(1, whole) for size, whole in zip(piece, shape, strict=True))


def _files_below(target: Path) -> set[str]:
    """The names of all that is below a folder and is no folder. Raises Unreadable if it is gone, OSError as the system does."""
    found: set[str] = set()
    folders = [""]
    while folders:
        inside = folders.pop()
        try:
            with os.scandir(target / inside) as entries:
                for entry in entries:
                    name = f"{inside}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{name}/")
                    else:
                        found.add(name)
        except GONE:
            raise Unreadable(f"its folder {inside}".rstrip() + " is gone") from None
    return found


def _refused(error: Exception, path: Path) -> OSError | None:
    """What the system refused, of an error that tensorstore made a text of; None if that is not what it tells."""
    match = _OS_ERROR.search(str(error))
    return OSError(int(match[1]), os.strerror(int(match[1])), str(path)) if match else None


def _size_and_sha256(path: Path) -> tuple[int, str]:
    with os.fdopen(open_regular(path), "rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _differences(commit: Commit, template: Any) -> list[str]:
    """What the checkpoint's leaves and the template's have not in common."""
    saved = {leaf.path: (tuple(leaf.shape), leaf.dtype) for leaf in commit.leaves}
    wanted = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves(template).items()}
    found = [f"{path}: missing from the checkpoint" for path in wanted if path not in saved]
    found += [f"{path}: not in the model" for path in saved if path not in wanted]
    found += [
        f"{path}: {saved[path][1]}{list(saved[path][0])} in the checkpoint, {spec[1]}{list(spec[0])} in the model"
        for path, spec in wanted.items()
        if path in saved and saved[path] != spec
    ]
    return found


def _digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _sweep(folder: Path) -> None:
    """Removes what killed saves and removals left, and is known to be that; whatever else lies there stays."""
    known = set(map(str, commits.steps(folder)))
    saving = commits.being_saved(folder)
    for entry in list(os.scandir(folder)):
        if _HALF_FILE.match(entry.name):
            os.unlink(entry.path)
        elif (removed := commits.REMOVED.match(entry.name)) and removed[1] not in known:
            _finish_removal(folder, int(removed[1]))
        elif _HALF_FOLDER.match(entry.name) or (entry.name == saving and saving not in known):
            shutil.rmtree(entry.path, ignore_errors=True)


def _remove(folder: Path, step: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.rename(commits.path_of(folder, step), folder / f"{step}.removed")
    fsync_directory(folder)
    _finish_removal(folder, step)


def _finish_removal(folder: Path, step: int) -> None:
    shutil.rmtree(folder / str(step), ignore_errors=True)
    if not os.path.lexists(folder / str(step)):
        fsync_directory(folder)  # or the arrays might come back without their mark
        (folder / f"{step}.removed").unlink(missing_ok=True)
