"""TFDS builder `digits`: 1,797 handwritten digits of 8x8 pixels, embedded in the package (see embedded/LICENSE.md)."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,500 train and 297 test images in a fixed permutation; the intensities 0 to 16 become 0 to 255."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> Any:
        return self.dataset_info_from_configs(
            description="The test set of UCI's optical recognition of handwritten digits, as scikit-learn distributes it.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8, encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://doi.org/10.24432/C50P49",
            license="see aecli/data/embedded/LICENSE.md",
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        raw = resources.files("aecli.data").joinpath("embedded/digits.csv.gz").read_bytes()
        rows = np.loadtxt(io.StringIO(gzip.decompress(raw).decode()), delimiter=",", dtype=np.int64)
        order = np.random.default_rng(0).permutation(len(rows))
        return {"train": self._examples(rows, order[:1500]), "test": self._examples(rows, order[1500:])}

    def _generate_examples(self, **kwargs: Any) -> Any:
        raise NotImplementedError("each split has its own generator")

    @staticmethod
    def _examples(rows: Any, index: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in index:
            pixels = np.rint(rows[i, :64].reshape(8, 8) * (255 / 16)).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            yield int(i), {"image": buffer.getvalue(), "label": int(rows[i, 64])}
