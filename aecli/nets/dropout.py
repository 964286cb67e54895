"""Dropout: a pass in training leaves out a random share of what a layer makes, and enlarges the rest to keep the expectation.

Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting". In residual networks it is the
output of a branch that is dropped, before it is added, as in Vaswani et al. 2017, "Attention is all you need", section 5.4.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Dropout(NamedTuple):
    """What one pass of a network drops: the share `rate` below 1, chosen by `key`. None in the place of one drops nothing."""

    rate: float
    key: jax.Array


def in_training(rate: float, key: jax.Array, step: jax.Array | None) -> tuple[jax.Array, Dropout | None]:
    """Splits the key of a loss: what is left for the rest of it, and what its pass drops. Where that is nothing, at evaluation
    (no `step`) and at rate 0, the key stays as it is."""
    if step is None or not rate:
        return key, None
    rest, dropping = jax.random.split(key)
    return rest, Dropout(rate, dropping)


def each(dropout: Dropout | None, n: int) -> list[Dropout | None]:
    """One for each of n places, which choose independently."""
    if dropout is None:
        return [None] * n
    return [Dropout(dropout.rate, key) for key in jax.random.split(dropout.key, n)]


def drop(x: jax.Array, dropout: Dropout | None) -> jax.Array:
    """Zeros in the place of a share of x, the others divided by the share that is kept."""
    if dropout is None:
        return x
    kept = jax.random.bernoulli(dropout.key, 1 - dropout.rate, x.shape)
    return jnp.where(kept, x / (1 - dropout.rate), 0)
