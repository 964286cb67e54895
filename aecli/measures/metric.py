"""A measured number with its uncertainty, and how per-image values become one."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10, sqrt
from typing import Any, Literal, NamedTuple

import numpy as np

_UNITS = (("_nats", "nats"), ("_db", "dB"), ("bits_per_dim", "bits"), ("_deg", "degrees"))

VERSION = 1
"""The version of what the metrics mean: numbers of another one are not to be compared with these."""

Better = Literal["lower", "higher"]


class Metric(NamedTuple):
    """`standard_error` is that of `value` over the `n` images as a sample from the data distribution; None if it has none.
    `better` says which way is, where one is. `baselines`: what plain methods reach on the same images, by name. `protocol`:
    what the number depends on beside the run, the split and the seed."""

    value: float
    standard_error: float | None
    n: int
    unit: str
    better: Better | None = None
    baselines: Mapping[str, float] = {}
    protocol: Mapping[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "baselines": dict(self.baselines), "protocol": dict(self.protocol)}

    def best_baseline(self) -> tuple[str, float] | None:
        """Name and value of the best one, where there is any and a direction."""
        if not self.baselines or self.better is None:
            return None
        choose = min if self.better == "lower" else max
        return choose(self.baselines.items(), key=lambda item: item[1])


class Recorded(NamedTuple):
    """A metric as it is kept with a run: the evaluator that measured it, and a `protocol` that says all that it depends on."""

    metric: Metric
    evaluator: str

    @property
    def protocol(self) -> Mapping[str, Any]:
        return self.metric.protocol

    def as_json(self) -> dict[str, Any]:
        return {**self.metric.as_json(), "evaluator": self.evaluator}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recorded:
        """Raises KeyError if a part is missing."""
        return cls(Metric(**{field: value[field] for field in Metric._fields}), value["evaluator"])


class Findings(NamedTuple):
    """What an evaluator found: numbers by name, per-image values [n] by name, so that two runs can be compared image by image,
    and what a person should be told."""

    metrics: Mapping[str, Metric]
    values: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()


def average(name: str, values: Any, better: Better | None = None, unit: str | None = None, **more: Any) -> Metric:
    """The mean of per-image values [n], in float64: every image weighs the same, whatever batch it came in."""
    array = np.asarray(values, np.float64)
    n = len(array)
    error = float(array.std(ddof=1) / sqrt(n)) if n > 1 else None
    return Metric(float(array.mean()), error, n, unit or unit_of(name), better, **more)


def to_db(mse: float) -> float:
    """Peak signal-to-noise ratio of images in [0, 1] with such a mean squared error."""
    return -10 * log10(max(mse, 1e-20))


def psnr_db(mse: Metric) -> Metric:
    """Peak signal-to-noise ratio of images in [0, 1], pooled: of the mean squared error over all images, not the mean of each
    image's own ratio, which is larger. Baselines are converted too."""
    error = None if mse.standard_error is None else 10 / np.log(10) * mse.standard_error / max(mse.value, 1e-20)
    baselines = {name: to_db(value) for name, value in mse.baselines.items()}
    return Metric(to_db(mse.value), None if error is None else float(error), mse.n, "dB", "higher", baselines, mse.protocol)


def unit_of(name: str) -> str:
    """The unit that a metric's name carries; the objective and its parts without one are in nats."""
    if name == "loss":
        return "nats"
    if name == "mse":
        return "intensity^2"
    if name.endswith("accuracy"):
        return "share"
    if name == "mae":
        return "intensity"
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "1")
