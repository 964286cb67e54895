"""Whether single units of a code stand for single factors of the data.

MIG: Chen et al. 2018, "Isolating sources of disentanglement in VAEs", equation 6. DCI: Eastwood & Williams 2018, "A framework for
the quantitative evaluation of disentangled representations", section 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

BINS = 20
TREES = 100


def varying(factors: Any) -> Any:
    """Which of whole numbers [n, k] are not the same for all n, [k] bool: of the others nothing can be told."""
    return (factors != factors[:1]).any(axis=0)


def mutual_information_gap(code: Any, factors: Any) -> float:
    """[n, d] and whole numbers [n, k], all of which vary, -> the mean over factors of the gap between the two most informative
    units, over the factor's entropy."""
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


class Dci(NamedTuple):
    """None where no unit is of any importance."""

    disentanglement: float | None
    completeness: float | None
    informativeness: float


def dci(code: Any, factors: Any, held_out: Any, held_out_factors: Any) -> Dci:
    """Disentanglement and completeness of the importance of units for factors, and the mean accuracy of the readers: these are
    fitted to codes [n, d] and whole numbers [n, k], and read held-out ones [m, d] and [m, k]. All factors vary: one that does not
    would count as read without a fault, and as one more that units are spread over."""
    from sklearn.ensemble import RandomForestClassifier

    forest: Any = RandomForestClassifier  # its types know the default of max_features alone
    importance: list[Any] = []
    accuracy: list[float] = []
    for factor, expected in zip(factors.T, held_out_factors.T, strict=True):
        reader = forest(TREES, random_state=0, min_samples_leaf=2, max_features=None, n_jobs=-1).fit(code, factor)
        importance.append(reader.feature_importances_)
        accuracy.append(float(reader.score(held_out, expected)))
    share = np.stack(importance, axis=1)  # [units, factors]
    if not share.any():  # constant codes
        return Dci(None, None, float(np.mean(accuracy)))
    per_unit = 1 - _entropy(share / np.maximum(share.sum(1, keepdims=True), 1e-12)) / np.log(max(2, share.shape[1]))
    per_factor = 1 - _entropy((share / np.maximum(share.sum(0, keepdims=True), 1e-12)).T) / np.log(max(2, share.shape[0]))
    weight = share.sum(1) / share.sum()
    return Dci(float(weight @ per_unit), float(per_factor.mean()), float(np.mean(accuracy)))


def _entropy(rows: Any) -> Any:
    return -(rows * np.log(np.maximum(rows, 1e-12))).sum(1)
