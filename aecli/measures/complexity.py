"""How complex an image is: its length when a lossless codec has compressed it."""

from __future__ import annotations

import io
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray


def png_nats(images: NDArray[np.integer], levels: int) -> NDArray[np.float64]:
    """The length of each image as a PNG file, [n, H, W, C] of whole numbers below `levels`, at most 256 -> [n] nats. A pixel of
    two levels is a bit; channels that are neither one nor three are put beside each other as gray images."""
    return np.array([8 * log(2) * _bytes(image, levels) for image in np.asarray(images, np.uint8)])


def _bytes(image: NDArray[np.uint8], levels: int) -> int:
    from PIL import Image

    height, _, channels = image.shape
    picture: Any = image if channels == 3 else image.transpose(0, 2, 1).reshape(height, -1)
    made = Image.fromarray(picture == 1 if levels == 2 and channels != 3 else picture)
    file = io.BytesIO()
    made.save(file, "PNG", optimize=True)
    return file.tell()
