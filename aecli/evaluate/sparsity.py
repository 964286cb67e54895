"""Which units of a sparse code do anything. For models whose code has active units."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.config import Binarize
from aecli.core import Batch
from aecli.data.rows import Rows
from aecli.evaluate.batches import batches
from aecli.evaluate.metric import Metric
from aecli.mesh import Placement


def measure(
    model: Any, state: Any, rows: Rows, binarize: Binarize, root: jax.Array, place: Placement, poll: Callable[[], None]
) -> dict[str, Metric]:
    """`dead_fraction`: units that no image of the split activates. `mean_activation`: over images and units, to be held against
    the target of a penalty that has one."""
    counts: Any = 0
    sums: Any = 0.0
    for batch, _, _ in batches(rows, binarize, root, place, poll):
        count, total = _values(model, state, batch)
        counts, sums = counts + np.asarray(count, np.int64), sums + np.asarray(total, np.float64)
    n = len(rows)
    return {
        "dead_fraction": Metric(float((counts == 0).mean()), None, n, "1"),
        "mean_activation": Metric(float(sums.mean() / n), None, n, "1"),
    }


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, state: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """How many images activate each unit, and the sum of its activations, [units] each."""
    real = batch.mask[:, None]
    active = (model.active(state, batch) & real).sum(axis=0)
    return active, jnp.where(real, model.encode(state, batch), 0.0).sum(axis=0)
