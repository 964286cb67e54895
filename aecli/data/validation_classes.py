"""Classes that are on one side alone of train and validation, though both have images enough: of data in the order of its classes
the end that is held out for validation is of the last ones, and chooses the best checkpoint by these."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import numpy as np

from aecli.data.dataset import Dataset
from aecli.data.sources.base import Say
from aecli.data.sources.told import some
from aecli.system.arrays import kept_arrays
from aecli.system.folders import cache_root

EXPECTED = 10
"""How many images of the classes that a split lacks it would have by their share: of one class, none at random is as rare as one
in 20,000 then."""


def tell(dataset: Dataset, warn: Say) -> None:
    """Warns of classes that validation lacks though train has many images of them, and the reverse. Of c images of a class a
    split has the share l by expectation, and at random none with the chance exp(-l): what it lacks of all classes together is
    held against twice what it would so lack, and EXPECTED more."""
    sizes = {"train": len(dataset.train), "validation": len(dataset.validation)}
    if not dataset.spec.classes or not sizes["validation"]:
        return
    counts = _counts(dataset, sizes)
    every = counts["train"] + counts["validation"]
    total = max(1, int(every.sum()))
    names, kind = dataset.class_names or tuple(map(str, range(dataset.spec.classes))), dataset.spec.kind
    found: list[str] = []
    for split, other in (("validation", "train"), ("train", "validation")):
        share = every * (counts[split].sum() / total)
        missing = np.flatnonzero((counts[split] == 0) & (every > 0))
        if share[missing].sum() > EXPECTED + 2 * (share * np.exp(-share)).sum():
            has = int(every[missing].sum())
            found.append(f"no {split} {kind} is of {some([names[at] for at in missing])}, of which {other} has {has:,}")
    if found:
        why = "where no validation split is given, it is the end of train"
        warn(f"{'; '.join(found)}: {why}, so shuffle {kind}s that lie in the order of their classes")


def _counts(dataset: Dataset, sizes: dict[str, int]) -> dict[str, Any]:
    """How many images of each class both splits have, [classes] each. Counted once for all runs on such data: a stream decodes
    all of its images for it."""
    stamp = json.dumps({"fingerprint": dataset.fingerprint, **sizes}, sort_keys=True)
    path = cache_root() / "shared" / f"classes-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npz"

    def make() -> dict[str, Any]:
        labels = {split: np.asarray(dataset.split(split).labels) for split in sizes}
        return {split: np.bincount(each[each >= 0], minlength=dataset.spec.classes) for split, each in labels.items()}

    with contextlib.suppress(OSError):  # no cache
        return kept_arrays(path, stamp, make, "counts classes in this data")
    return make()
