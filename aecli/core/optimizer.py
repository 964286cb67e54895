"""The `optimizer` block of a config, and the optax transformation that it stands for."""

from __future__ import annotations

from typing import Literal

import optax
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from aecli.core.frozen import Frozen


class Optimizer(Frozen):
    """Which rule moves the weights, and how far.

    The learning rate rises linearly from 0 over `warmup` steps, then stays (`constant`) or falls to 0 at the last step
    (`cosine`, `linear`).
    """

    name: Literal["adam", "adamw", "sgd", "lion"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: NonNegativeInt = Field(default=0, description="steps")
    b1: float = Field(default=0.9, ge=0, lt=1, description="decay of the first moment; the momentum of sgd")
    b2: float = Field(default=0.999, ge=0, lt=1, description="decay of the second moment; not used by sgd")
    weight_decay: NonNegativeFloat = Field(default=0.0, description="decoupled from the gradient; adamw, lion and sgd")
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

    def build(self, steps: int) -> optax.GradientTransformation:
        """The transformation for a run of `steps` steps."""
        rate = self.learning_rate_at(steps)
        if self.name == "adam":
            rule = optax.adam(rate, self.b1, self.b2)
        elif self.name == "adamw":
            rule = optax.adamw(rate, self.b1, self.b2, weight_decay=self.weight_decay)
        elif self.name == "lion":
            rule = optax.lion(rate, self.b1, self.b2, weight_decay=self.weight_decay)
        else:
            decay = optax.add_decayed_weights(self.weight_decay)
            rule = optax.chain(optax.trace(self.b1) if self.b1 else optax.identity(), decay, optax.scale_by_learning_rate(rate))
        if self.clip_norm is None:
            return rule
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), rule)
