"""TFDS builder `shapes`: 5,120 images of 32x32 pixels, one white shape on black, every combination of known factors.

In the spirit of dSprites (Matthey et al. 2017), small enough to be drawn on the spot. A square looks the same after a quarter
turn and an ellipse after half a turn, so `angle` is no fair factor for a disentanglement score, and of the 7,680 combinations
5,120 give an image of their own.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from aecli.data.sources.factors import FACTORS, SHAPES, SIZE, VERSIONS, render

_FIRST, _NEWEST = min(VERSIONS), max(VERSIONS)


class Shapes(tfds.core.GeneratorBasedBuilder):
    """4,608 train and 512 test images, no two of them equal, a tenth of each shape in test; the label is the shape (1,280
    squares, 1,280 ellipses, 2,560 hearts), every factor is a feature, the angle the least that gives the image."""

    VERSION = tfds.core.Version(VERSIONS[_NEWEST])
    SUPPORTED_VERSIONS = [tfds.core.Version(VERSIONS[_FIRST])]  # noqa: RUF012 (tfds adds it to a list)
    RELEASE_NOTES = {  # noqa: RUF012 (the type is the base's)
        VERSIONS[_FIRST]: "Every combination of factors: 6,912 train and 768 test images, 451 of which are in train too.",
        VERSIONS[_NEWEST]: "Every image once.",
    }

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
        if str(self.version) == VERSIONS[_FIRST]:
            cut = len(order) * 9 // 10
            return {"train": self._examples(order[:cut]), "test": self._examples(order[cut:])}
        train, test = split(order)
        return {"train": self._examples(train), "test": self._examples(test)}

    def _generate_examples(self, **kwargs: Any) -> Any:
        raise NotImplementedError("each split has its own generator")

    @staticmethod
    def _examples(index: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in index:
            shape, scale, angle, x, y = values_of(i)
            buffer = io.BytesIO()
            Image.fromarray(render(shape, scale, angle, x, y)).save(buffer, "PNG")
            yield int(i), {"image": buffer.getvalue(), "label": shape, "scale": scale, "angle": angle, "x": x, "y": y}


def values_of(combination: int) -> tuple[int, ...]:
    """The value of each factor in a combination, which are numbered from 0."""
    return tuple(int(value) for value in np.unravel_index(combination, tuple(FACTORS.values())))


def split(order: Iterable[int]) -> tuple[list[int], list[int]]:
    """The combinations of train and of test: of each image one, the last tenth of each shape for test, in the order given."""
    first = {render(*values_of(i)).tobytes(): i for i in sorted(order, reverse=True)}  # the least stays
    distinct = set(first.values())
    of_shape: list[list[int]] = [[] for _ in SHAPES]
    for i in order:
        if i in distinct:
            of_shape[values_of(i)[0]].append(int(i))
    test = {i for some in of_shape for i in some[len(some) * 9 // 10 :]}
    kept = [int(i) for i in order if i in distinct]
    return [i for i in kept if i not in test], [i for i in kept if i in test]
