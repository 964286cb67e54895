"""TFDS builder `photos`: patches of 32x32 pixels of the two photographs in scikit-learn's package (see embedded/LICENSE.md).

Patches of one photograph resemble each other, and all the more where they are near. So each split is a band of each photograph,
from top to bottom, with a gap of a patch's side to the next one: no pixel of a train patch is nearer than 32 pixels to one of a
held-out patch. Held-out patches don't overlap. They are of two photographs all the same, and what is measured on them says little
about a third one.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
HEIGHT, WIDTH = 427, 640
FILES = {
    "china": "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    "flower": "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
}
"""The photographs in the order of their labels, and the SHA-256 of their JPEG files."""


class Band(NamedTuple):
    """Patches whose columns are from `left` to before `right`, one every `stride` pixels each way."""

    left: int
    right: int
    stride: int

    def corners(self) -> list[tuple[int, int]]:
        """The top and the left of each patch."""
        rows = range(0, HEIGHT - SIDE + 1, self.stride)
        return [(top, left) for top in rows for left in range(self.left, self.right - SIDE + 1, self.stride)]


# A stride of 7 puts train patches everywhere on JPEG's grid of 8x8 pixels, in which they would else all lie alike.
BANDS = {"train": Band(0, 320, 7), "test": Band(352, 512, SIDE), "validation": Band(544, WIDTH, SIDE)}


class Photos(tfds.core.GeneratorBasedBuilder):
    """4,788 train, 78 validation and 130 test patches, half of each split from either photograph, which is the label."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            description="Patches of the photographs china.jpg and flower.jpg, as scikit-learn distributes them.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(FILES)),
                }
            ),
            supervised_keys=("image", "label"),
            license="see aecli/data/embedded/LICENSE.md",
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        photographs = [photograph(name) for name in FILES]
        return {split: self._examples(photographs, band) for split, band in BANDS.items()}

    def _generate_examples(self, **kwargs: Any) -> Any:
        raise NotImplementedError("each split has its own generator")

    @staticmethod
    def _examples(photographs: Any, band: Band) -> Iterator[tuple[str, dict[str, Any]]]:
        for label, pixels in enumerate(photographs):
            for top, left in band.corners():
                patch = pixels[top : top + SIDE, left : left + SIDE]
                yield f"{label} {top} {left}", {"image": np.ascontiguousarray(patch), "label": label}


def photograph(name: str) -> NDArray[np.uint8]:
    """One of the photographs, uint8 [427, 640, 3]. Raises ValueError if scikit-learn holds another file under this name."""
    raw = resources.files("sklearn.datasets").joinpath(f"images/{name}.jpg").read_bytes()
    if hashlib.sha256(raw).hexdigest() != FILES[name]:
        raise ValueError(f"{name}.jpg in this scikit-learn is another file than the one that `photos` is made of")
    with Image.open(io.BytesIO(raw), formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))
