"""log(1 + e^x), the part of every Bernoulli log-likelihood that takes time."""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def softplus(x: jax.Array) -> jax.Array:
    """As `jax.nn.softplus`, faster on a CPU: without a case for infinities of both signs, and with the sigmoid
    for a gradient, which stays exact where x is large."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return softplus(x), x


def _backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (dy * jax.nn.sigmoid(x),)


softplus.defvjp(_forward, _backward)
