"""Opens the data set of a config: prepared, decoded once, split, and in the tier that suits its size."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

from aecli.config.schema import OWN_FILES, Data
from aecli.core.model import Spec
from aecli.data import contents, fingerprints
from aecli.data.binarize import draw_fixed
from aecli.data.decoded import DEVICE_BYTES, open_decoded, request_key, unchanged
from aecli.data.rows import Rows, StreamRows
from aecli.data.sources.base import Say, Source
from aecli.data.sources.registry import open_source
from aecli.errors import SettingError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """`tier` is where the train rows live: on the `device`, in a `memmap`, or decoded as a `stream`. `fingerprint` names the
    exact pixels and labels of train and test, in every tier alike."""

    spec: Spec
    train: Rows
    validation: Rows
    test: Rows
    tier: str
    fingerprint: str
    drawn_from: Mapping[str, Rows] = dataclasses.field(default_factory=dict[str, Rows])
    """The gray rows, by split, that a frozen draw was made from."""

    def split(self, name: str) -> Rows:
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]

    def intensity(self, name: str) -> Rows:
        """The rows of a split as they were before any binarization."""
        return self.drawn_from.get(name, self.split(name))


def open_dataset(data: Data, say: Say = lambda line: None, wanted: str | None = None) -> Dataset:
    """Raises SettingError if the config does not fit the data, DataError if the data cannot be had or read.

    `wanted` is the fingerprint that a run expects: older versions named a stream by its origin, and a stream of that origin is
    given that name again.
    """
    decoded = open_decoded(data, say) if data.tier != "stream" else None
    if decoded is None:
        content = contents.identity(data, say) if data.name in OWN_FILES else None
        source = open_source(data, say)
        spec = Spec(*source.origin.shape, source.origin.classes)
        train: Rows = StreamRows(source, "train", 0, source.origin.sizes["train"])
        test: Rows = StreamRows(source, "test", 0, source.origin.sizes["test"])
        origin = hashlib.sha256(source.origin.identity.encode()).hexdigest()
        tier, fingerprint = "stream", origin if origin == wanted else _stream_fingerprint(data, content, source, say)
    else:
        spec, train, test, fingerprint = decoded
        small = train.images.nbytes <= DEVICE_BYTES
        tier = data.tier if data.tier != "auto" else "device" if small else "memmap"
    train, validation = _split(data, train)
    drawn_from: dict[str, Rows] = {}
    if data.binarize == "fixed":
        drawn_from = {"validation": validation, "test": test}
        validation, test = draw_fixed([validation, test])
    return Dataset(spec, train, validation, test, tier, fingerprint, drawn_from)


def _stream_fingerprint(data: Data, content: str | None, source: Source, say: Say) -> str:
    """Of images that are not kept, from one pass over all of them, which the index of contents then saves. `content` is what own
    files held before the source read them."""
    content = content or contents.identity(data, say)
    key = f"fingerprint {request_key(data, content)}"
    found = contents.noted(key)
    if found is None:
        say(f"reading {sum(source.origin.sizes.values()):,} images of {data.name} for their fingerprint (once)")
        with unchanged(data, content, say):
            found = fingerprints.of_source(source)
        contents.note(key, found)
    return found


def _split(data: Data, rows: Rows) -> tuple[Rows, Rows]:
    n = len(rows)
    held_out = data.validation if isinstance(data.validation, int) else round(data.validation * n)
    if held_out >= n:
        raise SettingError(("data", "validation"), "bad-value", f"{held_out} images held out of {n} leave none to train on")
    if data.batch_size > n - held_out:
        message = f"a batch of {data.batch_size} is larger than the {n - held_out} images to train on"
        raise SettingError(("data", "batch_size"), "bad-value", message, help=f"at most {n - held_out}")
    return rows.part(0, n - held_out), rows.part(n - held_out, n)


def subset(dataset: Dataset, train: int, held_out: int) -> Dataset:
    """The first rows of each split: for trying a config out."""
    return dataclasses.replace(
        dataset,
        train=dataset.train.part(0, min(train, len(dataset.train))),
        validation=dataset.validation.part(0, min(held_out, len(dataset.validation))),
        test=dataset.test.part(0, min(held_out, len(dataset.test))),
        drawn_from={name: rows.part(0, min(held_out, len(rows))) for name, rows in dataset.drawn_from.items()},
    )
