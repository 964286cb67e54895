"""Images that are in more than one split: what a model has trained on says nothing of images that it has not seen."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from aecli.data.dataset import Dataset
from aecli.data.rows import Rows
from aecli.data.sources.base import Say
from aecli.system.arrays import kept_arrays
from aecli.system.folders import cache_root

HELD_OUT = ("validation", "test")
PIECE_BYTES = 2**24
"""Of images that are in memory at once."""


def count(dataset: Dataset) -> Mapping[str, int]:
    """How many images of each held-out split are byte-equal to one of the train split, before any binarization. Counted once
    for all runs on such data, and kept in the cache where that can be written."""
    sizes = {split: len(dataset.split(split)) for split in ("train", *HELD_OUT)}
    stamp = json.dumps({"fingerprint": dataset.fingerprint, **sizes}, sort_keys=True)
    path = cache_root() / "shared" / f"duplicates-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npz"

    def make() -> dict[str, Any]:
        return {split: np.int64(n) for split, n in _count(dataset).items()}

    with contextlib.suppress(OSError):  # no cache
        kept = kept_arrays(path, stamp, make, "counts duplicates in this data")
        return {split: int(kept[split]) for split in HELD_OUT}
    return _count(dataset)


def tell(dataset: Dataset, warn: Say) -> None:
    """Warns of held-out images that are in train too, if there are any."""
    if (told := note(dataset)) is not None:
        warn(told)


def note(dataset: Dataset) -> str | None:
    """A line on the held-out images that are in train too; None if there are none."""
    kind = dataset.spec.kind
    found = [f"{n:,} of the {len(dataset.split(split)):,} {split} {kind}s" for split, n in count(dataset).items() if n]
    if not found:
        return None
    return f"{' and '.join(found)} are equal to train {kind}s: numbers measured on them are of what the model has seen"


def equal(rows: Rows, others: Rows) -> int:
    """How many of the others are byte-equal to one of the rows."""
    seen = set(_digests(rows))
    return sum(digest in seen for digest in _digests(others))


def _count(dataset: Dataset) -> dict[str, int]:
    held_out = {split: list(_digests(dataset.intensity(split))) for split in HELD_OUT}
    wanted = {digest for digests in held_out.values() for digest in digests}
    seen = {digest for digest in _digests(dataset.train) if digest in wanted}
    return {split: sum(digest in seen for digest in digests) for split, digests in held_out.items()}


def _digests(rows: Rows) -> Iterator[bytes]:
    """Of each row in turn; a piece of the rows at a time is read."""
    start, step = 0, 1
    while start < len(rows):
        images = rows.take(np.arange(start, min(start + step, len(rows))))[0]
        for image in images:
            yield hashlib.sha256(image.tobytes()).digest()
        start, step = start + step, max(1, PIECE_BYTES // images[0].nbytes)
