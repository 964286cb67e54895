"""Arrays that a user's own program hands over, as rows of images or codes that a trained model can take; what is wrong with them
is told before anything is computed."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aecli.core.model import Spec
from aecli.data.rows import ArrayRows, Rows
from aecli.data.scaling import ScaledRows
from aecli.data.sources.scale import SLACK, likely, number
from aecli.errors import UsageError, printable
from aecli.runs.trained import Trained

MOST = 2**53
"""Images: so many are nowhere, and the memory that is there decides."""
_AXES = "[image, row, column, channel]"


def rows_of(trained: Trained, images: Any, labels: Any = None) -> Rows:
    """Images [n, H, W] or [n, H, W, C], uint8, bool or floats in [0, 1], or vectors [n, d] in the units of the data, with the
    class of each ([n], or one number for all; -1 or None where it is not told), as a model sees them. Raises UsageError for
    anything else."""
    if trained.spec.kind == "vector":
        found = _vectors(images, trained.spec)
        rows = ArrayRows(found, labels_of(labels, len(found), trained))
        return rows if trained.scaling is None else ScaledRows(rows, trained.scaling)
    found = _in_range(_shaped(_numbers(images, "images", "uint8, or floats in [0, 1]"), trained.spec))
    return ArrayRows(found, labels_of(labels, len(found), trained))


def labels_of(labels: Any, n: int, trained: Trained) -> NDArray[np.int32]:
    """The classes of n images, int32 [n]. Raises UsageError if they are no classes of the run's data."""
    if labels is None:
        return np.full(n, -1, np.int32)
    array = _numbers(labels, "labels", "whole numbers, the classes in the order of run.classes")
    classes = trained.spec.classes
    if array.dtype.kind not in "iu":
        raise UsageError(f"labels are {array.dtype}, and classes are whole numbers", "labels.astype(int)")
    if array.ndim == 0:
        array = np.full(n, array)
    if array.shape != (n,):
        raise UsageError(f"labels {list(array.shape)} are not one for each of {n}", f"give [{n}] labels, or one number for all")
    if n and (int(array.max()) >= classes or int(array.min()) < -1):
        wrong = int(array.max()) if int(array.max()) >= classes else int(array.min())
        if not classes:
            raise UsageError(f"labels hold {wrong}, and the data of this run has no classes", "leave labels out")
        raise UsageError(
            f"labels hold {wrong}, and the data of this run has {classes} classes", f"0 to {classes - 1}, -1 where there is none"
        )
    return array.astype(np.int32)


def codes_of(z: Any, length: int) -> NDArray[np.float32]:
    """Codes [n, latent]. Raises UsageError if they are not of this length, or not finite."""
    array = _numbers(z, "codes", "what encode gives")
    if array.ndim != 2 or array.shape[1] != length:
        help = "one code is z[None]" if array.shape == (length,) else "give them as encode does"
        raise UsageError(f"codes {list(array.shape)} are not those of this run, [n, {length}]", help)
    return _finite_float32(array, "codes", "[code, number]")


def mask_of(known: Any, n: int, spec: Spec) -> NDArray[np.bool_]:
    """Which pixels are known, [n, H, W] bool, from [H, W] or [n, H, W]. Raises UsageError for anything else."""
    array = _numbers(known, "known", "bool")
    if array.dtype.kind != "b":
        raise UsageError(f"known is {array.dtype}, not bool", "known > 0")
    here = spec.shape[:2]
    if array.shape not in (here, (n, *here)):
        raise UsageError(f"known {list(array.shape)} is not [{here[0]}, {here[1]}] or [{n}, {here[0]}, {here[1]}]")
    return np.broadcast_to(array, (n, *here))


def whole_of(value: Any, what: str, least: int, most: int) -> int:
    """Raises UsageError if `what` is no whole number from `least` to `most`."""
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise UsageError(f"{what} is {value!r}: a whole number from {least:,} to {most:,}")
    return number


def seed_of(value: Any) -> int:
    """Raises UsageError if it is none."""
    return whole_of(value, "seed", 0, 2**32 - 1)


def temperature_of(value: Any) -> float:
    """Raises UsageError if it is none."""
    if isinstance(value, str) or not 0.01 <= value <= 100:
        raise UsageError(f"temperature is {value!r}: a number from 0.01 to 100, 1 for the model's own distribution")
    return float(value)


def _numbers(given: Any, what: str, instead: str) -> NDArray[Any]:
    """As an array of real numbers."""
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise UsageError(f"{what} are masked in places", f"{what}.filled(0) says what stands there")
    try:
        array = np.asarray(given)
    except Exception as error:  # whatever the library that it is of raises
        why = printable((str(error).splitlines() or [type(error).__name__])[0])
        raise UsageError(f"{what} cannot be read as an array: {why}", f"give {instead}") from None
    if array.dtype.kind == "V" and "float" in array.dtype.name:  # bfloat16 and its like, which NumPy does not know
        array = array.astype(np.float32)
    if array.dtype.kind not in "buif":
        raise UsageError(f"{what} are {array.dtype} {list(array.shape)}, which is no array of real numbers", f"give {instead}")
    return array


def _shaped(array: NDArray[Any], spec: Spec) -> NDArray[Any]:
    """As [n, H, W, C]."""
    height, width, channels = spec.shape
    form = f"[n, {height}, {width}, {channels}]" + (f" or [n, {height}, {width}]" if channels == 1 else "")
    whole = array[..., None] if array.ndim == 3 and channels == 1 else array
    if whole.ndim == 4 and whole.shape[1:] == spec.shape:
        return whole
    help = f"the run was trained on {height}x{width} {'gray' if channels == 1 else 'colour'} images: resize or convert them"
    if array.shape == spec.shape or (array.shape == spec.shape[:2] and channels == 1):
        help = "one image is images[None]"
    elif array.ndim == 2 and array.shape[1] == spec.size:
        help = f"images.reshape(-1, {height}, {width}, {channels})"
    elif array.ndim == 4 and array.shape[1:] == (channels, height, width):
        help = "np.moveaxis(images, 1, -1) puts the channels last"
    raise UsageError(f"images {list(array.shape)} are not those of this run, {form}", help)


def _in_range(array: NDArray[Any]) -> NDArray[Any]:
    """As uint8, or float32 in [0, 1]."""
    if array.dtype.kind == "b" or not array.size:
        return array.astype(np.float32 if array.dtype != np.uint8 else np.uint8)
    low, high = float(array.min()), float(array.max())
    told = f"images are {array.dtype} from {number(low)} to {number(high)}"
    if array.dtype == np.uint8:
        if high == 1:
            raise UsageError(f"{told}, and 255 is white", "images * np.uint8(255), or images.astype(bool)")
        return array
    if array.dtype.kind != "f":
        help = "images.astype(np.uint8)" if low >= 0 and high <= 255 else "scale them to floats in [0, 1]"
        raise UsageError(f"{told}, and whole numbers are read as uint8 alone, of which 255 is white", help)
    array = _finite_float32(array, "images", _AXES)
    if low < -SLACK or high > 1 + SLACK:
        black, white = likely(low, high)
        formula = f"images / {number(white)}" if black == 0 else f"(images - {number(black)}) / {number(white - black)}"
        raise UsageError(f"{told}, and floats are read as [0, 1]", "(images + 1) / 2" if black == -1 and white == 1 else formula)
    return np.clip(array, 0, 1)


def _vectors(given: Any, spec: Spec) -> NDArray[np.float32]:
    """[n, d] as float32 [n, 1, d, 1]."""
    array = _numbers(given, "vectors", "floats [n, d], in the units of the data")
    if array.ndim != 2 or array.shape[1] != spec.width:
        help = "one vector is vectors[None]" if array.shape == (spec.width,) else "they have another length"
        raise UsageError(f"vectors {list(array.shape)} are not those of this run, [n, {spec.width}]", help)
    return _finite_float32(array, "vectors", "[vector, number]")[:, None, :, None]


def _finite_float32(array: NDArray[Any], what: str, axes: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what becomes infinite is named here
        floats = array.astype(np.float32)
    wrong = ~np.isfinite(floats)
    if wrong.any():
        at = np.argwhere(wrong)[0]
        beyond = ", which is beyond float32," if np.isfinite(array[tuple(at)]) else ""
        raise UsageError(
            f"{what} hold {array[tuple(at)]}{beyond} at {axes} {at.tolist()}, {int(wrong.sum()):,} in all",
            "replace what is no finite number",
        )
    return floats
