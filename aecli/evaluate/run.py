"""Every evaluator that fits a model, on one split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from aecli.config import Binarize
from aecli.core import Model, Reconstructs
from aecli.data.rows import Rows
from aecli.evaluate import objective, reconstruction
from aecli.evaluate.metric import Metric
from aecli.mesh import Placement


def evaluate(
    model: Model,
    state: Any,
    rows: Rows,
    binarize: Binarize,
    root: jax.Array,
    place: Placement,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Metric]:
    """Name -> metric. `poll` is called before each batch and may raise."""
    metrics = objective.measure(model, state, rows, binarize, root, place, poll)
    if isinstance(model, Reconstructs):
        metrics |= reconstruction.measure(model, state, rows, binarize, root, place, poll)
    return metrics
