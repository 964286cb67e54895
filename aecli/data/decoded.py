"""The cache of decoded images: each data set is decoded once, into arrays with checksums."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from aecli.config.schema import OWN_FILES, Data
from aecli.core.model import Spec
from aecli.data.rows import ArrayRows
from aecli.data.sources.base import Say, Source
from aecli.data.sources.registry import open_source, version_of
from aecli.errors import DataError
from aecli.system.files import exclusive, fsync_tree, sha256_file, write_json
from aecli.system.folders import cache_root

DEVICE_BYTES = 2 * 2**30
"""Decoded images up to this size live on the device."""
_FORMAT = 1
_CHUNK = 4096


def open_decoded(data: Data, say: Say) -> tuple[Spec, ArrayRows, ArrayRows, str] | None:
    """The decoded cache of a data set, made where it is missing; None if it would not fit on the disk.

    A TFDS name is looked up before tensorflow_datasets is imported, which takes longer than reading the cache.
    """
    source = open_source(data, say) if data.name in OWN_FILES else None
    request = {
        "format": _FORMAT,
        "name": data.name,
        "identity": source.origin.identity if source else None,
        "size": data.size,
        "channels": data.channels,
        "test": data.test,
    }
    if (version := version_of(data.name)) is not None:
        request["version"] = version
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_root() / "decoded" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', data.name)}-{digest}"
    if not (folder / "meta.json").is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(folder.parent / ".lock"):
            if not (folder / "meta.json").is_file():
                source = source or open_source(data, say)
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
