"""The name of exactly these pixels and labels: the same for a decoded cache and for a stream, wherever the data lies."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aecli.data.sources.base import Images, Labels, Source
from aecli.errors import DataError

AT_ONCE_BYTES = 64 * 2**20
_AT_ONCE = 4096


def of_files(digests: Mapping[str, str]) -> str:
    """The fingerprint of decoded arrays, from the SHA-256 of each of their npy files by name."""
    return hashlib.sha256("".join(digests[name] for name in sorted(digests)).encode()).hexdigest()


def of_source(source: Source) -> str:
    """The same of arrays that are never written: their npy files are hashed in pieces. Raises DataError if an image cannot be
    read or is of another size than the first."""
    digests: dict[str, str] = {}
    for split, n in source.origin.sizes.items():
        images = hashlib.sha256(_header(np.dtype(source.origin.dtype), (n, *source.origin.spec.row_shape)))
        labels = hashlib.sha256(_header(np.dtype(np.int32), (n,)))
        for _, some, of_some in pieces(source, split):
            images.update(np.ascontiguousarray(some, source.origin.dtype).data)
            labels.update(np.ascontiguousarray(of_some, np.int32).data)
        digests |= {f"{split}.npy": images.hexdigest(), f"{split}_labels.npy": labels.hexdigest()}
    return of_files(digests)


def pieces(source: Source, split: str) -> Iterator[tuple[NDArray[np.int64], Images, Labels]]:
    """A whole split, some rows at a time: their index, images and labels. Raises DataError if images differ in size."""
    n, shape = source.origin.sizes[split], source.origin.spec.row_shape
    step = max(1, min(_AT_ONCE, AT_ONCE_BYTES // max(1, int(np.prod(shape)))))
    for start in range(0, n, step):
        index = np.arange(start, min(start + step, n))
        images, labels = source.read(split, index)
        if images.shape[1:] != shape:
            raise DataError(
                f"images differ in size: the first is {shape}, one from {start} on is {images.shape[1:]}",
                "set data.size: [height, width] to resize",
            )
        yield index, images, labels


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What an npy file begins with."""
    buffer = io.BytesIO()
    form = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, form)
    return buffer.getvalue()
