"""Whether the code falls into the classes by itself, and whether single units stand for single factors of the data.

MIG: Chen et al. 2018, "Isolating sources of disentanglement in VAEs", equation 6. DCI: Eastwood & Williams 2018, "A framework for
the quantitative evaluation of disentangled representations", section 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aecli.data import factors as known
from aecli.evaluate import features
from aecli.evaluate.features import codes
from aecli.evaluate.metric import Findings, Metric
from aecli.evaluate.subject import Subject

RESTARTS = 10
BINS = 20
TREES = 100


def cannot(subject: Subject) -> str | None:
    if len(subject.rows) < 2 * subject.spec.classes:
        return f"{len(subject.rows)} images are too few"
    return features.cannot(subject)


def measure(subject: Subject) -> Findings:
    """For models that encode, on labelled data. `nmi` and `ari`: agreement of k-means on the codes of the split, as many clusters
    as classes, with the classes (normalized mutual information; adjusted Rand index, 0 by chance); beside it k-means on pixels.

    Where the factors of the images are known (`shapes`): `mig`, codes cut into 20 bins of equal width; `dci_disentanglement`,
    `dci_completeness` and `dci_informativeness` (the accuracy), from random forests of 100 trees fitted to the train split."""
    code, n = codes(subject), len(subject.rows)
    nmi, ari = _agreement(code, subject)
    pixels = subject.shared("kmeans-pixels", lambda: {"scores": np.asarray(_agreement(subject.pixels(subject.split), subject))})
    protocol = {"clusters": subject.spec.classes, "restarts": RESTARTS}
    metrics = {
        "nmi": Metric(nmi, None, n, "1", "higher", {"raw pixels": float(pixels["scores"][0])}, protocol),
        "ari": Metric(ari, None, n, "1", "higher", {"raw pixels": float(pixels["scores"][1])}, protocol),
    }
    factors = known.of(subject.dataset.intensity(subject.split))
    train = None if factors is None else known.of(subject.dataset.train)
    if factors is None or train is None:
        return Findings(metrics)
    names = {"factors": list(known.READABLE)}
    metrics["mig"] = Metric(mutual_information_gap(code, factors), None, n, "1", "higher", {}, names | {"bins": BINS})
    disentangled, complete, informative = dci(codes(subject, "train"), train, code, factors)
    for name, value in (("disentanglement", disentangled), ("completeness", complete), ("informativeness", informative)):
        metrics[f"dci_{name}"] = Metric(value, None, n, "1", "higher", {}, names | {"trees": TREES})
    return Findings(metrics)


def _agreement(of: Any, subject: Subject) -> tuple[float, float]:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    kmeans: Any = KMeans  # its types know the default of n_init alone
    found = kmeans(subject.spec.classes, n_init=RESTARTS, random_state=0).fit_predict(np.asarray(of, np.float32))
    return float(normalized_mutual_info_score(subject.labels, found)), float(adjusted_rand_score(subject.labels, found))


def mutual_information_gap(code: Any, factors: Any) -> float:
    """[n, d] and whole numbers [n, k] -> the mean over factors of the gap between the two most informative units, over the
    factor's entropy."""
    from sklearn.metrics import mutual_info_score

    cut = np.stack([_bins(unit) for unit in np.asarray(code).T], axis=1)
    gaps: list[float] = []
    for factor in factors.T:
        information = sorted((mutual_info_score(unit, factor) for unit in cut.T), reverse=True)
        second = information[1] if len(information) > 1 else 0.0
        gaps.append((information[0] - second) / mutual_info_score(factor, factor))
    return float(np.mean(gaps))


def _bins(unit: Any) -> Any:
    edges = np.linspace(unit.min(), unit.max(), BINS + 1)[1:-1]
    return np.digitize(unit, edges)


def dci(code: Any, factors: Any, held_out: Any, held_out_factors: Any) -> tuple[float, float, float]:
    """Disentanglement and completeness of the importance of units for factors, and the mean accuracy of the readers."""
    from sklearn.ensemble import RandomForestClassifier

    forest: Any = RandomForestClassifier  # its types know the default of max_features alone
    importance: list[Any] = []
    accuracy: list[float] = []
    for factor, expected in zip(factors.T, held_out_factors.T, strict=True):
        reader = forest(TREES, random_state=0, min_samples_leaf=2, max_features=None, n_jobs=-1).fit(code, factor)
        importance.append(reader.feature_importances_)
        accuracy.append(float(reader.score(held_out, expected)))
    share = np.stack(importance, axis=1)  # [units, factors]
    per_unit = 1 - _entropy(share / np.maximum(share.sum(1, keepdims=True), 1e-12)) / np.log(max(2, share.shape[1]))
    per_factor = 1 - _entropy((share / np.maximum(share.sum(0, keepdims=True), 1e-12)).T) / np.log(max(2, share.shape[0]))
    weight = share.sum(1) / share.sum()
    return float(weight @ per_unit), float(per_factor.mean()), float(np.mean(accuracy))


def _entropy(rows: Any) -> Any:
    return -(rows * np.log(np.maximum(rows, 1e-12))).sum(1)
