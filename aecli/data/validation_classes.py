"""Classes that are on one side alone of train and validation, though both have images enough: of data in the order of its classes
the end that is held out for validation is of the last ones, and chooses the best checkpoint by these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aecli.data.classes import labels_of
from aecli.data.dataset import Dataset
from aecli.data.sources.base import Say
from aecli.data.sources.told import some

EXPECTED, DEVIATIONS = 10, 6
"""By how many images more than chance gives, and by how many standard deviations of that, a split has to lack classes."""


def tell(dataset: Dataset, warn: Say) -> None:
    """Warns of classes that validation lacks though train has many images of them, and the reverse; of a validation split of a
    dozen images nothing can be told."""
    if not dataset.spec.classes or not len(dataset.validation):
        return
    counts = {split: _counts(dataset, split) for split in ("train", "validation")}
    every = counts["train"] + counts["validation"]
    names, kind = dataset.class_names or tuple(map(str, range(dataset.spec.classes))), dataset.spec.kind
    found: list[str] = []
    for split, other in (("validation", "train"), ("train", "validation")):
        missing = np.flatnonzero((counts[split] == 0) & (every > 0))
        if _lacks_too_many(counts[split], every):
            has = int(every[missing].sum())
            found.append(f"no {split} {kind} is of {some([names[at] for at in missing])}, of which {other} has {has:,}")
    if found:
        why = "where no validation split is given, it is the end of train"
        warn(f"{'; '.join(found)}: {why}, so shuffle {kind}s that lie in the order of their classes")


def _lacks_too_many(counts: NDArray[np.int64], every: NDArray[np.int64]) -> bool:
    """Whether a split of `counts` [classes] out of `every` image [classes] lacks more than a random part of them would. Of a
    class of which l images are expected it has none with the chance exp(-l) (Poisson), and then lacks l: the sum over classes is
    held against its mean and deviation. With K classes one of l = EXPECTED + log K is lacking once in exp(EXPECTED) at most."""
    expected = every * (counts.sum() / max(1, every.sum()))
    none = np.exp(-expected)
    deviation = np.sqrt((expected**2 * none * (1 - none)).sum())
    margin = max(EXPECTED + np.log(max(1, (every > 0).sum())), DEVIATIONS * deviation)
    return bool(expected[counts == 0].sum() > (expected * none).sum() + margin)


def _counts(dataset: Dataset, split: str) -> NDArray[np.int64]:
    """How many images of each class a split has, [classes]."""
    labels = labels_of(dataset.split(split), dataset.fingerprint, split)
    return np.bincount(labels[labels >= 0], minlength=dataset.spec.classes)
