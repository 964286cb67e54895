"""The `optimizer` block of a config, and the optax transformation that it stands for."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from aecli.core.frozen import Frozen

TABLES = ("bias", "shift", "place", "embedding", "mean", "log_sigma", "pseudo_inputs", "steps")
"""The names of parameters with several axes that nothing is multiplied with: biases of places or values, entries of a table."""
CONVOLUTION = "kernel"
"""The name of a parameter with four axes that is a convolution's, [k, k, in, out]."""
MUON_RMS = 0.2
"""The root mean square of an update by Muon at a learning rate of 1, near Adam's, so that its learning rates suit (Liu et al.
2025, "Muon is scalable for LLM training", equation 4)."""


class Optimizer(Frozen):
    """Which rule moves the weights, and how far.

    The learning rate rises linearly from 0 over `warmup` steps, then stays (`constant`) or falls to 0 at the last step
    (`cosine`, `linear`).

    `muon` (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") makes the momentum of each matrix, of a
    convolution that of [k k in, out], nearly orthogonal by five steps of Newton and Schulz; what is no matrix, and stacks of
    small ones, moves by Adam with Nesterov's momentum, which is what `b1` and `b2` are of.
    """

    name: Literal["adam", "adamw", "sgd", "lion", "muon"] = Field(
        default="adam", description="the rule that makes an update of a gradient"
    )
    learning_rate: PositiveFloat = Field(default=1e-3, description="after warmup, and before the schedule lowers it")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        default="constant", description="what follows the warmup: constant, or falling to 0 at the last step"
    )
    warmup: NonNegativeInt = Field(default=0, description="steps")
    b1: float = Field(default=0.9, ge=0, lt=1, description="decay of the first moment; the momentum of sgd")
    b2: float = Field(default=0.999, ge=0, lt=1, description="decay of the second moment; not used by sgd")
    weight_decay: NonNegativeFloat = Field(default=0.0, description="decoupled from the gradient; adamw, lion, muon and sgd")
    clip_norm: PositiveFloat | None = Field(default=None, description="the largest global norm of the gradient")
    ema: float | None = Field(default=None, gt=0, lt=1, description="decay of the averaged weights that evaluation uses")
    freeze: tuple[str, ...] = Field(
        default=(), description="parts of the network whose weights stay as they start, by their names, such as [encoder]"
    )

    @model_validator(mode="after")
    def _adam_has_no_decay(self) -> Optimizer:
        if self.name == "adam" and self.weight_decay:
            raise ValueError("adam has no weight_decay: set name: adamw")
        return self

    def learning_rate_at(self, steps: int) -> optax.Schedule:
        """Step -> learning rate, for a run of `steps` steps."""
        after = max(steps - self.warmup, 1)
        if self.schedule == "cosine":
            main = optax.cosine_decay_schedule(self.learning_rate, after)
        elif self.schedule == "linear":
            main = optax.linear_schedule(self.learning_rate, 0.0, after)
        else:
            main = optax.constant_schedule(self.learning_rate)
        if not self.warmup:
            return main
        rise = optax.linear_schedule(0.0, self.learning_rate, self.warmup)
        return optax.join_schedules([rise, main], [self.warmup])

    def learning_rate_now(self, opt_state: Any, steps: int) -> jax.Array:
        """The learning rate of the update that follows a state of `build(steps)`, whose count is its own: a network that moves
        every other step, or starts from another run's weights, is at another place of the schedule than the run."""

        def is_count(node: Any) -> bool:
            return isinstance(node, optax.ScaleByScheduleState)

        count = next(node.count for node in jax.tree.leaves(opt_state, is_leaf=is_count) if is_count(node))
        return jnp.asarray(self.learning_rate_at(steps)(count), jnp.float32)

    def build(self, steps: int) -> optax.GradientTransformation:
        """The transformation for a run of `steps` steps."""
        rate = self.learning_rate_at(steps)
        if self.name == "adam":
            rule = optax.adam(rate, self.b1, self.b2)
        elif self.name == "adamw":
            rule = optax.adamw(rate, self.b1, self.b2, weight_decay=self.weight_decay)
        elif self.name == "lion":
            rule = optax.lion(rate, self.b1, self.b2, weight_decay=self.weight_decay)
        elif self.name == "muon":
            rule = optax.contrib.muon(
                rate,
                weight_decay=self.weight_decay,
                adam_b1=self.b1,
                adam_b2=self.b2,
                adam_weight_decay=self.weight_decay,
                muon_weight_dimension_numbers=matrices,
                consistent_rms=MUON_RMS,
            )
        else:
            decay = optax.add_decayed_weights(self.weight_decay)
            rule = optax.chain(optax.trace(self.b1) if self.b1 else optax.identity(), decay, optax.scale_by_learning_rate(rate))
        if self.clip_norm is None:
            return rule
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), rule)


def is_matrix(path: str, axes: int) -> bool:
    """Whether the parameter at such a path, `encoder/convs/0/kernel` or `.../kernel/value`, is a matrix that a layer multiplies
    with: two axes and no table, or a convolution's four."""
    name = path.removesuffix("/value").split("/")[-1]
    return (axes == 2 and name not in TABLES) or (axes == 4 and name == CONVOLUTION)


def matrices(params: Any) -> Any:
    """A tree like that of the parameters: the axes of in and out of each matrix, None of all else."""

    def axes(path: Any, leaf: Any) -> MuonDimensionNumbers | None:
        if not is_matrix(jax.tree_util.keystr(path, simple=True, separator="/"), leaf.ndim):
            return None
        return MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)
