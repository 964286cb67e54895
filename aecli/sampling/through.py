"""A model whose draws are those of a distribution fitted to its codes, to be measured like one that draws by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from aecli.core.model import Model, Temperature
from aecli.sampling.samplers import SAMPLERS, Fitted


@dataclasses.dataclass(frozen=True)
class Through:
    """`model` with the sampler of this name, of codes that were told apart by these `classes`. Its state is that of the model
    and what was fitted. It can draw and nothing else."""

    withheld: ClassVar[Mapping[str, str]] = {}
    given_corruptions: ClassVar[tuple[Any, ...]] = ()  # a model that is given an image has no codes to draw through

    model: Any
    sampler: str
    classes: tuple[int, ...]
    is_image: bool

    @property
    def variant(self) -> str:
        return self.model.variant

    @property
    def is_conditional(self) -> bool:
        """Whether draws are of a class that they are asked for."""
        return self.model.is_conditional or bool(self.classes)

    def sample(self, state: tuple[Any, Any], key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """As of `Samples`; images are clipped to [0, 1], as pictures of them are."""
        own, arrays = state
        code = SAMPLERS[self.sampler].draw(arrays, key, label, temperature)  # pyright: ignore[reportArgumentType]
        decoded = self.model.decode(own, code, label)
        return jnp.clip(decoded, 0, 1) if self.is_image else decoded


def through(model: Model, state: Any, fitted: Fitted, is_image: bool) -> tuple[Through, Any]:
    """The model that draws by a fitted sampler, and its state."""
    return Through(model, fitted.name, fitted.classes, is_image), (state, fitted.arrays)
