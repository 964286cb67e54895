"""How far apart two groups are: the difference of their means, an interval, a verdict, and Holm's correction of many.

Over seeds: Student's t on the seeds' means with unequal variances (Welch 1947). A bootstrap over five seeds covers too little.
Over images: Student's t on the differences image by image, by blocks of images where these are not independent. Holm 1979,
"A simple sequentially rejective multiple test procedure".
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, NamedTuple

LEVEL, ALARM = 0.95, 0.05
"""Of the intervals, and what the corrected p is below where a difference is told."""

FIRST, SECOND, DIFFER = "first better", "second better", "differ"
NOT_SHOWN = "no difference shown"
ONE_SEED = "undecided: one seed"
VARIED = "undecided: settings differ within a group"
NO_SPREAD = "undecided: no spread over seeds"

Over = Literal["seeds", "images"]


class Sample(NamedTuple):
    """The mean of each seed of a group, and the values of each image [n] (of several seeds, their mean), in an order that other
    samples share; None where they are not known."""

    seeds: Sequence[float]
    images: Any = None


class Difference(NamedTuple):
    """`value` is the second's mean less the first's; `low` and `high` bound it. `over` says what the interval is over, None where
    there is none. `p` is that of a test over seeds."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    over: Over | None = None


def difference(first: Sample, second: Sample, blocks: Any = None) -> Difference:
    """Over seeds where both have several, else over images where both know them. `blocks` [n] are equal where images are not
    independent of each other.

    The interval over seeds is about what other seeds of the two configs would reach on these images: the spread of the images is
    in it as far as it moves the seeds' means. The one over images is about these trained models alone, on other images of the
    same kind; where a side has several seeds, about the mean of these."""
    if min(len(first.seeds), len(second.seeds)) > 1:
        return _over_seeds(first.seeds, second.seeds)
    value = _mean(second.seeds) - _mean(first.seeds)
    if first.images is None or second.images is None or len(first.images) != len(second.images):
        return Difference(value)
    return _over_images(value, first.images, second.images, blocks)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _over_seeds(first: Sequence[float], second: Sequence[float]) -> Difference:
    from scipy import stats

    value = _mean(second) - _mean(first)
    if len(set(first)) == len(set(second)) == 1:  # no spread to hold the difference against
        return Difference(value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of spreads that are tiny beside the mean, and of what overflows
        found: Any = stats.ttest_ind(second, first, equal_var=False)
        interval = found.confidence_interval(LEVEL)
    numbers = float(interval.low), float(interval.high), float(found.pvalue)
    return Difference(value, *numbers, over="seeds") if all(map(isfinite, numbers)) else Difference(value)


def _over_images(value: float, first: Any, second: Any, blocks: Any) -> Difference:
    import numpy as np
    from scipy import stats

    from aecli.measures.metric import standard_error

    with np.errstate(all="ignore"):
        apart = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    if len(apart) < 2 or not np.isfinite(apart).all():
        return Difference(value)
    if not np.ptp(apart):  # as of a run beside itself
        return Difference(value, value, value, over="images")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        error = standard_error(apart, blocks)
        if error is None:
            return Difference(value)
        independent = len(apart if blocks is None else np.unique(blocks))
        interval: Any = stats.t.interval(LEVEL, independent - 1, float(apart.mean()), error)
    numbers = float(interval[0]), float(interval[1])
    return Difference(value, *numbers, over="images") if all(map(isfinite, numbers)) else Difference(value)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p values, in the given order: of tests whose corrected p is below a level, the chance that any is a false alarm
    is below it."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[at]))
        corrected[at] = largest
    return corrected


def verdict(found: Difference, fewest_seeds: int, corrected: float | None, better: str | None) -> str:
    """What may be said of a difference: `fewest_seeds` of the two sides, the corrected p of the test over seeds, and which way is
    better, if any."""
    if fewest_seeds < 2:
        return ONE_SEED
    if corrected is None:
        return NO_SPREAD if found.value else NOT_SHOWN
    if corrected >= ALARM:
        return NOT_SHOWN
    if better is None:
        return DIFFER
    return SECOND if (found.value > 0) == (better == "higher") else FIRST
