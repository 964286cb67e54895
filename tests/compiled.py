"""One set of compiled programs for a case, shared by all tests of it: of the contract, of resuming, of the first state.

To compile a step takes as long as to make hundreds of it. So these tests ask for the programs that a run is made of, with the
same settings, shapes and devices, and what is asked for again is there: the tests of a case run in one process (`conftest.py`).
"""

from __future__ import annotations

from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cases import OPTIMIZERS
from fit import dataset, experiment

from aecli.core.learner import Recipe
from aecli.core.model import Batch, Model, Spec
from aecli.data.eval_batches import EVAL_BATCH, batches
from aecli.data.train_batches import Feed, open_feed
from aecli.evaluation.evaluators import objective
from aecli.runs.state import init
from aecli.system.placement import placement
from aecli.training.call import advance

DATA = dataset()
SIZE = 20
"""48 images in batches of 20: the steps of a run cross the end of a pass."""


class Compiled:
    """A model, its first state, and the programs that make steps and evaluate."""

    def __init__(self, text: str) -> None:
        variant = text.split(",")[0].removeprefix("variant: ")
        self.experiment = experiment(
            text,
            "steps: 6, checkpoint_every: 1, log_every: 2, keep: 9",
            f"batch_size: {SIZE}",
            f"{OPTIMIZERS.get(variant, 'learning_rate: 3e-3')}, ema: 0.9",
        )
        self.model: Model = self.experiment.model
        self.place = placement(SIZE)

    @cached_property
    def state(self) -> Any:
        """The first, on every device."""
        return self.first(0)

    @cached_property
    def alone(self) -> Any:
        """The first state, on one device."""
        return jax.device_put(self.state, jax.devices()[0])

    @cached_property
    def feed(self) -> Feed:
        return open_feed(DATA, 0, SIZE, self.place)

    @cached_property
    def batch(self) -> Batch:
        """All train images and padding, as an evaluation has them."""
        return next(batches(DATA.train, "none", jax.random.key(0), placement(EVAL_BATCH)))[0]

    def first(self, seed: int) -> Any:
        return init(self.experiment.model_copy(update={"seed": seed}), DATA.spec, len(DATA.train), self.place)

    def train(self, seed: int, first: int, count: int) -> tuple[Any, dict[str, Any]]:
        """The first state after so many steps, and the sums of the values of each."""
        chunk, root = self.feed.chunk(first, count), jax.random.key(0)
        state, values, _ = advance(
            self.model, DATA.spec, "none", (), self.first(seed), chunk, np.int32(first), np.int32(count), root
        )
        return state, {name: value[:count] for name, value in jax.device_get(values).items()}

    def evaluate(self, state: Any, batch: Batch, key: int) -> dict[str, jax.Array]:
        return objective._values(self.model, state, batch, jax.random.key(key))


@cache
def compiled(text: str) -> Compiled:
    return Compiled(text)


@partial(jax.jit, static_argnames=("model", "ability"))
def call(model: Any, ability: str, *arguments: Any) -> Any:
    """One program for equal models and shapes, where each operation by itself would be compiled as one."""
    return getattr(model, ability)(*arguments)


@partial(jax.jit, static_argnames=("model", "spec", "recipe"))
def first_state(model: Any, spec: Spec, recipe: Recipe) -> Any:
    return model.init(jax.random.key(0), spec, recipe)


def few() -> Batch:
    """Sixteen train images, on one device."""
    rows = DATA.train
    return Batch(jnp.asarray(rows.images[:16] / np.float32(255)), jnp.asarray(rows.labels[:16]), jnp.ones(16, bool))
