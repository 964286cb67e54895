"""Files of images and arrays as people have them, for tests of how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aecli.config.schema import Data
from aecli.data.dataset import Dataset, open_dataset


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock")


def write_images(
    folder: Path, labels: dict[str, int], size: tuple[int, int] = (6, 5), mode: str = "L", kind: str = "png"
) -> None:
    rng = np.random.default_rng(0)
    for label, n in labels.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            shape = size if mode == "L" else (*size, 3)
            Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / label / f"{i:02d}.{kind}")


def save(path: Path, image: Any, **more: Any) -> Path:
    """An image, or an array of one, as the file that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **more)
    return path


def gray(seed: int = 0, shape: tuple[int, ...] = (6, 5)) -> Any:
    """An image that fills the range of 8 bits."""
    image = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    image.flat[0], image.flat[-1] = 0, 255
    return image


def opened(name: str, path: Path, **settings: Any) -> tuple[Dataset, str]:
    """The data, and what was told of it."""
    lines: list[str] = []
    dataset = open_dataset(Data(name=name, path=str(path), **{"batch_size": 1, "validation": 0} | settings), lines.append)
    return dataset, "\n".join(lines)


def rows_of(dataset: Dataset, split: str) -> tuple[Any, Any]:
    rows = dataset.split(split)
    return rows.take(np.arange(len(rows)))


def labels_by_name(dataset: Dataset) -> dict[str, int]:
    """How many images of all splits have each class."""
    labels = np.concatenate([rows_of(dataset, split)[1] for split in ("train", "validation", "test")])
    return {name: int((labels == i).sum()) for i, name in enumerate(dataset.class_names)}
