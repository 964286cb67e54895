"""A measured number with its uncertainty, and how per-image values become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite, log, log10, sqrt
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

_UNITS = (("_nats", "nats"), ("_db", "dB"), ("bits_per_dim", "bits"), ("_deg", "degrees"))

VERSION = 5
"""The version of what the metrics mean: numbers of another one are not to be compared with these. 2: codes that are held against
labels are made without the label; errors are of images in [0, 1], as a picture shows them; what has no true value has none. 3:
the linear probe is at its optimum, of two classes with the penalty of more; the affine restorer is that of all corrupted images
that there can be, not of one of each. 4: the number of neighbours is chosen on fewer images; random draws of an autoregressive
objective are by part of a batch. 5: probes and clusterings of autoregressive models and U-Nets are given means over regions."""

CAP_DB = 100.0
"""The most that a signal-to-noise ratio of images counts, of one and of a split: an error below it is the rounding of float32."""
EXACT_MSE = 10 ** (-CAP_DB / 10)
_DB = 10 / log(10)
EXACT = f"the images are equal to {CAP_DB:.0f} dB, which is as far as the ratio is told"

BLOCKS = "blocks"
"""What numbers of blocks are called among the values of each image."""

APART = 2.0
"""Standard errors by which a number and a baseline must differ for one of them to be called better."""

Better = Literal["lower", "higher"]


def best_of(baselines: Mapping[str, float], better: Better | None) -> tuple[str, float] | None:
    """Name and value of the best of `baselines`; None if there are none, or no way is better."""
    if not baselines or better is None:
        return None
    choose = min if better == "lower" else max  # baselines have a value: of one without there is no entry
    return choose(baselines.items(), key=lambda item: item[1])


class Judgeable(Protocol):
    """A number with what plain methods reach: a Metric, and what is kept of one."""

    @property
    def value(self) -> float | None: ...
    @property
    def standard_error(self) -> float | None: ...
    @property
    def better(self) -> Better | None: ...
    @property
    def baselines(self) -> Mapping[str, float]: ...
    @property
    def difference_errors(self) -> Mapping[str, float]: ...


def verdict(number: Judgeable) -> Literal["better", "worse", "alike"] | None:
    """What a number is beside the best of its baselines: `alike` if they are not more than APART standard errors from each other.
    The error is that of their difference where it is known, as images that are hard for one often are for the other; else that of
    the number alone. None if there is no baseline, no value or no error to tell by."""
    best = best_of(number.baselines, number.better)
    if best is None or number.value is None:
        return None
    name, value = best
    error = number.difference_errors.get(name, number.standard_error)
    if error is None:
        return None
    gain = (number.value - value) * (1 if number.better == "higher" else -1)
    return "alike" if abs(gain) <= APART * error else "better" if gain > 0 else "worse"


class Metric(NamedTuple):
    """`value` is None where there is no true one, and `note` says why. `standard_error` is that of `value` over the `n` images as
    a sample from the data distribution; None if it has none. `better` says which way is, where one is. `baselines`: what plain
    methods reach on the same images, by name; `difference_errors`: the standard errors of `value` less theirs, of those of which
    what each image adds to both is known, and of those of other images (`train images`), whose errors both count. `protocol`:
    what the number depends on beside the run, the split and the seed."""

    value: float | None
    standard_error: float | None
    n: int
    unit: str
    better: Better | None = None
    baselines: Mapping[str, float] = {}
    protocol: Mapping[str, Any] = {}
    note: str | None = None
    difference_errors: Mapping[str, float] = {}

    def as_json(self) -> dict[str, Any]:
        """The fields by name, `note` and `difference_errors` only if there are any."""
        told = {name: value for name, value in self._asdict().items() if value or name not in _OPTIONAL}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in told.items()}

    def none(self, note: str) -> Metric:
        """The same without a value, for the reason that `note` gives."""
        return self._replace(value=None, standard_error=None, difference_errors={}, note=note)

    def finite(self) -> Metric:
        """The same with None in place of a value, an error or a part of the protocol that is not finite, and without such
        baselines: JSON has no NaN and no infinity, and neither is a number to compare with."""
        metric = self._replace(
            baselines={name: value for name, value in self.baselines.items() if isfinite(value)},
            difference_errors={name: error for name, error in self.difference_errors.items() if isfinite(error)},
            protocol={key: _finite(value) for key, value in self.protocol.items()},
        )
        if self.value is not None and not isfinite(self.value):
            return metric.none(f"the value is not finite ({self.value})")
        if self.standard_error is not None and not isfinite(self.standard_error):
            return metric._replace(standard_error=None)
        return metric

    def best_baseline(self) -> tuple[str, float] | None:
        """Name and value of the best one, where there is any and a direction."""
        return best_of(self.baselines, self.better)


_OPTIONAL = ("note", "difference_errors")
"""Fields that stand in JSON only where they say something."""


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
        fields = {field: value[field] for field in Metric._fields if field not in _OPTIONAL}
        return cls(Metric(**fields, **{field: value[field] for field in _OPTIONAL if field in value}), value["evaluator"])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def version_of(protocols: Iterable[Mapping[str, Any]]) -> int | None:
    """The oldest version of metrics among the protocols of numbers; None if none says."""
    versions = [protocol.get("version") for protocol in protocols]
    return min((version for version in versions if isinstance(version, int)), default=None)


class Findings(NamedTuple):
    """What an evaluator found: numbers by name, per-image values [n] by name, so that two runs can be compared image by image,
    and what a person should be told."""

    metrics: Mapping[str, Metric]
    values: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()


def standard_error(values: Any, blocks: Any = None) -> float | None:
    """Of the mean of values [n], the images being a sample from the data distribution. `blocks` [n] are numbers, equal where
    images are not independent of each other: with G blocks the root of G / (G - 1) times the sum over blocks of (the sum of
    their values less the mean)^2, over n (Cameron & Miller 2015, "A practitioner's guide to cluster-robust inference", for a
    regression on a constant). Where each image is a block of its own that is the usual one. None of a single image or block."""
    array = np.asarray(values, np.float64)
    n = len(array)
    if blocks is None:
        return float(array.std(ddof=1) / sqrt(n)) if n > 1 else None
    place = np.unique(blocks, return_inverse=True)[1]
    sums = np.bincount(place, array - array.mean())
    g = len(sums)
    return float(np.sqrt(g / (g - 1) * (sums**2).sum()) / n) if g > 1 else None


def average(
    name: str,
    values: Any,
    better: Better | None = None,
    unit: str | None = None,
    blocks: Any = None,
    beside: Mapping[str, Any] = MappingProxyType({}),
    **more: Any,
) -> Metric:
    """The mean of per-image values [n], in float64: every image weighs the same, whatever batch it came in. The error is that of
    `standard_error`; where it is one over blocks, the protocol says over how many. `beside` are the values [n] of plain methods,
    which become baselines with the errors of the differences."""
    array = np.asarray(values, np.float64)
    if beside:
        others = {each: np.asarray(other, np.float64) for each, other in beside.items()}
        with np.errstate(invalid="ignore", over="ignore"):
            more["baselines"] = {**{each: float(other.mean()) for each, other in others.items()}, **more.get("baselines", {})}
            more["difference_errors"] = difference_errors({each: array - other for each, other in others.items()}, blocks)
    if blocks is not None:
        more["protocol"] = {**more.get("protocol", {}), **over_blocks(blocks)}
    with np.errstate(invalid="ignore", over="ignore"):  # of values that are not finite, which `finite` tells
        error = standard_error(array, blocks)
        return Metric(float(array.mean()), error, len(array), unit or unit_of(name), better, **more)


def average_of_parts(
    sums: Any, counts: Any, better: Better | None = None, blocks: Any = None, beside: Mapping[str, Any] = MappingProxyType({})
) -> Metric:
    """The mean over all values of a kind, of which image i has `counts` [n] with the sum `sums` [n]: r, the quotient of both
    totals. Its standard error is that of the mean of (s_i - r c_i) / c, with c the mean of the counts (the linearized variance
    of a ratio, Cochran 1977, "Sampling techniques", section 6.3), and that of its difference from the quotient q of other sums
    t_i that of the mean of (s_i - t_i - (r - q) c_i) / c. `beside` are the sums of plain methods. None if no image has any."""
    array, n = np.asarray(sums, np.float64), np.asarray(counts, np.float64)
    others = {name: np.asarray(each, np.float64) for name, each in beside.items()}
    total, protocol = n.sum(), over_blocks(blocks)
    if not total:
        return Metric(None, None, len(array), "", better, {}, protocol)
    with np.errstate(invalid="ignore", over="ignore"):
        value = float(array.sum() / total)
        rest = (array - value * n) / n.mean()
        baselines = {name: float(each.sum() / total) for name, each in others.items()}
        apart = {name: rest - (each - baselines[name] * n) / n.mean() for name, each in others.items()}
        errors = standard_error(rest, blocks), difference_errors(apart, blocks)
        return Metric(value, errors[0], len(array), "", better, baselines, protocol, difference_errors=errors[1])


def explained_share(ratio: Metric) -> Metric:
    """1 less a ratio of errors to a variance: the share of it that is explained. None if there is no variance."""
    baselines = {name: 1 - each for name, each in ratio.baselines.items()}
    return ratio._replace(value=None if ratio.value is None else 1 - ratio.value, unit="1", better="higher", baselines=baselines)


def over_blocks(*blocks: Any) -> dict[str, int]:
    """What a protocol says of an error over blocks: over how many in all, of kinds of images that have such (None: they are
    independent)."""
    counts = [len(np.unique(each)) for each in blocks if each is not None]
    return {"error_over_blocks": sum(counts)} if counts else {}


def difference_errors(apart: Mapping[str, Any], blocks: Any = None) -> dict[str, float]:
    """The standard errors of the means of differences [n] by name, where there are enough images for one."""
    found = {name: standard_error(each, blocks) for name, each in apart.items()}
    return {name: error for name, error in found.items() if error is not None}


def over_seeds(name: str, values: Any, better: Better | None = None, unit: str | None = None, **more: Any) -> Metric:
    """The mean of values [seeds, n] of the same images by several seeds. The standard error is that over seeds and over images
    together: with the variance of the seeds' means and that of the images' means by n and seeds, less what both hold of the
    interaction (a two-way random effects model, each combination once)."""
    array = np.asarray(values, np.float64)
    seeds, n = array.shape
    by_image = average(name, array.mean(axis=0), better, unit, **more)
    if seeds < 2 or n < 2:
        return by_image
    of_seeds, of_images = array.mean(axis=1), array.mean(axis=0)
    rest = array - of_seeds[:, None] - of_images[None, :] + array.mean()
    between_seeds, between_images = of_seeds.var(ddof=1) / seeds, of_images.var(ddof=1) / n
    shared = (rest**2).sum() / ((seeds - 1) * (n - 1)) / (seeds * n)
    variance = max(between_seeds + between_images - shared, between_seeds, between_images)
    return by_image._replace(standard_error=sqrt(variance))


def to_db(mse: float) -> float:
    """Peak signal-to-noise ratio of images in [0, 1] with such a mean squared error, at most CAP_DB."""
    return -10 * log10(max(mse, EXACT_MSE))


def psnr_db(mse: Metric) -> Metric:
    """Peak signal-to-noise ratio of images in [0, 1], pooled: of the mean squared error over all images, not the mean of each
    image's own ratio, which is larger. None if the images are equal to CAP_DB. Baselines are converted too; the errors of the
    differences from them are those of `pooled_psnr_db`, which knows each image's."""
    baselines = {name: to_db(value) for name, value in mse.baselines.items()}
    ratio = Metric(None, None, mse.n, "dB", "higher", baselines, {**mse.protocol, "cap_db": CAP_DB}, mse.note)
    if mse.value is None:
        return ratio
    if mse.value <= EXACT_MSE:
        return ratio.none(EXACT)
    error = None if mse.standard_error is None else _DB * mse.standard_error / mse.value
    return ratio._replace(value=to_db(mse.value), standard_error=error)


def pooled_psnr_db(mse: Metric, values: Any, beside: Mapping[str, Any], blocks: Any = None) -> Metric:
    """`psnr_db` of a mean of per-image values [n] with the errors of its differences from `beside`, values [n] by name, by the
    delta method: with m and b the means of two squared errors, 10 log10 (b / m) has that of the mean of 10 / log 10 times
    (b_i / b - m_i / m). None of a method that is met exactly."""
    ratio, array = psnr_db(mse), np.asarray(values, np.float64)
    if ratio.value is None:
        return ratio
    others = {name: np.asarray(other, np.float64) for name, other in beside.items()}
    with np.errstate(invalid="ignore", over="ignore"):
        share = array / array.mean()
        apart = {name: _DB * (other / other.mean() - share) for name, other in others.items() if other.mean() > EXACT_MSE}
        return ratio._replace(difference_errors=difference_errors(apart, blocks))


def psnr_per_image_db(values: Any, blocks: Any = None) -> Metric:
    """The mean of each image's own ratio [n], each at most CAP_DB. None if all are that."""
    metric = average("psnr_per_image_db", values, "higher", blocks=blocks, protocol={"cap_db": CAP_DB})
    return metric.none(EXACT) if (np.asarray(values) > CAP_DB - 1e-3).all() else metric


def unit_of(name: str) -> str:
    """The unit that a metric's name carries; an objective is in nats unless its variant says otherwise."""
    if name == "loss":
        return "nats"
    if name == "mse":
        return "intensity^2"
    if name.endswith("accuracy"):
        return "share"
    if name == "mae":
        return "intensity"
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "1")
