"""Some classes of a data set alone, `data.classes`: the images of every split that have one of their labels."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data.rows import ChosenRows, Rows, StreamRows
from aecli.data.sources.base import Labels
from aecli.data.sources.told import some
from aecli.errors import SettingError, did_you_mean, printable
from aecli.system.arrays import kept_arrays
from aecli.system.folders import cache_folder

_SETTING = ("data", "classes")
Names = Sequence[int | str]
"""Classes as `data.classes` names them."""


class OfClasses(NamedTuple):
    """What is left of a data set: `numbers` are those of the classes, rising, and `told` says how much it is."""

    splits: Mapping[str, Rows]
    fingerprint: str
    numbers: tuple[int, ...]
    told: str


def of_classes(data: Data, spec: Spec, names: Sequence[str], splits: Mapping[str, Rows], fingerprint: str) -> OfClasses | None:
    """The images of the classes that the config chooses, in their order; None if it chooses none. Labels stay what they are. The
    fingerprint follows from that of all images, and is the same where none is left out. `names` are those of all classes, if
    they have any. Raises SettingError if there are no such classes, or no image of them in one of the splits."""
    if data.classes is None:
        return None
    numbers = numbers_of(data.classes, spec.classes, names)
    labels = {split: labels_of(rows, fingerprint, split) for split, rows in splits.items()}
    index = _index(numbers, labels)
    left = {split: ChosenRows(rows, index[split], labels[split][index[split]]) for split, rows in splits.items()}
    of, every = sum(map(len, left.values())), sum(map(len, splits.values()))
    if of < every:
        fingerprint = hashlib.sha256(f"{fingerprint} classes {list(numbers)}".encode()).hexdigest()
    called = some([_called(spec.classes, names)[number] for number in numbers])
    return OfClasses(left, fingerprint, numbers, f"data.classes keeps {of:,} of {every:,}, of {called}")


def sizes_of(classes: Names | None, spec: Spec, names: Sequence[str], labels: Mapping[str, Labels]) -> dict[str, int]:
    """How many images of each split are left, told by their labels alone. Raises as `of_classes`."""
    if classes is None:
        return {split: len(each) for split, each in labels.items()}
    return {split: len(each) for split, each in _index(numbers_of(classes, spec.classes, names), labels).items()}


def numbers_of(classes: Names, count: int, names: Sequence[str]) -> tuple[int, ...]:
    """The numbers of classes among so many, rising. Raises SettingError if there is no such class, or one is named twice."""
    if not count:
        raise SettingError(_SETTING, "unsuitable", "the data has no labels to choose by", help="leave data.classes out")
    called = _called(count, names)
    by_number = not any(name.isdecimal() for name in called)  # of labels 3, 6 and 9 a 2 is none, and not the third
    found: dict[int, int | str] = {}
    for one in classes:
        if str(one) in called:
            number = called.index(str(one))
        elif by_number and isinstance(one, int) and one < len(called):
            number = one
        else:
            help = did_you_mean(str(one), called) or f"there are {some(called)}"
            raise SettingError(_SETTING, "bad-value", f"there is no class {printable(repr(one))}", help=help)
        if number in found:
            raise SettingError(_SETTING, "bad-value", f"{found[number]!r} and {one!r} are one class")
        found[number] = one
    return tuple(sorted(found))


def _called(count: int, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(names) or tuple(map(str, range(count)))


def _index(numbers: Sequence[int], labels: Mapping[str, Labels]) -> dict[str, NDArray[np.int64]]:
    index = {split: np.flatnonzero(np.isin(each, numbers)) for split, each in labels.items()}
    for split, each in index.items():
        if not len(each):
            message = f"there is no image of these classes in the {split} split"
            raise SettingError(_SETTING, "unsuitable", message, help="name classes that every split has")
    return index


def labels_of(rows: Rows, fingerprint: str, split: str) -> Labels:
    """Those of rows [n] of a split of the data of this fingerprint. Of images that are decoded each time they are asked for, they
    are kept: to read them is to decode all."""
    if not isinstance(rows, StreamRows):
        return rows.labels
    stamp = f"{fingerprint} {split} {len(rows)}"
    path = cache_folder("shared") / f"labels-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npz"
    with contextlib.suppress(OSError):  # no cache
        return kept_arrays(path, stamp, lambda: {"label": rows.labels}, f"reads the labels of {split}")["label"]
    return rows.labels
