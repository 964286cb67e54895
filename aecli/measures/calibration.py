"""Whether a classifier is right as often as it says."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15


def expected_calibration_error(confidence: Any, right: Any) -> float:
    """The mean distance between how sure the classifier is of its answers, [n] in [0, 1], and the share of them that is right,
    [n] bool, over 15 bins of confidence of equal width, each with the weight of its answers (Guo et al. 2017, "On calibration
    of modern neural networks", equation 3). A bin holds its upper end and not its lower, but the first holds 0."""
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    within = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gap = np.bincount(within, right - confidence, BINS)
    return float(np.abs(gap).sum() / len(confidence))
