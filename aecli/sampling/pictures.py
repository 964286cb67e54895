"""Arrays of images as labelled PNG grids."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aecli.system.files import write_atomic

CELL = 56
"""Small images are enlarged by a whole factor to about this many pixels, so that a person sees them."""
_GAP = 4
_HEAD = 18
_PAPER, _INK = 255, 40
_WIDEST = 240
"""Pixels of the longest label of a line."""
_DRAWN = {chr(code) for code in range(32, 127)}


def to_uint8(images: Any) -> NDArray[np.uint8]:
    """[0, 1] -> 0 to 255, rounded, not truncated; values outside are clipped."""
    return np.rint(np.clip(np.asarray(images, np.float32), 0, 1) * 255).astype(np.uint8)


def grid(rows: Sequence[Any], labels: Sequence[str] | None = None, heads: Sequence[str] | None = None) -> Image.Image:
    """One line of the picture per entry of `rows`, each [n, H, W, C] in [0, 1] or uint8, with its label at the left; `heads`
    stand above the columns."""
    labels = None if labels is None else [cut(label, ImageFont.load_default(13), _WIDEST) for label in drawable(labels)]
    arrays = [row if row.dtype == np.uint8 else to_uint8(row) for row in map(np.asarray, rows)]
    height, width, channels = arrays[0].shape[1:]
    zoom = max(1, round(CELL / max(height, width)))
    cell_h, cell_w = height * zoom, width * zoom
    font = ImageFont.load_default(13)
    margin = _GAP + (max(ceil(font.getlength(label)) for label in labels) + 2 * _GAP if labels else 0)
    columns = max(len(array) for array in arrays)
    above = _GAP + (_HEAD if heads else 0)
    size = (margin + columns * (cell_w + _GAP), above + len(arrays) * (cell_h + _GAP))
    picture = Image.new("RGB" if channels == 3 else "L", size, (_PAPER,) * 3 if channels == 3 else _PAPER)
    draw = ImageDraw.Draw(picture)
    ink = (_INK,) * 3 if channels == 3 else _INK
    for c, head in enumerate(drawable(heads or ())):
        text = cut(head, font, cell_w + _GAP - 2)
        draw.text((margin + c * (cell_w + _GAP) + cell_w // 2, _GAP + _HEAD // 2), text, fill=ink, font=font, anchor="mm")
    for r, array in enumerate(arrays):
        top = above + r * (cell_h + _GAP)
        if labels:
            draw.text((2 * _GAP, top + cell_h // 2), labels[r], fill=ink, font=font, anchor="lm")
        for c, image in enumerate(array):
            tile = Image.fromarray(image if channels == 3 else image[..., 0])
            picture.paste(tile.resize((cell_w, cell_h), Image.Resampling.NEAREST), (margin + c * (cell_w + _GAP), top))
    return picture


def drawable(names: Sequence[str]) -> list[str]:
    """Names in letters that the font has, which are those of ASCII: without accents, and with the place in the list, a class's
    number, where that leaves something out."""
    plain = ["".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)) for name in names]
    shown = ["".join(c if c in _DRAWN else "?" for c in name) for name in plain]
    return [after if after == before else f"{i}: {after}" for i, (before, after) in enumerate(zip(plain, shown, strict=True))]


def cut(text: str, font: Any, width: float) -> str:
    """A text that is no wider than so many pixels, its end left out if need be."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


STRIP_WIDTH, STRIP_HEIGHT, STRIPS = 768, 14, 48
_LOW, _ZERO, _HIGH = (33, 102, 172), (247, 247, 247), (178, 24, 43)
"""The colours of the least value, of 0 and of the largest, apart for eyes that do not tell red from green."""


def strips(arrays: Sequence[Any], labels: Sequence[str] | None = None) -> Image.Image:
    """Vectors [n, d] of each label, one a line, those of one number below each other: blue where a value is below 0, red where it
    is above, full at the value that one in a hundred exceeds. At most 48 lines are drawn; values too many to be told apart are
    averaged."""
    low, zero, high = (np.array(colour, np.float32) for colour in (_LOW, _ZERO, _HIGH))
    count = max(1, min(len(arrays[0]), STRIPS // len(arrays)))
    d = arrays[0].shape[1]
    columns = min(d, STRIP_WIDTH)
    edges = np.linspace(0, d, columns + 1).astype(int)[:-1]
    means = [np.add.reduceat(array[:count], edges, axis=1) / np.diff([*edges, d]) for array in arrays]
    largest = float(np.quantile(np.abs(np.concatenate(means)), 0.99)) or 1.0
    rows: list[Any] = []
    names: list[str] = []
    for i in range(count):
        for j, mean in enumerate(means):
            share = np.clip(mean[i] / largest, -1, 1)[:, None]
            colour = zero + np.abs(share) * (np.where(share < 0, low, high) - zero)
            zoom = max(1, STRIP_WIDTH // columns)
            line = np.rint(colour).astype(np.uint8).repeat(zoom, axis=0)
            rows.append(np.broadcast_to(line, (STRIP_HEIGHT, *line.shape))[None])
            names.append(f"{labels[j]} {i}" if labels else f"{i}")
    return grid(rows, names)


def save(path: Path, picture: Image.Image) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
