"""Which axes of an array are height, width and channels, and which classes its labels name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.data.sources.base import Labels
from aecli.data.sources.lister import natural
from aecli.data.sources.npy import StoredArray
from aecli.data.sources.scale import number
from aecli.errors import DataError

_CHUNK_BYTES = 64 * 2**20
_INT32 = 2**31
_NO_LABELS = "or set data.labels: none to read what there is without labels"


class Classes(NamedTuple):
    """`names` in the order of `labels`, int32 [n] by split, -1 where there is no label; `fact` is what is to be told of them."""

    names: tuple[str, ...]
    labels: Mapping[str, Labels]
    fact: str


def layout_of(array: StoredArray, what: str, asked: str) -> str:
    """Has the rows of an array of images come as [n, H, W, C], and returns what is to be told. `asked` is `data.layout`, `what`
    names the array. Raises DataError if its shape is that of no images, or of several things."""
    shape = list(array.shape)
    if not shape:
        raise DataError(f"{what} is a single value, not an array of images", "save images as [n, H, W] or [n, H, W, C]")
    if 0 in shape:
        raise DataError(f"{what} is empty: {array.dtype} {shape}", "save images as [n, H, W] or [n, H, W, C]")
    if array.dtype.kind not in "buif":
        raise DataError(f"{what} holds no numbers: it is {array.dtype} {shape}", "save images as uint8, or as floats in [0, 1]")
    first, last = array.ndim == 4 and shape[1] in (1, 3), array.ndim == 4 and shape[3] in (1, 3)
    if asked == "gray" and array.ndim == 3:
        array.arrange(_gray)
        return ""
    if asked == "channels_last" and last:
        return ""
    if asked == "channels_first" and first:
        array.arrange(_channels_last)
        return ""
    if asked != "auto":
        form = {"gray": "[n, H, W]", "channels_last": "[n, H, W, C]", "channels_first": "[n, C, H, W]"}[asked]
        raise DataError(f"{what} {shape} must be {form} with C 1 or 3, as data.layout: {asked} says", "set data.layout: auto")
    if array.ndim == 3:
        if shape[2] in (1, 3):
            raise DataError(
                f"{what} {shape} may be one image with {shape[2]} channels, or {shape[0]} gray ones",
                "save one image as [1, H, W, C]; for gray images set data.layout: gray",
            )
        array.arrange(_gray)
        return ""
    if first and last:
        raise DataError(
            f"{what} {shape} may have its channels first or last", "set data.layout: channels_first, or channels_last"
        )
    if last:
        return ""
    if first:
        array.arrange(_channels_last)
        return "[n, C, H, W], its channels moved to the end"
    raise DataError(f"{what} must be [n, H, W] or [n, H, W, C] with C 1 or 3, it is {shape}", _mend(shape))


def _gray(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[..., None]


def _channels_last(rows: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(rows, 1, 3)


_AS_VECTORS = "for vectors set data.name: vectors (of `aecli init`, --data vectors:FILE)"


def _mend(shape: list[int]) -> str:
    if len(shape) == 2:
        side, of_three = round(shape[1] ** 0.5), round((shape[1] / 3) ** 0.5)
        if side * side == shape[1]:
            return f"if the images are {side}x{side}: x.reshape(-1, {side}, {side}); {_AS_VECTORS}"
        if 3 * of_three * of_three == shape[1]:
            form = f"x.reshape(-1, 3, {of_three}, {of_three})"
            return f"if the images are {of_three}x{of_three}x3 with channels first, as CIFAR's: {form}; {_AS_VECTORS}"
        return f"for images x.reshape(-1, height, width); {_AS_VECTORS}"
    if len(shape) == 4 and shape[3] in (2, 4):
        return f"leave the transparency out: x[..., :{shape[3] - 1}]"
    if len(shape) == 4 and shape[1] in (2, 4):
        return f"leave the transparency out: x[:, :{shape[1] - 1}]"
    if len(shape) == 4 and shape[2] in (1, 3):
        return "put the images first: np.moveaxis(x, -1, 0)"
    return "np.moveaxis or x.reshape brings it into that form"


def finite_extremes(array: StoredArray, what: str) -> tuple[float, float]:
    """The least and the largest value, read in parts. Raises DataError at the first that is no number or infinite."""
    low, high = np.inf, -np.inf
    for start, part in array.parts(_CHUNK_BYTES):
        if array.dtype.kind == "f" and not np.isfinite(part).all():
            at = np.argwhere(~np.isfinite(part))[0]
            index = [int(i) for i in (at[0] + start, *at[1:])]
            total = sum(int((~np.isfinite(part)).sum()) for _, part in array.parts(_CHUNK_BYTES))
            raise DataError(
                f"{what} is {array.dtype} and holds {part[tuple(at)]} at [image, row, column, channel] {index}, {total:,} in all",
                "replace what is no finite number, or leave those images out",
            )
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high


def labels_in(array: StoredArray, what: str, n: int) -> NDArray[Any]:
    """The values of an array of labels. Raises DataError before they are read if they are not of `n` examples."""
    if array.shape[:1] != (n,):
        raise _no_labels(array, what, n)
    return array.whole()


def _no_labels(array: StoredArray | NDArray[Any], what: str, n: int) -> DataError:
    shown = f"{what} {array.dtype} {list(array.shape)}"
    return DataError(f"{shown} must be {n} labels, one for each example", f"save [n] labels, {_NO_LABELS}")


def classes_of(named: Mapping[str, tuple[str, Any]], sizes: Mapping[str, int], path: str) -> Classes:
    """The classes that labels name, `named` by split as (name of the array, array), for so many images. Numbers keep their order,
    texts stand in natural order; only what occurs is a class. Raises DataError if they cannot be labels."""
    values: dict[str, NDArray[Any]] = {}
    facts: list[str] = []
    for split, (name, array) in named.items():
        values[split], fact = _flat(array, f"{path}: '{name}'", sizes[split])
        facts += [f"'{name}' {fact}"] if fact else []
    kinds = {array.dtype.kind for array in values.values()}
    if len(kinds) > 1:
        raise DataError(f"{path}: labels are numbers in one split and texts in another", f"save them alike, {_NO_LABELS}")
    found = np.unique(np.concatenate(list(values.values())))
    if kinds == {"U"}:
        found = np.array(sorted(found.tolist(), key=natural))
    total = sum(map(len, values.values()))
    if len(found) == total > 10:
        raise DataError(
            f"{path}: all {total:,} labels are different: these are numbers of examples or measurements, no classes",
            "set data.labels: none",
        )
    order = np.argsort(found, kind="stable")
    labels = {split: order[np.searchsorted(found[order], array)].astype(np.int32) for split, array in values.items()}
    if kinds != {"U"} and not np.array_equal(found, np.arange(len(found))):
        facts.append(f"labels {found[0]} to {found[-1]} are {len(found)} classes, numbered from 0")
    return Classes(tuple(str(name) for name in found.tolist()), labels, "; ".join(facts))


def _flat(array: Any, what: str, n: int) -> tuple[NDArray[Any], str]:
    """Labels as int64 or text [n], and what is to be told."""
    shown = f"{what} {array.dtype} {list(array.shape)}"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    fact = ""
    if array.ndim == 2 and array.dtype.kind in "buif" and len(array):
        one_hot = ((array == 1).sum(1) == 1) & ((array == 0).sum(1) == array.shape[1] - 1)
        if not one_hot.all():
            problem = f"is not one-hot: row {int(np.argmin(one_hot))} holds not a single 1 among zeros"
            raise DataError(f"{shown} {problem}", f"save [n] labels, {_NO_LABELS}")
        array, fact = array.argmax(1), f"is one-hot of {array.shape[1]} columns"
    if array.shape != (n,):
        raise _no_labels(array, what, n)
    if array.dtype.kind in "SU":
        texts = np.char.decode(array, "utf-8", "backslashreplace") if array.dtype.kind == "S" else np.asarray(array)
        return texts, fact
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (np.rint(array) == array)
        if not whole.all():
            at = int(np.argmin(whole))
            raise DataError(f"{shown} must be whole numbers, [{at}] is {array[at]}", f"save classes from 0, {_NO_LABELS}")
        fact = "is float, taken as whole numbers"
    elif array.dtype.kind not in "bui":
        raise DataError(f"{shown} must be whole numbers or texts", f"save classes from 0, {_NO_LABELS}")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high >= _INT32:
        raise DataError(
            f"{shown} must be whole numbers from 0 that fit into int32, they go from {number(low)} to {number(high)}",
            f"number the classes from 0 and leave out what has no label, {_NO_LABELS}",
        )
    return array.astype(np.int64), fact
