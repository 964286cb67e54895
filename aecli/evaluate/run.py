"""Every evaluator that fits a model, on one split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from aecli.config import Binarize
from aecli.core import Activates, Model, Quantizes, Reconstructs
from aecli.data.rows import Rows
from aecli.evaluate import codebook, objective, reconstruction, sparsity
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
    for ability, evaluator in ((Reconstructs, reconstruction), (Activates, sparsity), (Quantizes, codebook)):
        if isinstance(model, ability):
            metrics |= evaluator.measure(model, state, rows, binarize, root, place, poll)
    return metrics
