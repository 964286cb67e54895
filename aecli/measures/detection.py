"""How well a score tells anomalies from normal images, whatever threshold may be chosen: a higher score is to mean an anomaly."""

from __future__ import annotations

from math import hypot
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.measures.metric import standard_error

Array = NDArray[np.float64]


class Auroc(NamedTuple):
    """The area, and the parts that it is the mean of: `of_normal` [n], for each normal image the share of anomalies that score
    higher, and `of_anomalous` [m], for each anomaly the share of normal images that score lower."""

    value: float
    of_normal: Array
    of_anomalous: Array

    def less(self, other: Auroc) -> Auroc:
        """How much larger the area is than that of another score of the same images, in the same parts."""
        return Auroc(self.value - other.value, self.of_normal - other.of_normal, self.of_anomalous - other.of_anomalous)

    def standard_error(self, blocks: tuple[Any, Any] = (None, None)) -> float | None:
        """Over both kinds of images as samples, whatever distributions they are from (DeLong, DeLong & Clarke-Pearson 1988,
        "Comparing the areas under two or more correlated receiver operating characteristic curves": the variances of the two
        structural components, each over its number of images; of a difference of two areas those of the differences, which holds
        their covariance). `blocks` [n] and [m] as of `metric.standard_error`. None where one of the two is a single image."""
        errors = [standard_error(*each) for each in zip((self.of_normal, self.of_anomalous), blocks, strict=True)]
        known = [error for error in errors if error is not None]
        return hypot(*known) if len(known) == 2 else None


def auroc(normal: NDArray[np.floating], anomalous: NDArray[np.floating]) -> Auroc:
    """The probability that an anomaly scores higher than a normal image, a tie counting half, of scores [n] and [m]: the area
    under the ROC curve, which is the Mann-Whitney statistic over n m."""
    x, y = np.asarray(normal, np.float64), np.asarray(anomalous, np.float64)
    of_anomalous = _share_below(y, x)
    return Auroc(float(of_anomalous.mean()), 1 - _share_below(x, y), of_anomalous)


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
