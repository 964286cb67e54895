"""What the code knows of the classes: frozen features, read by simple readers, beside pixels and PCA of the same size.

Alain & Bengio 2017, "Understanding intermediate layers using linear classifier probes", section 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aecli.core.model import Kind
from aecli.evaluation.codes import LARGEST_PROBED, codes_without_labels, protocol_of
from aecli.evaluation.subject import Subject
from aecli.measures import probes
from aecli.measures.metric import Findings, Metric, average
from aecli.measures.probes import Labelled

READERS = ("linear_probe", "knn", "ridge")


def measure(subject: Subject) -> Findings:
    """For models that encode, on labelled data. `linear_probe_accuracy`: multinomial logistic regression. `knn_accuracy`: nearest
    neighbours. `ridge_accuracy`: least squares on the classes, with no setting to choose. Fitted to the labelled images of the
    train split; strength and number of neighbours are chosen on those of the validation split, or on a tenth of train where there
    are none. The codes are made without the label. None where there is nothing to read or to learn from."""
    labels = {split: np.asarray(subject.dataset.split(split).labels) for split in ("train", "validation")}
    chosen = _parts(labels["train"], labels["validation"], subject.labels)
    why, notes = _told(labels["train"][chosen.fitted], subject.labels[chosen.measured], subject.spec.kind)
    protocol = {"train_images": len(chosen.fitted), "labels": "all", **protocol_of(subject)}
    if why is not None:
        return Findings(
            {f"{r}_accuracy": Metric(None, None, len(chosen.measured), "share", "higher", {}, protocol, why) for r in READERS}
        )

    def parts(of: Any) -> tuple[Labelled, Labelled, Labelled]:
        """`of(split)` gives the features of a split."""
        train, choosing = of("train"), of("train" if chosen.from_train else "validation")
        label = labels["train" if chosen.from_train else "validation"]
        return (
            Labelled(train[chosen.fitted], labels["train"][chosen.fitted]),
            Labelled(choosing[chosen.choosing], label[chosen.choosing]),
            Labelled(of(subject.split)[chosen.measured], subject.labels[chosen.measured]),
        )

    found = _read(*parts(lambda split: codes_without_labels(subject, split)))
    beside: dict[str, dict[str, Any]] = {}
    if subject.spec.size <= LARGEST_PROBED:
        beside[subject.raw] = subject.shared("probes-pixels", lambda: _read(*parts(subject.pixels)))
    size, pca = subject.code_length, subject.pca
    if pca is not None and size < subject.spec.size:
        k = size
        made = subject.shared(f"probes-pca{k}", lambda: _read(*parts(lambda split: _pca_codes(subject, split, k))))
        beside[f"PCA {k}"] = made
    metrics = {
        f"{reader}_accuracy": average(
            f"{reader}_accuracy",
            found[reader],
            "higher",
            baselines={name: float(np.mean(other[reader])) for name, other in beside.items()},
            protocol=protocol | ({"choice": float(found[f"{reader}_choice"])} if f"{reader}_choice" in found else {}),
        )
        for reader in READERS
    }
    return Findings(metrics, {reader: found[reader] for reader in READERS}, notes)


class _Parts(NamedTuple):
    """Which images have a label and what for, by their numbers in their split: `fitted` of train, `choosing` of the validation
    split, or of train where `from_train`, `measured` of the split that is measured."""

    fitted: Any
    choosing: Any
    measured: Any
    from_train: bool


def _parts(train: Any, validation: Any, measured: Any) -> _Parts:
    """From the labels [n] of the three splits, -1 where there is none."""
    fitted, choosing, held_out = (np.flatnonzero(label >= 0) for label in (train, validation, measured))
    if len(choosing):
        return _Parts(fitted, choosing, held_out, False)
    # Not the last tenth: where they stand in train may tell the class.
    shuffled = np.random.Generator(np.random.Philox(0)).permutation(fitted)
    tenth = max(1, len(fitted) // 10)
    return _Parts(np.sort(shuffled[tenth:]), np.sort(shuffled[:tenth]), held_out, True)


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


def _pca_codes(subject: Subject, split: str, k: int) -> Any:
    pca = subject.pca
    assert pca is not None
    return np.concatenate([pca.code(x, k).astype(np.float32) for x in subject.images(split)])
