"""The objective and its terms, as the model defines them. For every model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from aecli.config import Binarize
from aecli.core import Batch, Model
from aecli.data.rows import Rows
from aecli.evaluate.batches import batches, collect
from aecli.evaluate.metric import Metric, average
from aecli.mesh import Placement


def measure(
    model: Model, state: Any, rows: Rows, binarize: Binarize, root: jax.Array, place: Placement, poll: Callable[[], None]
) -> dict[str, Metric]:
    parts = [(_values(model, state, batch, key), real) for batch, key, real in batches(rows, binarize, root, place, poll)]
    return {name: average(name, values) for name, values in collect(parts).items()}


@partial(jax.jit, static_argnames=("model",))
def _values(model: Model, state: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    return dict(model.evaluate(state, batch, key))
