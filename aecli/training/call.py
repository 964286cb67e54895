"""Several training steps in one call of the device, without the host in between."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.config.schema import Binarize, Experiment
from aecli.core.flop import products
from aecli.core.keys import Stream, stream
from aecli.core.learner import watched
from aecli.core.model import Batch, Model, Spec, Values, check_values
from aecli.data.binarize import draw
from aecli.data.rows import apart
from aecli.data.train_batches import Chunk, HostChunk, to_unit
from aecli.distributions.augmentations import Augmentation, augment
from aecli.system.untraced import Program, compiled


@partial(jax.jit, static_argnames=("model", "spec", "binarize", "augmentations"), donate_argnames=("state",))
def advance(
    model: Model,
    spec: Spec,
    binarize: Binarize,
    augmentations: tuple[Augmentation, ...],
    state: Any,
    chunk: Chunk,
    first: jax.Array,
    count: jax.Array,
    root: jax.Array,
) -> tuple[Any, dict[str, jax.Array], dict[str, jax.Array]]:
    """Does steps `first` to `first + count - 1` on the batches of `chunk`. Gives the state, of each training value the sum
    over the examples of every step, float32 [most]; beyond `count` zeros; and the numbers of the updates in the last step.

    The count is no constant of the compiled program: one program serves calls of every length, so that a run cut at any step
    goes on with the same bits. Neither are the values summed over the steps here: how many steps a call has depends on the
    machine's speed at the time, and no number may.
    """

    def batch(i: jax.Array) -> Batch:
        kept, label = chunk.batch(i, spec)
        kept = augment(augmentations, kept, stream(root, Stream.AUGMENT, first + i))  # both images of a pair alike
        (image, pair), intensity = apart(to_unit(kept), spec.paired), None
        if binarize != "none":
            image, intensity = draw(image, stream(root, Stream.BINARIZE, first + i)), image
        return Batch(image, label, jnp.ones(label.shape, bool), intensity, pair=pair)

    def step(i: jax.Array, carry: tuple[Any, dict[str, jax.Array], Any]) -> tuple[Any, dict[str, jax.Array], Any]:
        state, sums, _ = carry
        state, values, updates = train_step(state, batch(i), stream(root, Stream.TRAIN, first + i), i + 1 == count)
        return state, {name: sums[name].at[i].set(jnp.sum(value.astype(jnp.float32))) for name, value in values.items()}, updates

    @jax.jit  # so that it is traced once, for the names of the values and for the loop
    def train_step(state: Any, batch: Batch, key: jax.Array, last: jax.Array) -> tuple[Any, Values, dict[str, jax.Array]]:
        return watched(lambda state: model.train_step(state, batch, key), state, last)

    def trial() -> tuple[jax.Array, Values, dict[str, jax.Array]]:
        some = batch(jnp.int32(0))
        return some.label, *train_step(state, some, root, jnp.bool_(True))[1:]

    label, values, updates = jax.eval_shape(trial)
    check_values(model, "train_step", values, len(label))
    nothing = {name: jnp.zeros(chunk.most) for name in values}, {name: jnp.zeros(()) for name in updates}
    return jax.lax.fori_loop(0, count, step, (state, *nothing))


def steps_program(experiment: Experiment, spec: Spec, train_size: int, state: Any, chunk: Chunk) -> Program[float]:
    """`advance` on a state and chunks of these forms, and the floating-point operations of a step."""
    arguments = (state, chunk, np.int32(0), np.int32(1), jax.random.key(experiment.seed))
    return compiled(advance, static(experiment, spec), arguments, products, (experiment.recipe(train_size),))


def flop_of_step(experiment: Experiment, spec: Spec, template: Any) -> float:
    """The same operations, counted without data and without compiling. `template` is the form of the state."""
    batch = experiment.data.batch_size
    form = jax.ShapeDtypeStruct
    chunk = HostChunk(form((1, batch, *spec.row_shape), jnp.float32), form((1, batch), jnp.int32))  # pyright: ignore[reportArgumentType]
    state = jax.tree.map(lambda leaf: form(leaf.shape, leaf.dtype), template)
    at, root = form((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
    return products(advance.trace(*static(experiment, spec), state, chunk, at, at, root).jaxpr)


def static(experiment: Experiment, spec: Spec) -> tuple[Any, ...]:
    """The arguments of `advance` that its program is made for."""
    return experiment.model, spec, experiment.data.binarize, experiment.data.augment


def all_finite(state: Any) -> bool:
    """Whether no floating-point leaf holds a NaN or an infinity. On the host, where a checkpoint needs the arrays next: a program
    for so many leaves takes seconds to compile."""
    leaves = (leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating))
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in leaves)


CALL_SECONDS = (0.25, 1.0)
"""A call of the device is made longer or shorter until it takes about this long: rarely waiting for the host, and soon done
when a signal comes."""


@dataclasses.dataclass(frozen=True)
class Call:
    """What the device was asked for: `count` steps from `first` on, their `values`, each [count], and the numbers of
    the `updates` in the last."""

    first: int
    count: int
    values: dict[str, Any]
    updates: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])

    def done(self) -> Call:
        """With the numbers on the host. Waits for the device."""
        values, updates = jax.device_get((self.values, self.updates))
        values = {name: value[: self.count] for name, value in values.items()}
        # By their shortest digits: 0.001 in place of 0.0010000000474974513.
        updates = {name: float(str(np.float32(value))) for name, value in updates.items()}
        return dataclasses.replace(self, values=values, updates=updates)

    def bad(self) -> int | None:
        """The first step with a value that is not finite."""
        finite = np.all([np.isfinite(value) for value in self.values.values()], axis=0)
        return None if finite.all() else self.first + int(np.argmin(finite))


def adapt(per_call: int, seconds: float) -> int:
    """How many steps the next call does, after one of `per_call` took so long."""
    low, high = CALL_SECONDS
    if seconds < low:
        return per_call * 2
    return max(1, per_call // 2) if seconds > high else per_call
