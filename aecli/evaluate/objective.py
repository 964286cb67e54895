"""The objective and its terms, as the model defines them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from aecli.core import Batch
from aecli.evaluate.batches import collect
from aecli.evaluate.metric import Findings, average
from aecli.evaluate.subject import Subject


def measure(subject: Subject) -> Findings:
    """For every model."""
    values = collect([(_values(subject.model, subject.state, batch, key), real) for batch, key, real in subject.batches()])
    return Findings({name: average(name, value, "lower" if name == "loss" else None) for name, value in values.items()}, values)


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, state: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    return dict(model.evaluate(state, batch, key))
