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
from PIL import Image

from aecli.data.sources.factors import FACTORS, SHAPES, SIZE, render


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
