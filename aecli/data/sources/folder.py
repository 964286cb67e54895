"""`name: folder`: PNG and JPEG files, labels from sub-folders, with `train` and `test` sub-folders or without."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from aecli.config.schema import Data
from aecli.data.sources.base import Images, Labels, Layout, Origin, fixed_shuffle, stack
from aecli.errors import DataError

_SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 50_000_000
"""More in one file is taken for a decompression bomb."""


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

    def _decode(self, path: Path) -> Images:
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(f"{path}: {image.width}x{image.height} pixels are more than any sane data set holds")
                return self._layout.arrange(image, str(path))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
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
