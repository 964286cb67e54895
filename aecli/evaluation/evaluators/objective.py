"""The objective and its terms, as the model defines them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from aecli.core.model import Batch
from aecli.data.eval_batches import collect
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, average


def measure(subject: Subject) -> Findings:
    """For every model."""
    values = collect([(_values(subject.model, subject.state, batch, key), real) for batch, key, real in subject.batches()])
    return Findings({name: average(name, value, "lower" if name == "loss" else None) for name, value in values.items()}, values)


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, state: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    return dict(model.evaluate(state, batch, key))
