"""Points in a plane as a picture, in the colours of their classes."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aecli.sampling.pictures import cut, drawable

SIDE, _MARGIN, _KEY = 720, 36, 190
"""Pixels of the square that points lie in, around it, and of the key of the classes."""
_FINER = 2
"""Drawn so much larger and made smaller again: the edges of the points are smooth then."""
_RADIUS = {500: 5.0, 2_500: 3.5}
"""Pixels of a point, of so many at most; of more _SMALLEST."""
_SMALLEST = 2.2
_INK, _PAPER, _NO_CLASS = (40, 40, 40), (255, 255, 255), (110, 110, 110)
_COLOURS = ("0072b2", "e69f00", "009e73", "cc79a7", "d55e00", "56b4e9", "8b6914", "7f7f7f", "b8a800", "5e3c99")
"""Of the first classes: those of Okabe & Ito (2008), which eyes that do not tell red from green tell apart, and more."""


def scatter(points: Any, labels: Any, names: Sequence[str], axes: tuple[str, str]) -> Image.Image:
    """Points [n, 2] in a square, both axes to one scale; `labels` [n] are numbers of the classes that `names` has, -1 of none.
    The key names the classes that occur."""
    occurring = [int(label) for label in np.unique(labels) if label >= 0]
    width = SIDE + 2 * _MARGIN + (_KEY if occurring else 0)
    large = Image.new("RGB", (_FINER * width, _FINER * (SIDE + 2 * _MARGIN)), _PAPER)
    draw = ImageDraw.Draw(large)
    radius = _FINER * next((r for most, r in _RADIUS.items() if len(points) <= most), _SMALLEST)
    colours = {label: _colour(label, max([*occurring, 0]) + 1) for label in occurring}
    order = np.random.default_rng(0).permutation(len(points))  # no class lies on top of the others
    for (x, y), label in zip(_placed(points)[order], np.asarray(labels)[order], strict=True):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colours.get(int(label), _NO_CLASS))
    picture = large.resize((width, SIDE + 2 * _MARGIN), Image.Resampling.LANCZOS)
    _write(ImageDraw.Draw(picture), axes, {names[label]: colour for label, colour in colours.items()})
    return picture


def _placed(points: Any) -> Any:
    """In pixels of the large picture, the second axis upwards."""
    points = np.asarray(points, np.float64)
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 2 * max(_RADIUS.values())) / ((high - low).max() or 1.0)
    centred = (points - (low + high) / 2) * scale * (1, -1)
    return _FINER * (centred + SIDE / 2 + _MARGIN)


def _write(draw: ImageDraw.ImageDraw, axes: tuple[str, str], key: dict[str, tuple[int, int, int]]) -> None:
    font = ImageFont.load_default(13)
    bottom = SIDE + 2 * _MARGIN
    draw.text((_MARGIN + SIDE // 2, bottom - _MARGIN // 2), axes[0], fill=_INK, font=font, anchor="mm")
    draw.text((_MARGIN, _MARGIN // 2), f"{axes[1]} (upwards)" if axes[1] else "", fill=_INK, font=font, anchor="lm")
    line = min(22, SIDE // max(1, len(key)))
    left = SIDE + 2 * _MARGIN
    for at, (name, colour) in enumerate(zip(drawable(list(key)), key.values(), strict=True)):
        y = _MARGIN + line * at + line // 2
        draw.ellipse((left - 5, y - 5, left + 5, y + 5), fill=colour)
        if line >= 12:  # of hundreds of classes no names could be read
            draw.text((left + 14, y), cut(name, font, _KEY - 24), fill=_INK, font=font, anchor="lm")


def _colour(label: int, classes: int) -> tuple[int, int, int]:
    if classes <= len(_COLOURS):
        value = int(_COLOURS[label], 16)
        return value >> 16, value >> 8 & 255, value & 255
    ring = ceil(classes / 2)  # around the hues twice, once darker
    red, green, blue = colorsys.hsv_to_rgb(label % ring / ring, 0.75, 0.9 if label < ring else 0.55)
    return round(255 * red), round(255 * green), round(255 * blue)
