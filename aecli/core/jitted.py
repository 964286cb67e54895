"""Abilities as compiled calls: one program for a model and a shape, whoever asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from aecli.core.gaussian import Gaussian
from aecli.core.model import Batch


@partial(jax.jit, static_argnames=("model",))
def encode(model: Any, state: Any, batch: Batch) -> jax.Array:
    """[B, latent]."""
    return model.encode(state, batch)


@partial(jax.jit, static_argnames=("model",))
def decode(model: Any, state: Any, code: jax.Array, label: jax.Array) -> jax.Array:
    """[B, latent] and [B] -> [B, H, W, C]."""
    return model.decode(state, code, label)


@partial(jax.jit, static_argnames=("model",))
def posterior(model: Any, state: Any, batch: Batch) -> Gaussian:
    """q(z | x) of each image."""
    return model.posterior(state, batch)


@partial(jax.jit, static_argnames=("model",))
def active(model: Any, state: Any, batch: Batch) -> jax.Array:
    """Which units are, [B, units] bool."""
    return model.active(state, batch)
