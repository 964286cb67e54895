"""`name: npz`: one NumPy file with `image` [n, H, W] or [n, H, W, C], optional `label` [n], and optional `test_image` and
`test_label`. Intensities are uint8, or floats in [0, 1] that are rounded to 8 bit."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import Data
from aecli.data.sources.base import Images, Labels, Layout, Origin, fixed_shuffle, stack
from aecli.errors import DataError

MAX_BYTES = 16 * 2**30
"""A file that unpacks to more is refused before it is unpacked."""


class NpzSource:
    def __init__(self, data: Data) -> None:
        assert data.path is not None
        self._path, self._layout = Path(data.path), Layout.of(data)
        arrays = self._load()
        images = self._images(arrays, "image")
        labels = self._label_array(arrays, "label", len(images))
        if "test_image" in arrays:
            test_images = self._images(arrays, "test_image")
            test_labels = self._label_array(arrays, "test_label", len(test_images))
        else:
            order = fixed_shuffle(len(images))
            cut = len(images) - max(1, round(data.test * len(images)))
            test_images, test_labels = images[order[cut:]], labels[order[cut:]]
            kept = np.sort(order[:cut])
            images, labels = images[kept], labels[kept]
        self._images_of = {"train": images, "test": test_images}
        self._labels_of = {"train": labels, "test": test_labels}
        if not len(images):
            raise DataError(f"{self._path} holds too few images to hold some out")
        height, width, channels = self._layout.arrange_array(images[0], "image[0]").shape
        everything = np.concatenate([labels, test_labels])
        classes = 0 if (everything < 0).any() else int(everything.max()) + 1
        status = self._path.stat()
        identity = f"{self._path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
        sizes = {split: len(array) for split, array in self._images_of.items()}
        self.origin = Origin((height, width, channels), classes, sizes, identity)

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        chosen = self._images_of[split][index]
        if self._layout != Layout(None, None):
            chosen = stack(
                [self._layout.arrange_array(image, f"image[{i}]") for i, image in zip(index, chosen, strict=True)], str
            )
        return chosen, self._labels_of[split][index]

    def _load(self) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_BYTES:
                raise DataError(f"{self._path} unpacks to {unpacked:,} bytes, more than {MAX_BYTES:,}")
            with np.load(self._path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise DataError(f"{self._path}: no such file", "set data.path to an .npz file with an array 'image'") from None
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
            raise DataError(f"{self._path}: no readable .npz file: {error}") from None

    def _images(self, arrays: Mapping[str, Any], name: str) -> Images:
        if name not in arrays:
            raise DataError(f"{self._path} holds no array '{name}', only {', '.join(sorted(arrays)) or 'nothing'}")
        array = arrays[name]
        if array.ndim == 3:
            array = array[..., None]
        if array.ndim != 4 or array.shape[-1] not in (1, 3) or not array.size:
            raise DataError(f"{self._path}: '{name}' must be [n, H, W] or [n, H, W, C] with C 1 or 3, it is {list(array.shape)}")
        if array.dtype == np.uint8:
            return array
        if not np.issubdtype(array.dtype, np.floating):
            raise DataError(f"{self._path}: '{name}' must be uint8, or float in [0, 1], it is {array.dtype}")
        if not (array.min() >= 0 and array.max() <= 1):  # also false for NaN
            raise DataError(f"{self._path}: '{name}' is float and leaves [0, 1]", "divide by 255, or store uint8")
        return np.rint(array * 255).astype(np.uint8)

    def _label_array(self, arrays: Mapping[str, Any], name: str, n: int) -> Labels:
        if name not in arrays:
            return np.full(n, -1, np.int32)
        labels = arrays[name]
        if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer) or (n and labels.min() < 0):
            raise DataError(f"{self._path}: '{name}' must be {n} whole numbers from 0, it is {labels.dtype} {list(labels.shape)}")
        return labels.astype(np.int32)
