"""`aecli data`: which data sets there are, and preparing one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from aecli.config.schema import OWN_FILES, Data
from aecli.data import duplicates
from aecli.data.dataset import open_dataset
from aecli.data.sources.registry import listing
from aecli.data.sources.told import some
from aecli.errors import SettingError, UsageError
from aecli.system.folders import cache_root
from aecli.system.progress import say, warn


class DataSet(NamedTuple):
    """`state` is prepared, not prepared, or yours."""

    name: str
    state: str
    about: str


class DataSets(NamedTuple):
    """`sets` in the order to show them; `root` is where prepared ones are kept; `names` counts all that TFDS knows."""

    sets: list[DataSet]
    root: Path
    names: int


def data_sets(every: bool = False) -> DataSets:
    """The data sets that are here or come with the package, and with `every` all that TFDS knows."""
    from aecli.data.sources.tfds import names

    root, about, known = cache_root(), listing(), names()
    prepared = {path.name for path in (root / "tfds").glob("*") if path.is_dir() and not path.name.startswith(".")}
    listed = [*about, *sorted(prepared - set(about))]
    if every:
        listed += [name for name in known if name not in listed]
    states = {name: "yours" for name in OWN_FILES} | {name: "prepared" for name in prepared}
    sets = [DataSet(name, states.get(name, "not prepared"), about.get(name, "from TFDS")) for name in listed]
    return DataSets(sets, root, len(known))


def prepare(name: str, manual_dir: str | None = None) -> Path:
    """Prepares and decodes a data set, and returns where prepared data is kept. Raises UsageError if the name is unknown or of
    own files, DataError if the data cannot be had or read."""
    if name in OWN_FILES:
        raise UsageError(f"{name} needs no preparing: name it in a config with data.path")
    folder = None if manual_dir is None else os.path.expanduser(manual_dir)
    try:
        dataset = open_dataset(Data(name=name, manual_dir=folder, batch_size=1), say)
    except SettingError as error:
        raise UsageError(error.text + (f": {error.label}" if error.label else ""), error.help) from None
    sizes = f"{len(dataset.train) + len(dataset.validation):,} train and {len(dataset.test):,} test images"
    duplicates.tell(dataset, warn)
    say(
        f"{name}: {sizes} of {'x'.join(map(str, dataset.spec.shape))}, fingerprint {dataset.fingerprint[:12]}"
        + (f"; classes {some(dataset.class_names)}" if dataset.class_names else "")
    )
    return cache_root()
