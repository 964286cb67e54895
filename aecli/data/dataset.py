"""Opens the data set of a config: prepared, decoded once, split, and in the tier that suits its size."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aecli.config import Data, SettingError
from aecli.core import Spec
from aecli.data.binarize import draw_fixed
from aecli.data.rows import ArrayRows, Rows, StreamRows
from aecli.data.source import Say, Source
from aecli.errors import DataError
from aecli.files import exclusive, fsync_tree, sha256_file, write_json

DEVICE_BYTES = 2 * 2**30
"""Decoded images up to this size live on the device."""
_FORMAT = 1
_CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Dataset:
    """`tier` is where the train rows live: on the `device`, in a `memmap`, or decoded as a `stream`. `fingerprint` names the
    exact bytes (of a stream: the origin)."""

    spec: Spec
    train: Rows
    validation: Rows
    test: Rows
    tier: str
    fingerprint: str
    drawn_from: Mapping[str, Rows] = dataclasses.field(default_factory=dict[str, Rows])
    """Of a frozen draw, the gray rows by split."""

    def split(self, name: str) -> Rows:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def intensity(self, name: str) -> Rows:
        """The rows of a split as they were before any binarization."""
        return self.drawn_from.get(name, self.split(name))


def cache_root() -> Path:
    """Where prepared and decoded data is kept: AECLI_DATA_DIR, or aecli in the user's cache folder."""
    if given := os.environ.get("AECLI_DATA_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aecli"


def open_dataset(data: Data, say: Say = lambda line: None) -> Dataset:
    """Raises SettingError where the config does not fit the data, DataError where the data cannot be had or read."""
    decoded = _decoded(data, say) if data.tier != "stream" else None
    if decoded is None:
        source = _source(data, say)
        spec = Spec(*source.origin.shape, source.origin.classes)
        train: Rows = StreamRows(source, "train", 0, source.origin.sizes["train"])
        test: Rows = StreamRows(source, "test", 0, source.origin.sizes["test"])
        tier, fingerprint = "stream", hashlib.sha256(source.origin.identity.encode()).hexdigest()
    else:
        spec, train, test, fingerprint = decoded
        small = train.images.nbytes <= DEVICE_BYTES
        tier = data.tier if data.tier != "auto" else "device" if small else "memmap"
    train, validation = _split(data, train)
    drawn_from: dict[str, Rows] = {}
    if data.binarize == "fixed":
        drawn_from = {"validation": validation, "test": test}
        validation, test = draw_fixed([validation, test])
    return Dataset(spec, train, validation, test, tier, fingerprint, drawn_from)


def _split(data: Data, rows: Rows) -> tuple[Rows, Rows]:
    n = len(rows)
    held_out = data.validation if isinstance(data.validation, int) else round(data.validation * n)
    if held_out >= n:
        raise SettingError(("data", "validation"), "bad-value", f"{held_out} images held out of {n} leave none to train on")
    if data.batch_size > n - held_out:
        message = f"a batch of {data.batch_size} is larger than the {n - held_out} images to train on"
        raise SettingError(("data", "batch_size"), "bad-value", message, help=f"at most {n - held_out}")
    return rows.part(0, n - held_out), rows.part(n - held_out, n)


def _source(data: Data, say: Say) -> Source:
    if data.name == "folder":
        from aecli.data.folder import FolderSource

        return FolderSource(data)
    if data.name == "npz":
        from aecli.data.npz import NpzSource

        return NpzSource(data)
    from aecli.data.tfds_source import TfdsSource

    root = cache_root() / "tfds"
    root.mkdir(parents=True, exist_ok=True)
    return TfdsSource(data, root, say)


def _decoded(data: Data, say: Say) -> tuple[Spec, ArrayRows, ArrayRows, str] | None:
    """The decoded cache of a data set, made where it is missing; None where it would not fit on the disk.

    A TFDS name is looked up before tensorflow_datasets is imported, which takes longer than reading the cache.
    """
    own_files = data.name in ("folder", "npz")
    source = _source(data, say) if own_files else None
    request = {
        "format": _FORMAT,
        "name": data.name,
        "identity": source.origin.identity if source else None,
        "size": data.size,
        "channels": data.channels,
        "test": data.test,
    }
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_root() / "decoded" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', data.name)}-{digest}"
    if not (folder / "meta.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(folder.parent / ".lock"):
            if not (folder / "meta.json").is_file():
                source = source or _source(data, say)
                if not _fits(source, folder.parent):
                    return None
                _decode(source, folder, data.name, say)
    return _load(folder)


def _fits(source: Source, folder: Path) -> bool:
    needed = sum(source.origin.sizes.values()) * int(np.prod(source.origin.shape))
    return 2 * needed < shutil.disk_usage(folder).free


def _decode(source: Source, folder: Path, name: str, say: Say) -> None:
    """Writes the arrays of both splits into a temporary folder that is moved into place when it is whole."""
    say(f"decoding {sum(source.origin.sizes.values()):,} images of {name} (once)")
    for stale in folder.parent.glob(f".{folder.name}.tmp-*"):  # of a process that was killed; this one holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.tmp-", dir=folder.parent))
    try:
        files: dict[str, str] = {}
        for split, n in source.origin.sizes.items():
            shape = (n, *source.origin.shape)
            images = np.lib.format.open_memmap(temporary / f"{split}.npy", "w+", np.uint8, shape)
            labels = np.empty(n, np.int32)
            for start in range(0, n, _CHUNK):
                index = np.arange(start, min(start + _CHUNK, n))
                chunk, labels[index] = source.read(split, index)
                if chunk.shape[1:] != source.origin.shape:
                    raise DataError(
                        f"images differ in size: the first is {source.origin.shape}, one from {start} on is {chunk.shape[1:]}",
                        "set data.size: [height, width] to resize",
                    )
                images[index] = chunk
            images.flush()
            np.save(temporary / f"{split}_labels.npy", labels)
            for file in (f"{split}.npy", f"{split}_labels.npy"):
                files[file] = sha256_file(temporary / file)
        fingerprint = hashlib.sha256("".join(files[name] for name in sorted(files)).encode()).hexdigest()
        meta = {"shape": source.origin.shape, "classes": source.origin.classes, "files": files, "fingerprint": fingerprint}
        write_json(temporary / "meta.json", meta)
        fsync_tree(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path) -> tuple[Spec, ArrayRows, ArrayRows, str]:
    """Opens a decoded cache. Small files, whose bytes are about to be used anyway, are checked against their checksums."""

    def damaged(what: str) -> DataError:
        return DataError(f"the decoded data in {folder} is damaged: {what}", f"remove {folder} and run again")

    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_bytes())
        arrays: dict[str, Any] = {}
        for name, digest in meta["files"].items():
            path = folder / name
            if path.stat().st_size <= DEVICE_BYTES and sha256_file(path) != digest:
                raise damaged(f"the checksum of {name} is wrong")
            arrays[name] = np.load(path, mmap_mode="r")
        height, width, channels = meta["shape"]
        spec = Spec(height, width, channels, meta["classes"])
        train, test = (ArrayRows(arrays[f"{split}.npy"], np.array(arrays[f"{split}_labels.npy"])) for split in ("train", "test"))
        return spec, train, test, str(meta["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise damaged(str(error)) from None


def subset(dataset: Dataset, train: int, held_out: int) -> Dataset:
    """The first rows of each split: for trying a config out."""
    return dataclasses.replace(
        dataset,
        train=dataset.train.part(0, min(train, len(dataset.train))),
        validation=dataset.validation.part(0, min(held_out, len(dataset.validation))),
        test=dataset.test.part(0, min(held_out, len(dataset.test))),
        drawn_from={name: rows.part(0, min(held_out, len(rows))) for name, rows in dataset.drawn_from.items()},
    )


def check_name(name: str) -> None:
    """Raises SettingError for the name of a data set that there is not."""
    if name not in ("folder", "npz"):
        from aecli.data import tfds_source

        tfds_source.check_name(name)


def peek(data: Data) -> Spec | None:
    """What the images look like, as far as that is known without preparing anything. Raises SettingError for a name that
    does not exist, DataError for own files that cannot be read."""
    if data.name in ("folder", "npz"):
        source = _source(data, lambda line: None)
        return Spec(*source.origin.shape, source.origin.classes)
    from aecli.data.tfds_source import declared

    shape, classes = declared(data.name, cache_root() / "tfds")
    height, width = data.size or shape[:2]
    channels = data.channels or shape[2]
    return None if None in (height, width, channels) else Spec(height, width, channels, classes)
