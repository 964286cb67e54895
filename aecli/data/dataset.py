"""Opens the data set of a config: prepared, decoded once, split, and in the tier that suits its size."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import OWN_FILES, Data
from aecli.core.model import Spec
from aecli.data import contents, fingerprints, scaling
from aecli.data.binarize import kept_fixed
from aecli.data.classes import of_classes
from aecli.data.decoded import DEVICE_BYTES, open_decoded, request_key, unchanged
from aecli.data.rows import PairedRows, Rows, StreamRows
from aecli.data.scaling import ScaledRows, Scaling
from aecli.data.sources.base import Say, Source
from aecli.data.sources.registry import RULES, blocks_of, open_source
from aecli.errors import SettingError
from aecli.system.arrays import kept_arrays
from aecli.system.folders import cache_folder


@dataclasses.dataclass(frozen=True)
class Dataset:
    """`tier` is where the train rows live: on the `device`, in a `memmap`, or decoded as a `stream`. `fingerprint` names the
    exact pixels and labels of all splits, in every tier alike. `class_names` in the order of the labels; empty where there are
    none. `rules` are those that the data was read by. `kept` are the numbers of the classes that alone are kept, None if all
    are: of all splits, but for one that is of other data."""

    spec: Spec
    train: Rows
    validation: Rows
    test: Rows
    tier: str
    fingerprint: str
    drawn_from: Mapping[str, Rows] = dataclasses.field(default_factory=dict[str, Rows])
    """The gray rows, by split, that a frozen draw was made from."""
    class_names: tuple[str, ...] = ()
    rules: int = RULES
    scaling: Scaling | None = None
    """What brought vectors to the scale that a model sees them at; the rows are scaled by it."""
    kept: tuple[int, ...] | None = None
    of_train: str | None = None
    """The fingerprint of the data that `train` is of, where that is not the data of the other splits."""
    blocks: Mapping[str, NDArray[np.int32]] = dataclasses.field(default_factory=dict[str, NDArray[np.int32]])
    """By split, the number of the block that each image is of, [n], where images of one block are not independent."""

    def split(self, name: str) -> Rows:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def intensity(self, name: str) -> Rows:
        """The rows of a split as they were before any binarization."""
        return self.drawn_from.get(name, self.split(name))


def open_dataset(data: Data, say: Say = lambda line: None, rules: int = RULES, wanted: str | None = None) -> Dataset:
    """Reads the data by `rules`, those of a run or the present ones, and tells in a line what was understood of own files that
    are no run's. Raises SettingError if the config does not fit the data, DataError if the data cannot be had or read.

    `wanted` is the fingerprint that a run expects: older versions named a stream by its origin, and a stream of that origin is
    given that name again.
    """
    decoded = open_decoded(data, say, rules) if data.tier != "stream" else None
    splits: Mapping[str, Rows]
    if decoded is None:
        content = contents.identity(data, say, rules) if data.name in OWN_FILES else None
        source = open_source(data, say, rules)
        origin = source.origin
        spec, names = origin.spec, origin.names
        splits = {split: StreamRows(source, split, 0, n) for split, n in origin.sizes.items()}
        named = hashlib.sha256(origin.identity.encode()).hexdigest()
        if origin.identity and named == wanted:
            fingerprint, told = named, origin.about
        else:
            fingerprint, told = _read_through(data, content, source, say, rules)
        tier = "stream"
    else:
        spec, splits, names, fingerprint, told = decoded
        tier = data.tier
    chosen = of_classes(data, spec, names, splits, fingerprint)
    if chosen is not None:
        splits, fingerprint, told = chosen.splits, chosen.fingerprint, "; ".join(filter(None, [told, chosen.told]))
    if decoded is not None and tier == "auto":
        size = len(splits["train"]) * prod(spec.row_shape) * decoded.splits["train"].images.itemsize
        tier = "device" if size <= DEVICE_BYTES else "memmap"
    if wanted is None or rules != RULES:  # what a run's data is was told when it was trained
        _tell(data, "validation" in splits, told, rules, say)
    train, validation = _split(data, splits)
    test = splits["test"]
    blocks = blocks_of(data, {"validation": validation, "test": test}, say)
    drawn_from: dict[str, Rows] = {}
    if data.binarize == "fixed":
        drawn_from = {"validation": validation, "test": test}
        validation, test = kept_fixed([validation, test], fingerprint, data.called)
    scale: Scaling | None = None
    if data.standardize != "none":
        scale = _scaling(data, train, fingerprint)
        train, validation, test = (ScaledRows(rows, scale) for rows in (train, validation, test))
    if spec.paired:
        train, validation, test = (PairedRows(rows) for rows in (train, validation, test))
    kept = None if chosen is None else chosen.numbers
    return Dataset(spec, train, validation, test, tier, fingerprint, drawn_from, names, rules, scale, kept, blocks=blocks)


def _scaling(data: Data, train: Rows, fingerprint: str) -> Scaling:
    """That of a train split, fitted once for all runs on it."""
    stamp = f"{fingerprint} {len(train)} {data.standardize}"
    path = cache_folder("shared") / f"scaling-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npz"
    kept = kept_arrays(path, stamp, lambda: scaling.fit(train, data.standardize)._asdict(), f"fits the scaling of {data.called}")
    return Scaling(kept["mean"], kept["scale"])


def _read_through(data: Data, content: str | None, source: Source, say: Say, rules: int) -> tuple[str, str]:
    """The fingerprint of images that are not kept, and what is told of them, from one pass over all of them, which the index of
    contents then saves. `content` is what own files held before the source read them."""
    content = content or contents.identity(data, say, rules)
    key = f"stream {request_key(data, content, rules)}"
    kept = contents.noted(key)
    if kept is None:
        say(f"reading {sum(source.origin.sizes.values()):,} {source.origin.kind}s of {data.called} for their fingerprint (once)")
        with unchanged(data, content, say, rules):
            fingerprint = fingerprints.of_source(source)
        kept = json.dumps([fingerprint, "; ".join(filter(None, [source.origin.about, *source.converted()]))])
        contents.note(key, kept)
    fingerprint, told = json.loads(kept)
    return str(fingerprint), str(told)


def _tell(data: Data, own_validation: bool, told: str, rules: int, say: Say) -> None:
    """The line on own files, and on what was done to the images of others."""
    if rules != RULES and data.name in OWN_FILES:
        say(f"{data.path} is read by rules {rules}, as when the run was trained; new runs read by rules {RULES}")
        return
    unused = own_validation and data.changed("validation")
    facts = [told, "data.validation is not used, since there is a validation split" if unused else ""]
    if any(facts):
        say(f"{data.path or data.name}: {'; '.join(filter(None, facts))}")


def _split(data: Data, splits: Mapping[str, Rows]) -> tuple[Rows, Rows]:
    """Train, and the validation split that the data has or else the last part of train."""
    rows = splits["train"]
    n = len(rows)
    held_out = validation_size(data, {split: len(part) for split, part in splits.items()})
    return rows.part(0, n - held_out), splits.get("validation", rows.part(n - held_out, n))


def validation_size(data: Data, sizes: Mapping[str, int]) -> int:
    """How many images are held out of the end of a train split, for data whose splits are of such `sizes`. Raises SettingError if
    what is left of it is less than a batch."""
    n = sizes["train"]
    held_out = data.validation if isinstance(data.validation, int) else round(data.validation * n)
    if "validation" in sizes:
        held_out = 0
    if held_out >= n:
        raise SettingError(("data", "validation"), "bad-value", f"{held_out} held out of {n} leave none to train on")
    if data.batch_size > n - held_out:
        message = f"a batch of {data.batch_size} is larger than the {n - held_out} that are left to train on"
        raise SettingError(("data", "batch_size"), "bad-value", message, help=f"at most {n - held_out}")
    return held_out


def subset(dataset: Dataset, train: int, held_out: int) -> Dataset:
    """The first rows of each split: for trying a config out."""
    return dataclasses.replace(
        dataset,
        train=dataset.train.part(0, min(train, len(dataset.train))),
        validation=dataset.validation.part(0, min(held_out, len(dataset.validation))),
        test=dataset.test.part(0, min(held_out, len(dataset.test))),
        drawn_from={name: rows.part(0, min(held_out, len(rows))) for name, rows in dataset.drawn_from.items()},
        blocks={name: blocks[:held_out] for name, blocks in dataset.blocks.items()},
    )
