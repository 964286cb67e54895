"""The two photographs in scikit-learn's package, the patches that `photos` cuts from them, and which of these belong together.

Without tensorflow_datasets, whose import takes longer than all of this.
"""

from __future__ import annotations

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aecli.data.sources.base import Images, Layout

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


REGION = 3
"""Patches across, and down, a region of a photograph, or one fewer where a band is no multiple of it."""
# A stride of 7 puts train patches everywhere on JPEG's grid of 8x8 pixels, in which they would else all lie alike.
BANDS = {"train": Band(0, 320, 7), "test": Band(352, 512, SIDE), "validation": Band(544, WIDTH, SIDE)}


def images() -> Path:
    """The folder of scikit-learn's pictures, without an import of its data sets, which takes a second."""
    found = find_spec("sklearn")
    return Path((found and found.origin) or "sklearn").parent / "datasets" / "images"


def photograph(name: str) -> NDArray[np.uint8]:
    """One of the photographs, uint8 [427, 640, 3]. Raises ValueError if scikit-learn holds another file under this name, OSError
    if it holds none."""
    raw = (images() / f"{name}.jpg").read_bytes()
    if hashlib.sha256(raw).hexdigest() != FILES[name]:
        raise ValueError(f"{name}.jpg in this scikit-learn is another file than the one that `photos` is made of")
    with Image.open(io.BytesIO(raw), formats=("JPEG",)) as image:
        return np.asarray(image.convert("RGB"))


def regions(split: str, patches: Images, layout: Layout) -> NDArray[np.int32] | None:
    """Which region of a photograph each held-out patch [n, H, W, C] of a split was cut from, by number; None if an image is none
    of its patches, or the photographs are not here. The patches of a split are dealt to regions of about REGION by REGION of
    them, each of one photograph.

    They are found by their pixels, as `layout` arranges them: neither the order of a split nor what is left out of it matters."""
    band = BANDS[split]
    across = len(range(band.left, band.right - SIDE + 1, band.stride))
    down = len(band.corners()) // across
    found: dict[bytes, int] = {}
    for number, name in enumerate(FILES):
        try:
            pixels = photograph(name)
        except (OSError, ValueError):  # the patches are decoded already, by another scikit-learn
            return None
        for at, (top, left) in enumerate(band.corners()):
            row, column = (_even(place, n) for place, n in zip(divmod(at, across), (down, across), strict=True))
            patch = layout.arrange_array(np.ascontiguousarray(pixels[top : top + SIDE, left : left + SIDE]), name)
            found[patch.tobytes()] = (number * down + row) * across + column
    told = [found.get(image.tobytes()) for image in patches]
    return None if None in told else np.asarray(told, np.int32)


def _even(place: int, n: int) -> int:
    """In which part a place lies, of n places that are cut into parts of REGION, or some of one fewer."""
    return place * -(-n // REGION) // n
