"""Which units of a sparse code do anything.

A unit is active where its activation is not 0, a sigmoid one, which is never 0, where it is above the target of its penalty.
What units are good for it does not say: an image may be explained well by few of them (`reconstruction`), or not.

Metrics
-------
- `l0` (1): active units per image.
- `dead_fraction` (1, lower): the share of the units that no image of the split activates.
- `mean_activation` (1): over images and units; the protocol has the `target` of a penalty that aims at one.
- `density_LOW_HIGH` (1): the share of the units that more than LOW and at most HIGH of the images activate, in five bins from
  0 to 1.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core.model import Batch
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric, average

DENSITY_EDGES = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""A unit's density is the share of the images that activate it."""


def measure(subject: Subject) -> Findings:
    """For models whose code has active units."""
    counts: Any = 0
    sums: Any = 0.0
    actives: list[Any] = []
    for batch, _, real in subject.batches():
        count, total, active = _values(subject.model, subject.state, batch)
        counts, sums = counts + np.asarray(count, np.int64), sums + np.asarray(total, np.float64)
        actives.append(np.asarray(active)[:real])
    n = len(subject.rows)
    l0 = np.concatenate(actives)
    metrics = {
        "dead_fraction": Metric(float((counts == 0).mean()), None, n, "1", "lower"),
        "mean_activation": Metric(float(sums.mean() / n), None, n, "1"),
    }
    if not subject.baselines:
        return Findings(metrics)
    if (rho := subject.model.target_activation) is not None:
        metrics["mean_activation"] = metrics["mean_activation"]._replace(protocol={"target": rho})
    metrics = {"l0": average("l0", l0), **metrics}
    density = counts / n
    for low, high in pairwise(DENSITY_EDGES):
        share = float(((density > low) & (density <= high)).mean())
        metrics[f"density_{low:g}_{high:g}"] = Metric(share, None, n, "1")
    return Findings(metrics, {"l0": l0})


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, state: Any, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """How many images activate each unit and the sum of its activations, [units]; how many units each image activates, [B]."""
    real, active = batch.mask[:, None], model.active(state, batch)
    code = jnp.where(real, model.encode(state, batch), 0.0)
    return (active & real).sum(axis=0), code.sum(axis=0), active.sum(axis=1).astype(jnp.float32)
