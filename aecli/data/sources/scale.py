"""From the values of a file to intensities: which of them is black and which is white, and what is refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.data.sources.base import Images
from aecli.errors import DataError

SLACK = 1e-4
"""Values that leave the range by no more of it are clipped: rounding of who made them."""
LEVELS = 8
"""Fewer levels of 255 are taken for a mistake in the range."""


class Scale(NamedTuple):
    """`black` and `white` are the values of a file that become 0 and 1."""

    black: float
    white: float

    def unit(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values of a file as floats in [0, 1], in float64 if they are that and float32 otherwise."""
        floats = values.astype(np.float64 if values.dtype.kind == "f" and values.dtype.itemsize > 4 else np.float32, copy=False)
        if (self.black, self.white) != (0, 1):
            floats = (floats - floats.dtype.type(self.black)) / floats.dtype.type(self.white - self.black)
        return np.clip(floats, 0, 1)

    def to_bytes(self, values: NDArray[Any]) -> Images:
        """Values of a file as the nearest of 256 levels."""
        if values.dtype == np.uint8 and (self.black, self.white) == (0, 255):
            return values
        return np.rint(self.unit(values) * 255).astype(np.uint8)

    def to_floats(self, values: NDArray[Any]) -> Images:
        """Values of a file as float32 in [0, 1], not rounded."""
        return self.unit(values).astype(np.float32)


def number(value: float) -> str:
    """A value as a config would have it: no more digits than a float of 32 bits needs to be told from others."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value)}"
    texts = [f"{value:.{digits}g}" for digits in (6, 7, 8, 9)]
    return next((text for text in texts if abs(float(text) - value) <= 2**-24 * abs(value)), texts[-1])


def checked(
    what: str, dtype: str, low: float, high: float, asked: tuple[float, float] | None, kept: bool = False
) -> tuple[Scale, str]:
    """The scale of values of a type that lie between `low` and `high`, and what is to be told of it. `dtype` is that of NumPy:
    `bool`, `uint8`, `uint16`, another integer or a float; `asked` is `data.range`. `what` says whose values they are, and
    `kept` whether they are not to be rounded to 8 bit. Raises DataError, with the range that would mend it, if they cannot be
    meant so: what is not plain from type and values is never guessed."""
    told = f"{what} is {dtype} from {number(low)} to {number(high)}"
    if asked is not None:
        black, white = asked
        slack = max(SLACK * (white - black), 2**-23 * max(abs(black), abs(white)))  # as exact as `number` writes a range
        if low < black - slack or high > white + slack:
            raise DataError(
                f"{told}, which leaves data.range: [{number(black)}, {number(white)}]",
                f"set data.range: [{number(min(low, black))}, {number(max(high, white))}]",
            )
        form = "kept as float32" if kept else "made 8 bit"
        return Scale(black, white), f"{dtype}, {number(black)} to {number(white)} (data.range) {form}"
    if dtype == "bool":
        return Scale(0, 1), "bool, true is white"
    floats = dtype.startswith("float")
    scale = Scale(0, 1) if floats else Scale(0, 65535) if dtype == "uint16" else Scale(0, 255)
    slack = SLACK if floats else 0
    if low < scale.black - slack or high > scale.white + slack:
        meant = "floats are read as [0, 1]" if floats else f"{dtype} is read as 0 to {number(scale.white)}"
        black, white = likely(low, high)
        formula = ", as (x + 1) / 2 does" if (black, white) == (-1, 1) else ""
        fix = f"set data.range: [{number(black)}, {number(white)}]"
        raise DataError(f"{told}, and {meant}", f"{fix}, which makes {number(black)} black and {number(white)} white{formula}")
    spread = (high - low) / (scale.white - scale.black) * 255
    dark = not floats and high < scale.white / LEVELS
    if low < high and (dark or (spread < LEVELS and not kept)):
        of = "" if floats else f": the largest value is {number(high)} of {number(scale.white)}"
        black, white = (min(low, 0.0), high) if floats else likely(low, high)
        raise DataError(
            f"{told}{of}, so that {'8 bits would keep next to nothing' if floats else 'every picture would be all but black'}",
            f"set data.range: [{number(black)}, {number(white)}], which makes {number(white)} white, or"
            f" data.range: [{number(scale.black)}, {number(scale.white)}] if it is meant so",
        )
    if floats:
        clipped = ", clipped to [0, 1]" if low < 0 or high > 1 else ""
        form = "kept as float32" if kept else "rounded to 8 bit (data.dtype: float32 keeps them)"
        return scale, f"{dtype} from {number(low)} to {number(high)}{clipped}, {form}"
    if low == high and dark and high > 0:
        return scale, f"{dtype}, every value is {number(high)} of {number(scale.white)}"
    if dtype == "uint16":
        return scale, f"16 bit {'kept as float32' if kept else 'scaled to 8'}, the largest value is {number(high)} of 65535"
    return scale, "" if dtype == "uint8" else f"{dtype} from {number(low)} to {number(high)} taken as 0 to 255"


def likely(low: float, high: float) -> tuple[float, float]:
    """The range that values between these two are likely to be meant in."""
    if low >= 0:
        tops = (1, 255, 1023, 4095, 16383, 65535)
        top = next((top for top in tops if high <= top + SLACK and high > top / LEVELS), high)
        return (0, top) if (high - low) / top * 255 >= LEVELS else (low, high)
    if low >= -1 - SLACK and high <= 1 + SLACK:
        return -1, 1
    return low, high
