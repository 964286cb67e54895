"""Which sources of images there are, and which of them serves a name: the one place that knows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import OWN_FILES, Data
from aecli.core.model import Spec
from aecli.data.classes import numbers_of, sizes_of
from aecli.data.rows import Rows
from aecli.data.sources import factors, fashion, photographs
from aecli.data.sources.base import Labels, Layout, Say, Source, base_of
from aecli.data.sources.folder import FolderSource
from aecli.data.sources.npz import NpzSource
from aecli.data.sources.pairs import PairSource
from aecli.data.sources.rules_1 import FolderSource as FolderSource1
from aecli.data.sources.rules_1 import NpzSource as NpzSource1
from aecli.data.sources.vectors import VectorSource
from aecli.errors import DataError
from aecli.system.folders import cache_folder, cache_root

RULES = 2
"""How data is read now; a run keeps the number of the rules that it was trained by."""


class _Own(Source, Protocol):
    def labels(self, split: str) -> Labels: ...


_NOW: Mapping[str, Callable[[Data], _Own]] = {
    "folder": FolderSource,
    "pairs": PairSource,
    "npz": NpzSource,
    "vectors": VectorSource,
}
OPENERS: Mapping[str, Mapping[int, Callable[[Data], Source]]] = {
    "folder": {1: FolderSource1, RULES: _NOW["folder"]},
    "pairs": {RULES: _NOW["pairs"]},
    "npz": {1: NpzSource1, RULES: _NOW["npz"]},
    "vectors": {RULES: _NOW["vectors"]},
}
"""What opens the user's own files, by name and rules; every other name is asked of tensorflow_datasets, which takes seconds to
import."""


def open_source(data: Data, say: Say, rules: int = RULES) -> Source:
    """Raises SettingError if the name is unknown, DataError if the data cannot be had or read, or not by these rules."""
    if data.name in OPENERS:
        if rules not in OPENERS[data.name]:
            raise DataError(f"there are no rules {rules} to read {data.name} by in this aecli", "use the aecli of the run")
        return OPENERS[data.name][rules](data)
    from aecli.data.sources.tfds import TfdsSource

    return TfdsSource(data, cache_folder("tfds"), say, version_of(data.name, rules))


def version_of(name: str, rules: int) -> str | None:
    """The version of a built-in set that such rules of reading mean; None if it has but one."""
    return factors.VERSIONS[rules] if name == "shapes" else None


def blocks_of(data: Data, splits: Mapping[str, Rows], say: Say) -> dict[str, NDArray[np.int32]]:
    """Of held-out splits whose images are not independent, by the name of the split: which block each image is of, [n], so that
    images of different blocks are. Nothing of a data set that is not known to have such images."""
    if (find := _BLOCKS.get(base_of(data.name))) is None:
        return {}
    found = {split: find(split, rows.all()[0], Layout.of(data)) for split, rows in splits.items()}
    if unknown := [split for split, blocks in found.items() if blocks is None]:
        say(f"{data.name}: images of {' and '.join(unknown)} are taken for independent: where they were cut from is not known")
    return {split: blocks for split, blocks in found.items() if blocks is not None}


_BLOCKS = {"photos": photographs.regions}


def check_name(name: str) -> None:
    """Raises SettingError if there is no data set of this name."""
    if name not in OPENERS:
        from aecli.data.sources import tfds

        tfds.check_name(name)


class Peeked(NamedTuple):
    """`spec` is None, and `sizes` (of the splits, see `Origin`) empty, where they are not known. `absent` says how the images
    would come, where they are not on this machine."""

    spec: Spec | None
    sizes: Mapping[str, int]
    absent: str | None = None


def peek(data: Data, say: Say = lambda line: None) -> Peeked:
    """What is known of the data without preparing anything. Tells what was understood of own files. Raises SettingError if the
    name is unknown, DataError if own files cannot be read."""
    if data.name in OPENERS:
        source = _NOW[data.name](data)
        origin = source.origin
        say(f"{data.path}: {origin.about}")
        if data.classes is None:
            return Peeked(origin.spec, origin.sizes)
        labels = {split: source.labels(split) for split in origin.sizes}
        return Peeked(origin.spec, sizes_of(data.classes, origin.spec, origin.names, labels))
    from aecli.data.sources.tfds import absent, declared

    root = cache_root() / "tfds"
    shape, classes, names, sizes = declared(data, root)
    height, width = data.size or shape[:2]
    channels = data.channels or shape[2]
    known = None not in (height, width, channels, classes)
    if data.classes is not None:
        sizes = dict[str, int]()  # how many images they have only the images tell
        if classes is not None:
            numbers_of(data.classes, classes, names)
    return Peeked(Spec(height, width, channels, classes or 0) if known else None, sizes, absent(data, root))


def listing() -> dict[str, str]:
    """The names that need no network or no preparing, and what each holds."""
    found = "; files of Debian's package found" if fashion.has_files(fashion.DEBIAN) else ""
    return {
        "digits": "8x8 gray, 1,500 train and 297 test, 10 classes; embedded",
        "photos": "32x32 colour, 4,788 train and 130 test, 2 classes; patches of the photographs in scikit-learn's package",
        "shapes": "32x32 gray, 4,608 train and 512 test, 3 classes; drawn on the spot, known factors",
        "fashion_mnist": "28x28 gray, 60,000 train and 10,000 test, 10 classes" + found,
        **OWN_FILES,
    }
