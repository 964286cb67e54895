"""What the model knows of the classes: frozen features, read by simple readers, beside pixels, PCA of the same size, and what
k-means makes of patches.

Features are the code, of a `vq` all of it; of an autoregressive model and of a U-Net the means over regions of what it has at
its sites. They are made without the label, also by a conditional model. Readers are fitted to the labelled images of the train
split, at most 60,000, of each class its share; their strength is chosen on at most 10,000, the number of neighbours on at most
2,000 of the validation split, which neighbours and least squares then learn from, too, or of a tenth of train where there is
none or it is what is measured (Alain & Bengio 2017, "Understanding intermediate layers using linear classifier probes", section
3). `patch k-means` beside the linear probe is what a layer of 100 centroids of 6x6 pixels gives without any gradient, 900
numbers of an image (Coates, Ng & Lee 2011, "An analysis of single-layer networks in unsupervised feature learning").

What a reader reads is not all that there is: a low number may be of features that are not in lines. Numbers of codes of other
sizes differ by size alone; `PCA` beside them is of the same.

Metrics
-------
- `linear_probe_accuracy` (share, higher): of multinomial logistic regression, at its optimum.
- `knn_accuracy` (share, higher): of the nearest neighbours, exact ones.
- `ridge_accuracy` (share, higher): of least squares on the classes, with no setting to choose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aecli.core.model import Kind, Spec
from aecli.evaluation.codes import LARGEST_PROBED, features_without_labels, protocol_of
from aecli.evaluation.subject import Subject, at
from aecli.measures import probes
from aecli.measures.baselines import patches
from aecli.measures.baselines.linear import Pca
from aecli.measures.metric import Findings, Metric, average
from aecli.measures.probes import Labelled

READERS = ("linear_probe", "knn", "ridge")


def measure(subject: Subject) -> Findings:
    """For models that encode, on labelled data. None where there is nothing to read or to learn from."""
    train = np.asarray(subject.dataset.train.labels)
    validation = np.asarray(subject.dataset.validation.labels)
    # What is measured chooses nothing, and nothing is fitted to it.
    chosen = _parts(train, validation[:0] if subject.split == "validation" else validation, subject.labels)
    labels = {"train": train, "validation": validation}
    why, notes = _told(labels["train"][chosen.fitted], subject.labels[chosen.measured], subject.spec.kind)
    n = len(chosen.fitted)
    protocol = {"train_images": n, "labels": chosen.share, **protocol_of(subject)}
    if why is not None:
        return Findings(
            {f"{r}_accuracy": Metric(None, None, len(chosen.measured), "share", "higher", {}, protocol, why) for r in READERS}
        )

    def parts(of: Callable[[str, Any], Any]) -> tuple[Labelled, Labelled, Labelled]:
        """`of(split, index)` gives the features at rising numbers of a split."""
        choosing = "train" if chosen.from_train else "validation"
        return (
            Labelled(of("train", chosen.fitted), labels["train"][chosen.fitted]),
            Labelled(of(choosing, chosen.choosing), labels[choosing][chosen.choosing]),
            Labelled(of(subject.split, chosen.measured), subject.labels[chosen.measured]),
        )

    found = _read(*parts(lambda split, index: features_without_labels(subject, split)[index]))
    beside: dict[str, dict[str, Any]] = {}
    if subject.spec.size <= LARGEST_PROBED:
        beside[subject.raw] = subject.shared(f"probes-pixels-{n}", lambda: _read(*parts(subject.chosen)))
    size, pca = subject.feature_count, subject.pca
    if pca is not None and size < subject.spec.size:
        beside[f"PCA {size}"] = subject.shared(
            f"probes-pca{size}-{n}", lambda: _read(*parts(lambda split, index: _pca_codes(subject, pca, split, index)))
        )
    if _has_patches(subject.spec):
        beside["patch k-means"] = subject.shared(f"probes-patches-{n}", lambda: _read_patches(subject, *parts(subject.chosen)))
    metrics = {
        f"{reader}_accuracy": average(
            f"{reader}_accuracy",
            found[reader],
            "higher",
            blocks=None if subject.blocks is None else subject.blocks[chosen.measured],
            beside={name: other[reader] for name, other in beside.items() if reader in other},
            protocol=protocol | ({"choice": float(found[f"{reader}_choice"])} if f"{reader}_choice" in found else {}),
        )
        for reader in READERS
    }
    return Findings(metrics, {reader: found[reader] for reader in READERS}, notes)


class _Parts(NamedTuple):
    """Which images have a label and what for, by their numbers in their split: `fitted` of train, `choosing` of the validation
    split, or of train where `from_train`, `measured` of the split that is measured. `share` says how many of the train images'
    labels are made use of."""

    fitted: Any
    choosing: Any
    measured: Any
    from_train: bool
    share: str


def _parts(train: Any, validation: Any, measured: Any) -> _Parts:
    """From the labels [n] of the three splits, -1 where there is none."""
    fitted, choosing, held_out = (np.flatnonzero(label >= 0) for label in (train, validation, measured))
    share = "all" if len(fitted) <= probes.MOST_FITTED else "of each class its share"
    fitted = probes.some_of(Labelled(fitted, train[fitted]), probes.MOST_FITTED).features
    if len(choosing):
        choosing = probes.some_of(Labelled(choosing, validation[choosing]), probes.MOST_CHOOSING).features
        return _Parts(fitted, choosing, held_out, False, share)
    # Not the last tenth: where they stand in train may tell the class.
    shuffled = np.random.Generator(np.random.Philox(0)).permutation(fitted)
    tenth = max(1, len(fitted) // 10)
    return _Parts(np.sort(shuffled[tenth:]), np.sort(shuffled[:tenth]), held_out, True, share)


def _told(fitted: Any, measured: Any, kind: Kind) -> tuple[str | None, tuple[str, ...]]:
    """Why nothing can be read, or None; and what else is to be known of the labels."""
    if not len(measured):
        return f"no {kind} of the split has a label", ()
    known = np.unique(fitted)
    if len(known) < 2:
        seen = "one class alone" if len(known) else "no class"
        return f"the labelled train {kind}s show {seen}: there is nothing to tell apart", ()
    new = np.setdiff1d(measured, known)
    if not len(new):
        return None, ()
    unknown = int(np.isin(measured, new).sum())
    named = ", ".join(map(str, new[:5])) + (", ..." if len(new) > 5 else "")
    return None, (
        f"{unknown} of the {len(measured)} {kind}s are of classes that no probe was fitted to ({named}): they count as wrong",
    )


def _read(train: Labelled, validation: Labelled, held_out: Labelled) -> dict[str, Any]:
    every = Labelled(*(np.concatenate(pair) for pair in zip(train, validation, strict=True)))
    linear, near = probes.logistic(train, validation, held_out), probes.nearest(train, validation, held_out)
    return {
        "linear_probe": linear.right,
        "linear_probe_choice": np.float64(linear.choice),
        "knn": near.right,
        "knn_choice": np.float64(near.choice),
        "ridge": probes.ridge(every, held_out),
    }


def _has_patches(spec: Spec) -> bool:
    """Whether images are large enough for patches, and small enough for all of them to be held in memory."""
    return spec.kind == "image" and min(spec.height, spec.width) >= patches.SMALLEST and spec.size <= LARGEST_PROBED


def _read_patches(subject: Subject, train: Labelled, validation: Labelled, held_out: Labelled) -> dict[str, Any]:
    """By the reader that such features are made for."""
    three = (train, validation, held_out)
    images = [part.features.reshape(len(part.features), *subject.spec.shape) for part in three]
    dictionary = patches.fit(images[0])
    made = patches.standardized(*(patches.features(dictionary, part) for part in images))
    read = (Labelled(features, part.label) for features, part in zip(made, three, strict=True))
    return {"linear_probe": probes.logistic(*read).right}


def _pca_codes(subject: Subject, pca: Pca, split: str, index: Any) -> Any:
    """Of as many numbers as there are features."""
    return at((pca.code(x, subject.feature_count).astype(np.float32) for x in subject.images(split)), index)
