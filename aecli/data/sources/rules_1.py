"""Folders and npz files as they were read by rules 1, before `run.json` said by which: what runs of that time were trained on.

Nothing here is for new runs, and nothing here may change. It knows no EXIF, transparency, 16 bit, natural order or validation
folder, and labels go where one image has none.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aecli.config.schema import Data
from aecli.data.sources.base import Images, Labels, Layout, Origin, fixed_shuffle, stack
from aecli.errors import DataError
from aecli.system.own import check_own
from aecli.system.reading import of_the_system

_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 50_000_000
"""More in one file is taken for a decompression bomb."""
MAX_BYTES = 16 * 2**30
"""A file that unpacks to more is refused before it is unpacked."""


class FolderSource:
    """The files in a fixed shuffled order, since neighbours on disk tend to have one label."""

    def __init__(self, data: Data) -> None:
        assert data.path is not None
        self._layout = Layout.of(data)
        root = Path(data.path)
        if not root.is_dir():
            raise DataError(f"{root} is not a folder", "set data.path to a folder of PNG or JPEG files")
        parts = {split: root / split for split in ("train", "test")}
        if all(part.is_dir() for part in parts.values()):
            files = {split: _list(part) for split, part in parts.items()}
        else:
            files = {"train": _list(root)}
        if not any(files.values()):
            raise DataError(f"{root} holds no PNG or JPEG files")
        names = sorted({label for listed in files.values() for _, label in listed if label is not None})
        unlabelled = any(label is None for listed in files.values() for _, label in listed)
        number = {} if unlabelled else {name: i for i, name in enumerate(names)}
        shuffled = {split: [listed[i] for i in fixed_shuffle(len(listed))] for split, listed in files.items()}
        if "test" not in shuffled:
            everything = shuffled["train"]
            cut = len(everything) - max(1, round(data.test * len(everything)))
            shuffled = {"train": everything[:cut], "test": everything[cut:]}
        self._files = {split: [path for path, _ in listed] for split, listed in shuffled.items()}
        self._labels = {
            split: np.array([number.get(label or "", -1) for _, label in listed], np.int32) for split, listed in shuffled.items()
        }
        self._first = (self._files["train"] or self._files["test"])[0]
        height, width, channels = self._decode(self._first).shape
        sizes = {split: len(listed) for split, listed in self._files.items()}
        digest = _digest(root, [path for listed in self._files.values() for path in listed])
        self.origin = Origin((height, width, channels), len(number), sizes, digest)

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        paths = [self._files[split][i] for i in index]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            images = list(pool.map(self._decode, paths))
        if images and images[0].shape != self.origin.shape:
            paths, images = [self._first, *paths], [self._decode(self._first), *images]  # for the message
        return stack(images, lambda i: str(paths[i])), self._labels[split][index]

    def converted(self) -> tuple[str, ...]:
        return ()

    def _decode(self, path: Path) -> Images:
        try:
            check_own(path)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{path}: {image.width}x{image.height} pixels are more than any sane data set holds")
                return self._layout.arrange(image, str(path))
        except DataError:
            raise
        except Exception as error:  # of damaged bytes Pillow raises nearly everything
            if of_the_system(error):
                raise
            raise DataError(f"{path}: no readable image: {error}", "remove or replace the file") from None


def _list(root: Path) -> list[tuple[Path, str | None]]:
    """The image files below a folder in sorted order, with the first sub-folder as the label."""
    found: list[tuple[Path, str | None]] = []
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        relative = Path(folder).relative_to(root).parts
        for name in sorted(names):
            if name.lower().endswith(_SUFFIXES):
                found.append((Path(folder) / name, relative[0] if relative else None))
    return found


def _digest(root: Path, paths: list[Path]) -> str:
    """Changes when a file is added, removed, renamed, resized or written to."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        status = path.stat()
        digest.update(f"{path.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class NpzSource:
    """One npz file with `image`, optional `label`, `test_image` and `test_label`."""

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
        identity = f"{os.path.realpath(self._path)}:{status.st_size}:{status.st_mtime_ns}"
        sizes = {split: len(array) for split, array in self._images_of.items()}
        self.origin = Origin((height, width, channels), classes, sizes, identity)

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        chosen = self._images_of[split][index]
        if self._layout != Layout(None, None):
            chosen = stack(
                [self._layout.arrange_array(image, f"image[{i}]") for i, image in zip(index, chosen, strict=True)], str
            )
        return chosen, self._labels_of[split][index]

    def converted(self) -> tuple[str, ...]:
        return ()

    def _load(self) -> dict[str, Any]:
        try:
            check_own(self._path)
            with zipfile.ZipFile(self._path) as archive:
                unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > MAX_BYTES:
                raise DataError(f"{self._path} unpacks to {unpacked:,} bytes, more than {MAX_BYTES:,}")
            with np.load(self._path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise DataError(f"{self._path}: no such file", "set data.path to an .npz file with an array 'image'") from None
        except DataError:
            raise
        except Exception as error:  # of damaged bytes zipfile, its decompressors and NumPy raise nearly everything
            if of_the_system(error):
                raise
            raise DataError(f"{self._path}: no readable .npz file: {error}") from None

    def _array(self, arrays: Mapping[str, Any], name: str) -> Any:
        if not isinstance(arrays[name], np.ndarray):  # NumPy gives the bytes of a member that is none
            raise DataError(f"{self._path}: '{name}' is no array", "write the file with np.savez")
        return arrays[name]

    def _images(self, arrays: Mapping[str, Any], name: str) -> Images:
        if name not in arrays:
            raise DataError(f"{self._path} holds no array '{name}', only {', '.join(sorted(arrays)) or 'nothing'}")
        array = self._array(arrays, name)
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
        labels = self._array(arrays, name)
        if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer) or (n and labels.min() < 0):
            raise DataError(f"{self._path}: '{name}' must be {n} whole numbers from 0, it is {labels.dtype} {list(labels.shape)}")
        return labels.astype(np.int32)
