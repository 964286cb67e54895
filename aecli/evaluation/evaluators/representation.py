"""What the code knows of the classes: frozen features, read by simple readers, beside pixels and PCA of the same size.

Alain & Bengio 2017, "Understanding intermediate layers using linear classifier probes", section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aecli.evaluation.codes import LARGEST_PROBED, codes_of_split
from aecli.evaluation.subject import Subject
from aecli.measures import probes
from aecli.measures.metric import Findings, average
from aecli.measures.probes import Labelled

READERS = ("linear_probe", "knn", "ridge")


def measure(subject: Subject) -> Findings:
    """For models that encode, on labelled data. `linear_probe_accuracy`: multinomial logistic regression. `knn_accuracy`: nearest
    neighbours. `ridge_accuracy`: least squares on the classes, with no setting to choose. Fitted to the train split; strength
    and number of neighbours are chosen on the validation split, or on the last tenth of train where there is none."""
    cut = len(subject.dataset.train)
    if not len(subject.dataset.validation):
        cut -= max(1, cut // 10)

    def parts(of: Any) -> tuple[Labelled, Labelled, Labelled]:
        """`of(split)` gives the features of a split."""
        train = Labelled(of("train"), subject.dataset.train.all()[1])
        held_out = Labelled(of(subject.split), subject.labels)
        if cut < len(train.label):
            return Labelled(*(x[:cut] for x in train)), Labelled(*(x[cut:] for x in train)), held_out
        return train, Labelled(of("validation"), subject.dataset.validation.all()[1]), held_out

    found = _read(*parts(lambda split: codes_of_split(subject, split)))
    beside: dict[str, dict[str, Any]] = {}
    if subject.spec.size <= LARGEST_PROBED:
        beside["raw pixels"] = subject.shared("probes-pixels", lambda: _read(*parts(subject.pixels)))
    size, pca = subject.code_length, subject.pca
    if pca is not None and size < subject.spec.size:
        k = size
        made = subject.shared(f"probes-pca{k}", lambda: _read(*parts(lambda split: _pca_codes(subject, split, k))))
        beside[f"PCA {k}"] = made
    protocol = {"train_images": cut, "labels": "all"}
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
    return Findings(metrics, {reader: found[reader] for reader in READERS})


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
