"""How well a score tells anomalies from normal images, whatever threshold may be chosen: a higher score is to mean an anomaly."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Auroc(NamedTuple):
    """`standard_error` is None where one of the two has a single score."""

    value: float
    standard_error: float | None


def auroc(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> Auroc:
    """The probability that an anomaly scores higher than a normal image, a tie counting half, of scores [n] and [m]: the area
    under the ROC curve, which is the Mann-Whitney statistic over n m. Its standard error is over both as samples, whatever
    distributions they are from (DeLong, DeLong & Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver
    operating characteristic curves": the variances of the two structural components, each over its number of scores)."""
    x, y = np.asarray(normal, np.float64), np.asarray(anomalous, np.float64)
    of_anomalies, of_normal = _share_below(y, x), 1 - _share_below(x, y)
    value = float(of_anomalies.mean())
    if min(len(x), len(y)) < 2:
        return Auroc(value, None)
    return Auroc(value, sqrt(of_anomalies.var(ddof=1) / len(y) + of_normal.var(ddof=1) / len(x)))


def _share_below(scores: Array, others: Array) -> Array:
    """For each score the share of the others that are lower, of equal ones half."""
    ranked = np.sort(others)
    return (np.searchsorted(ranked, scores, "left") + np.searchsorted(ranked, scores, "right")) / (2 * len(others))


def average_precision(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> float:
    """The precision at each threshold, weighed by the recall that it adds, of scores [n] and [m] with anomalies as positives.
    Equal scores pass a threshold together. A score that says nothing reaches the share of anomalies."""
    scores = np.concatenate([normal, anomalous]).astype(np.float64)
    values, level = np.unique(-scores, return_inverse=True)  # the highest score first
    every = np.bincount(level, minlength=len(values))
    found = np.bincount(level[len(normal) :], minlength=len(values))
    precision = np.cumsum(found) / np.cumsum(every)
    return float((found * precision).sum() / len(anomalous))
