"""TFDS builder `shapes`: 7,680 images of 32x32 pixels, one white shape on black, every combination of known factors.

In the spirit of dSprites (Matthey et al. 2017), small enough to be drawn on the spot. A square looks the same after a quarter
turn, so `angle` is no fair factor for a disentanglement score.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from PIL import Image

SHAPES = ("square", "ellipse", "heart")
FACTORS = {"shape": 3, "scale": 4, "angle": 10, "x": 8, "y": 8}
SIZE = 32
_SUPERSAMPLING = 3


def render(shape: int, scale: int, angle: int, x: int, y: int) -> NDArray[np.uint8]:
    """The image of one combination of factors, uint8 [32, 32], drawn at three times the size and averaged."""
    n = SIZE * _SUPERSAMPLING
    grid = (np.arange(n) + 0.5) / n * 2 - 1
    radius = 0.22 + 0.06 * scale
    reach = 0.42  # the centre stays where the largest shape is inside the frame at any angle
    dx, dy = np.meshgrid(grid - (2 * x / 7 - 1) * reach, grid - (2 * y / 7 - 1) * reach)
    turn = 2 * np.pi * angle / FACTORS["angle"]
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / radius
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / radius
    if SHAPES[shape] == "square":
        inside = np.maximum(abs(u), abs(v)) < 0.9
    elif SHAPES[shape] == "ellipse":
        inside = u**2 + (2 * v) ** 2 < 1.2
    else:
        inside = (1.2 * u) ** 2 + (0.2 - 1.2 * v - 0.8 * np.sqrt(abs(1.2 * u))) ** 2 < 1
    blocks = inside.reshape(SIZE, _SUPERSAMPLING, SIZE, _SUPERSAMPLING)
    return np.rint(blocks.mean((1, 3)) * 255).astype(np.uint8)


class Shapes(tfds.core.GeneratorBasedBuilder):
    """6,912 train and 768 test images in a fixed permutation; the label is the shape, every factor is a feature."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(SIZE, SIZE, 1), dtype=np.uint8, encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(SHAPES)),
        }
        features |= {name: tfds.features.ClassLabel(num_classes=n) for name, n in FACTORS.items() if name != "shape"}
        return self.dataset_info_from_configs(
            description="One white shape on black, every combination of shape, scale, angle and position.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        order = np.random.default_rng(0).permutation(int(np.prod(list(FACTORS.values()))))
        cut = len(order) * 9 // 10
        return {"train": self._examples(order[:cut]), "test": self._examples(order[cut:])}

    def _generate_examples(self, **kwargs: Any) -> Any:
        raise NotImplementedError("each split has its own generator")

    @staticmethod
    def _examples(index: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in index:
            shape, scale, angle, x, y = (int(f) for f in np.unravel_index(i, tuple(FACTORS.values())))
            buffer = io.BytesIO()
            Image.fromarray(render(shape, scale, angle, x, y)).save(buffer, "PNG")
            yield int(i), {"image": buffer.getvalue(), "label": shape, "scale": scale, "angle": angle, "x": x, "y": y}
