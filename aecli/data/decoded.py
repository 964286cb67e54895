"""The cache of decoded images: each data set is decoded once, into arrays with checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import OWN_FILES, Data
from aecli.core.model import Spec
from aecli.data import contents, fingerprints
from aecli.data.classes import sizes_of
from aecli.data.rows import ArrayRows
from aecli.data.sources.base import Say, Source
from aecli.data.sources.registry import RULES, open_source, version_of
from aecli.errors import DataError
from aecli.system.files import exclusive, fsync_tree, sha256_file, to_json, write_json
from aecli.system.folders import cache_folder, cache_root, open_to_readers
from aecli.system.reading import Unreadable, of_the_system, open_regular, read_json

DEVICE_BYTES = 2 * 2**30
"""Decoded images up to this size live on the device."""
_FORMAT = 3
_NOT_DECIDING = {"path", "batch_size", "validation", "binarize", "augment", "manual_dir", "tier", "standardize", "classes"}
"""Settings of the `data` block that change nothing of what is decoded."""
_DAMAGES = (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, Unreadable)
"""What reading a file that is not as it was written may raise."""


class Decoded(NamedTuple):
    """`splits` hold `train`, `test` and, if the data has one, `validation`; `names` are the classes'. `told` is a line on what
    was understood of own files and done to them, empty for other data."""

    spec: Spec
    splits: Mapping[str, ArrayRows]
    names: tuple[str, ...]
    fingerprint: str
    told: str


class Outline(NamedTuple):
    """What decoded data is, told without a look at any example: `sizes` of its splits, and `told` as of `Decoded`."""

    spec: Spec
    sizes: Mapping[str, int]
    told: str


def outline(data: Data, rules: int = RULES) -> Outline | None:
    """The outline of own files that are decoded already and did not change since; None if that is not known, or takes reading
    them. Nothing but the names and times of the files and a small file of the cache is looked at."""
    content = contents.known_identity(data, rules)
    if content is None:
        return None
    place = _place(data, content, rules)
    try:
        meta = _meta(place)
        spec, names = Spec(**meta["spec"]), tuple(meta["names"])
        labels = {split: np.array(_array(place.folder / f"{split}_labels.npy")) for split in _splits(meta)}
        return Outline(spec, sizes_of(data.classes, spec, names, labels), str(meta["told"]))
    except (DataError, *_DAMAGES):
        return None  # told when it is opened


def is_kept(data: Data, rules: int = RULES) -> bool:
    """Whether a data set that is known by its name is decoded already."""
    return _place(data, None, rules).folder.is_dir()


def request_key(data: Data, content: str | None, rules: int) -> str:
    """A hash of all that decides what the decoded images are: the settings, the rules, and the content of own files."""
    settings = data.model_dump(mode="json", exclude=_NOT_DECIDING)
    # Rules are of own files, of the others a version.
    by = {"rules": rules} if data.name in OWN_FILES else {"version": version_of(data.name, rules)}
    request = {"format": _FORMAT, "content": content, **by, **settings}
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def open_decoded(data: Data, say: Say, rules: int = RULES) -> Decoded | None:
    """The decoded cache of a data set, made where it is missing or damaged; None if it would not fit on the disk.

    Own files are known by their content, wherever they lie. A TFDS name is looked up before tensorflow_datasets is imported,
    which takes longer than reading the cache.
    """
    content = contents.identity(data, say, rules) if data.name in OWN_FILES else None
    place = _place(data, content, rules)
    found = _look(place, say)
    if found is not None:
        return found
    lock = cache_folder("decoded") / f".{place.folder.name}.lock"
    with exclusive(lock, f"decodes {data.called}", say):
        found = _look(place, lambda line: None)
        if found is not None:
            return found
        with unchanged(data, content, say, rules):
            source = open_source(data, say, rules)
            if not _fits(source, place.folder.parent):
                return None
            _decode(source, place, data.called, say)
        return _load(place, say)


class _Place(NamedTuple):
    """Where a data set is kept decoded, and the key of the request that what is there must bear: folders can be renamed."""

    folder: Path
    request: str


def _place(data: Data, content: str | None, rules: int) -> _Place:
    stem, request = re.sub(r"[^A-Za-z0-9._-]", "_", data.name), request_key(data, content, rules)
    return _Place(cache_root() / "decoded" / f"{stem}-{request[:16]}", request)


@contextlib.contextmanager
def unchanged(data: Data, content: str | None, say: Say, rules: int) -> Generator[None]:
    """Raises DataError, after what is done inside or in place of its DataError, if own files are not any more what they were
    before: some of it may be of the old ones and some of the new."""
    wrong: DataError | None = None
    try:
        yield
    except DataError as error:
        wrong = error
    if content is not None and contents.identity(data, say, rules) != content:
        raise DataError(f"{data.path or data.name} changed while it was read", "run again when nothing writes to it") from wrong
    if wrong is not None:
        raise wrong


def _look(place: _Place, say: Say) -> Decoded | None:
    """What is in a cache; None if there is nothing, or it is damaged, which is told."""
    if not place.folder.is_dir():
        return None
    try:
        return _load(place, say)
    except DataError as error:
        say(f"{error.message}: decoding anew")
        return None


def _fits(source: Source, folder: Path) -> bool:
    values = sum(source.origin.sizes.values()) * int(np.prod(source.origin.spec.row_shape))
    needed = values * np.dtype(source.origin.dtype).itemsize
    return 2 * needed < shutil.disk_usage(folder).free


def _decode(source: Source, place: _Place, name: str, say: Say) -> None:
    """Writes the arrays of both splits into a temporary folder that is moved into place when it is whole."""
    folder = place.folder
    say(f"decoding {sum(source.origin.sizes.values()):,} {source.origin.kind}s of {name} (once)")
    for stale in folder.parent.glob(f".{folder.name}.tmp-*"):  # of a process that was killed; this one holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    try:
        for split, n in source.origin.sizes.items():
            shape = (n, *source.origin.spec.row_shape)
            images = np.lib.format.open_memmap(temporary / f"{split}.npy", "w+", np.dtype(source.origin.dtype), shape)
            labels = np.empty(n, np.int32)
            for index, some, of_some in fingerprints.pieces(source, split):
                images[index], labels[index] = some, of_some
            images.flush()
            np.save(temporary / f"{split}_labels.npy", labels)
        files = {
            file: sha256_file(temporary / file)
            for split in source.origin.sizes
            for file in (f"{split}.npy", f"{split}_labels.npy")
        }
        origin = source.origin
        meta: dict[str, Any] = {"spec": origin.spec._asdict(), "names": origin.names, "files": files}
        meta["told"] = "; ".join(filter(None, [origin.about, *source.converted()]))
        meta |= {"fingerprint": fingerprints.of_files(files), "request": place.request}
        write_json(temporary / "meta.json", {**meta, "seal": _seal(meta)})
        open_to_readers(temporary)
        fsync_tree(temporary)
        _remove(folder)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def _seal(meta: dict[str, Any]) -> str:
    return hashlib.sha256(to_json(json.loads(to_json(meta)))).hexdigest()


def _load(place: _Place, say: Say) -> Decoded:
    """Opens a decoded cache. Small files, whose bytes are about to be used anyway, are checked against their checksums at each
    opening, larger ones whenever they look changed. Raises DataError if anything is not as it was written."""
    folder = place.folder
    try:
        meta = _meta(place)
        arrays: dict[str, Any] = {}
        for name in meta["files"]:
            path = folder / name
            small = path.stat().st_size <= DEVICE_BYTES
            if (sha256_file(path) if small else contents.sha256([path], say)[0]) != meta["files"][name]:
                raise _damaged(folder, f"the checksum of {name} is wrong")
            arrays[name] = _array(path)
        spec = Spec(**meta["spec"])
        splits = {split: ArrayRows(arrays[f"{split}.npy"], np.array(arrays[f"{split}_labels.npy"])) for split in _splits(meta)}
        return Decoded(spec, splits, tuple(meta["names"]), str(meta["fingerprint"]), str(meta["told"]))
    except _DAMAGES as error:
        if of_the_system(error):
            raise
        raise _damaged(folder, str(error)) from None


def _array(path: Path) -> NDArray[Any]:
    """A file of rows that are read when they are used. Raises Unreadable if it is no regular file, which NumPy would wait for."""
    os.close(open_regular(path))
    try:
        return np.load(path, mmap_mode="r")
    except OSError:
        raise
    except Exception as error:  # a header is Python's source, and NumPy lets through whatever reading that raises
        raise ValueError(f"{path.name}: {error}") from None


def _meta(place: _Place) -> dict[str, Any]:
    """What is kept of a data set beside its arrays. Raises DataError if it is not as it was written, or there in place of
    another."""
    meta: dict[str, Any] = read_json(place.folder / "meta.json")
    if meta.pop("seal") != _seal(meta):
        raise _damaged(place.folder, "the checksum of meta.json is wrong")
    if (request := meta.get("request")) != place.request:
        of = "of an older version" if request is None else "of other data or other settings"
        raise DataError(f"the decoded data in {place.folder} is {of}", f"remove {place.folder} and run again")
    return meta


def _splits(meta: Mapping[str, Any]) -> list[str]:
    return [name.removesuffix("_labels.npy") for name in meta["files"] if name.endswith("_labels.npy")]


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(f"the decoded data in {folder} is damaged: {what}", f"remove {folder} and run again")
