"""TFDS builder `photos`: patches of 32x32 pixels of the two photographs in scikit-learn's package (see embedded/LICENSE.md).

Patches of one photograph resemble each other, and all the more where they are near. So each split is a band of each photograph,
from top to bottom, with a gap of a patch's side to the next one: no pixel of a train patch is nearer than 32 pixels to one of a
held-out patch. Held-out patches don't overlap. They are of two photographs all the same, and what is measured on them says little
about a third one. Errors are over regions of neighbouring patches (`photographs.regions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from aecli.data.sources.photographs import BANDS, FILES, SIDE, Band, photograph


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
