r"""How likely held-out images are: exactly, or by importance sampling over codes.

A model that scores has $\log p(x)$ itself. One that weighs codes has an upper bound on $-\log p(x)$ from $S$ of them
(`--importance-samples`),

$$-\log \frac1S \sum_{s=1}^{S} w_s, \qquad w_s = \frac{p(x, z_s)}{q(z_s \mid x)}, \quad z_s \sim q(z \mid x),$$

which falls towards it as $S$ grows (Burda et al. 2016, "Importance weighted autoencoders", section 3); active units are of
their section 5. Beside it stand independent pixels with the frequencies of the train split, histograms of pixels, and what xz
takes. Of a model that is given another image all numbers are of $p(x \mid \text{given})$, of a conditional one of
$p(x \mid \text{label})$; the baselines are given nothing.

A Bernoulli likelihood of gray images is none: there is a cross-entropy then (`objective`), and no `nll_nats`. A density on
[0, 1] (`likelihood: gaussian`) is not to be held against a probability of levels; its unit says so.

Metrics
-------
- `nll_nats` (nats, lower): $-\log p(x)$, or the bound on it from $S$ codes.
- `elbo_nats` (nats): the same from one code, $-\frac1S \sum_s \log w_s$; no less than `nll_nats`.
- `effective_samples` (1): how many equally weighted codes the $S$ are worth, $(\sum_s w_s)^2 / \sum_s w_s^2$. Near 1 the
  bound is loose.
- `floor_nats` (nats): of images that are drawn from intensities (`data.binarize`) the entropy of that draw,
  $\sum_d H(x_d)$: on average no model is below it. Of a draw given another image there is none.
- `excess_nats` (nats, lower): where there is such a floor, what is left of `nll_nats` above each image's own.
- `bits_per_dim` (bits, lower): where pixels have more than two levels, `nll_nats` $/ (D \log 2)$.
- `active_units` (units, higher): units of the code whose posterior mean has a variance over images above 0.01.
- `inactive_fraction` (1, lower): the share of the others; 1 where the posterior has collapsed onto the prior.
"""

from __future__ import annotations

import lzma
from functools import partial
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.abilities import Encodes, Scores
from aecli.core.model import Batch
from aecli.distributions.corruptions import label
from aecli.distributions.discrete import quantize
from aecli.evaluation.importance import importance_sampled
from aecli.evaluation.subject import Subject
from aecli.measures.baselines import pixels
from aecli.measures.metric import Findings, Metric, average

FEW_SAMPLES = 2.0
"""Effective samples below which an estimate is told to be loose."""
ACTIVE = 0.01
"""The variance over images of the mean of a unit's posterior, above which the unit is active."""
BINARIZE = "set data.binarize for a likelihood"


def measure(subject: Subject) -> Findings:
    """For models that score images, or weigh codes of them. `excess_nats` is paired: each image's own floor is taken off."""
    model = subject.model
    if (why := no_likelihood(subject)) is not None:
        units, notes = _units(subject)
        return Findings(units, {}, (f"{why}: the objective holds a cross-entropy (BCE), no NLL; {BINARIZE}", *notes))
    values, protocol = values_of(subject), protocol_of(subject)
    metrics = _in_nats(subject, values, protocol)
    if model.support() not in (2, None):
        metrics["bits_per_dim"] = _in_bits(subject, metrics["nll_nats"], values)
    units, notes = _units(subject)
    if subject.model.given_corruptions:
        what = label(subject.model.given_corruptions)
        notes += (f"likelihoods are of an image given {what}, not of images as such",)
    effective = float(values["effective_samples"].mean()) if "effective_samples" in values else FEW_SAMPLES
    if effective < FEW_SAMPLES and subject.request.samples > 1:
        worth = f"{effective:.1f} of {subject.request.samples:,}"
        of = f"the weights of each {subject.spec.kind} rest on {worth} codes"
        notes += (f"{of}: nll_nats is a loose bound, and more --importance-samples would lower it",)
    return Findings(metrics | units, values, notes)


def no_likelihood(subject: Subject) -> str | None:
    """Why the model, which scores or weighs, has no likelihood of the images; None if it has one."""
    model = subject.model
    if isinstance(model, Scores) or model.support() != 2 or subject.is_binary:
        return None
    return "the images are gray and the likelihood is of binary pixels"


def density_unit(subject: Subject) -> str | None:
    """In what likelihoods are if they are of a density, which none of levels is to be held against; None if they are not."""
    if subject.model.support() is not None:
        return None
    of = "the standardized values" if subject.dataset.scaling else "the values" if subject.spec.kind == "vector" else "[0, 1]"
    return f"nats, of a density on {of}"


def values_of(subject: Subject) -> dict[str, Any]:
    """Per-image values, [n] each, `nll_nats` among them."""
    return _exact(subject) if isinstance(subject.model, Scores) else _weighed(subject)


def protocol_of(subject: Subject) -> dict[str, Any]:
    """What they depend on."""
    levels, is_exact = subject.model.support(), isinstance(subject.model, Scores)
    weighed = {"samples": subject.request.samples, "bound": "importance-weighted"}
    protocol: dict[str, Any] = {"exact": True} if is_exact else weighed
    if subject.model.is_conditional:
        protocol["given"] = "label"
    if levels is not None:
        protocol["levels"] = levels
    return protocol


def _exact(subject: Subject) -> dict[str, Any]:
    parts: list[Any] = []
    for number, (batch, _, real) in enumerate(subject.batches()):

        def make(batch: Batch = batch) -> dict[str, Any]:
            return {"nll_nats": -np.asarray(jitted.log_prob(subject.model, subject.state, batch))}

        kept = subject.journal.kept(f"likelihood-{number}", make)
        parts.append(kept["nll_nats"][:real])
    return {"nll_nats": np.concatenate(parts)}


def _weighed(subject: Subject) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    for number, (batch, key, real) in enumerate(subject.batches()):

        def make(batch: Batch = batch, key: jax.Array = key) -> dict[str, Any]:
            bounds = importance_sampled(subject.model, subject.state, batch, key, jnp.int32(subject.request.samples))
            return {name: np.asarray(value) for name, value in bounds.items()}

        kept = subject.journal.kept(f"likelihood-{number}", make)
        parts.append({name: value[:real] for name, value in kept.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _in_nats(subject: Subject, values: dict[str, Any], protocol: dict[str, Any]) -> dict[str, Metric]:
    """The likelihood first. Puts the floor of each image and the excess over it into `values`, where there is one."""
    support, blocks = subject.model.support(), subject.blocks
    unit = density_unit(subject)
    is_binary = support == 2 and subject.is_binary
    beside: dict[str, Any] = {}
    if is_binary and subject.baselines:
        beside["independent pixels"] = pixels.independent_bernoulli(subject.images("train"), subject.images())
    metrics = {"nll_nats": average("nll_nats", values["nll_nats"], "lower", unit, blocks, beside, protocol=protocol)}
    # Of a draw given what was made of it the entropy is less.
    if is_binary and subject.binarize != "none" and not subject.model.given_corruptions:
        gray = subject.dataset.intensity(subject.split)
        floor = np.concatenate([pixels.bernoulli_entropy(x) for x in unit_images(gray)])
        values["floor_nats"], values["excess_nats"] = floor, values["nll_nats"] - floor
        metrics["excess_nats"] = average("excess_nats", values["excess_nats"], "lower", blocks=blocks, protocol=protocol)
    more = {
        name: average(name, value, unit=unit if name == "elbo_nats" else None, blocks=blocks, protocol=protocol)
        for name, value in values.items()
        if name not in metrics
    }
    return metrics | more


def unit_images(rows: Any) -> Any:
    """Rows as float64 [m, D] in [0, 1], in pieces."""
    for start in range(0, len(rows), 1000):
        images = rows.take(np.arange(start, min(start + 1000, len(rows))))[0]
        yield images.reshape(len(images), -1) / 255.0


def _in_bits(subject: Subject, nll: Metric, values: dict[str, Any]) -> Metric:
    dimensions, levels = subject.spec.size, subject.model.support()
    bits = values["nll_nats"] / (dimensions * log(2))
    mean = partial(average, "bits_per_dim", bits, "lower", blocks=subject.blocks, protocol=nll.protocol)
    if not subject.baselines:
        return mean()

    def whole(split: str) -> Any:
        return (np.asarray(quantize(jnp.asarray(x), levels)) for x in subject.images(split))

    nats = pixels.independent_levels(whole("train"), whole(subject.split), levels)
    packer = lzma.LZMACompressor(preset=9)
    packed = sum(len(packer.compress(x.astype(np.uint8).tobytes())) for x in whole(subject.split)) + len(packer.flush())
    histograms = {"pixel histograms": pixels.to_bits_per_dim(nats, dimensions)}
    return mean(beside=histograms, baselines={"xz": 8 * packed / (len(nats) * dimensions)})


def _units(subject: Subject) -> tuple[dict[str, Metric], tuple[str, ...]]:
    """`active_units`, whose posterior's mean depends on the image, and `inactive_fraction`, 1 where the posterior has collapsed
    onto the prior. For models with codes."""
    if isinstance(subject.model, Scores) or not isinstance(subject.model, Encodes):
        return {}, ()
    n, total, square = len(subject.rows), np.zeros(()), np.zeros(())
    for batch, _, real in subject.batches():
        code = np.asarray(jitted.encode(subject.model, subject.state, batch), np.float64)[:real]
        total, square = total + code.sum(0), square + (code**2).sum(0)
    active = square / n - (total / n) ** 2 > ACTIVE
    protocol = {"threshold": ACTIVE, "units": len(active)}
    metrics = {
        "active_units": Metric(float(active.sum()), None, n, "units", "higher", {}, protocol),
        "inactive_fraction": Metric(float((~active).mean()), None, n, "1", "lower", {}, protocol),
    }
    if not active.any():
        return metrics, (f"posterior collapse: none of the {len(active)} units depends on the {subject.spec.kind}",)
    idle = int((~active).sum())
    note = f"{idle} of {len(active)} units are inactive: they carry nothing of the {subject.spec.kind}"
    return metrics, (note,) if idle else ()
