"""Files that are no run's data, all of their images in one: in their order, with nothing held out, read as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data.rows import JoinedRows, LabelledRows, Rows, StreamRows
from aecli.data.sources.base import Labels
from aecli.data.sources.folder import FolderSource
from aecli.data.sources.npz import NpzSource
from aecli.data.sources.vectors import VectorSource


class Whole(NamedTuple):
    """The images of all splits of a file or a folder, train before validation before test. `classes` in the order of the labels;
    `names` are the files that images lie in, none where they lie in one. `told` says what was understood, and `converted`, to
    be asked when every row has been read, what was done to them: it raises DataError if their values cannot be meant."""

    spec: Spec
    rows: Rows
    classes: tuple[str, ...]
    names: tuple[str, ...]
    told: str
    converted: Callable[[], tuple[str, ...]]


READ: Mapping[str, type[FolderSource | NpzSource | VectorSource]] = {
    "folder": FolderSource,
    "npz": NpzSource,
    "vectors": VectorSource,
}
"""What a file or a folder may be read as, by `data.name`."""


def open_whole(data: Data) -> Whole:
    """Raises DataError if the files that `data` names cannot be read, or understood."""
    source = READ[data.name](data, whole=True)
    names: tuple[str, ...] = ()
    if isinstance(source, FolderSource):
        names = tuple(name for split in source.origin.sizes for name in source.names(split))
    origin = source.origin
    rows = JoinedRows([StreamRows(source, split, 0, n) for split, n in origin.sizes.items()])
    labels = np.concatenate([source.labels(split) for split in origin.sizes])
    told = f"{data.path}: {origin.about}"
    return Whole(origin.spec, LabelledRows(rows, labels), origin.names, names, told, source.converted)


def as_classes(labels: Labels, classes: Sequence[str], known: Sequence[str]) -> Labels | None:
    """Labels of `classes` as those of a run's, which are `known` by their names; None if a run knows another, or none."""
    if not classes or not set(classes) <= set(known):
        return None
    number = np.array([known.index(name) for name in classes], np.int32)
    return np.where(labels < 0, -1, number[labels]).astype(np.int32)
