"""A measured number with its uncertainty, and how per-example values become one."""

from __future__ import annotations

from math import log10, sqrt
from typing import Any, NamedTuple

import numpy as np

_UNITS = (("_nats", "nats"), ("_db", "dB"), ("bits_per_dim", "bits"))


class Metric(NamedTuple):
    """`standard_error` is that of `value` over the `n` examples as a sample from the data distribution; None where n < 2."""

    value: float
    standard_error: float | None
    n: int
    unit: str

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


def average(name: str, values: Any) -> Metric:
    """The mean of per-example values [n], in float64: every example weighs the same, whatever batch it came in."""
    array = np.asarray(values, np.float64)
    n = len(array)
    error = float(array.std(ddof=1) / sqrt(n)) if n > 1 else None
    return Metric(float(array.mean()), error, n, unit_of(name))


def psnr_db(mse: Metric) -> Metric:
    """Peak signal-to-noise ratio of images in [0, 1], pooled: of the mean squared error over all examples, not the mean of
    each image's own ratio, which is larger."""
    value = max(mse.value, 1e-20)
    error = None if mse.standard_error is None else 10 / np.log(10) * mse.standard_error / value
    return Metric(-10 * log10(value), None if error is None else float(error), mse.n, "dB")


def unit_of(name: str) -> str:
    """The unit that a metric's name carries; the objective and its parts without one are in nats."""
    if name == "loss":
        return "nats"
    if name == "mse":
        return "squared intensity"
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "1")
