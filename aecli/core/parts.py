"""A pass over a batch, of no more images at once than a CPU's caches hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from aecli.core.model import Batch, Model

T = TypeVar("T")
AT_ONCE = 32
"""Images; what networks with convolutions keep of a batch of 256 goes through memory, which takes half of the time or more."""


def in_parts(model: Model, of: Callable[[Batch], T], batch: Batch) -> T:
    """`of(batch)`, a pytree of arrays with a row for each image, none of which depends on another image: on a CPU computed part
    after part. Elsewhere, and on several devices, at once."""
    n, *shape = batch.image.shape
    size = min(AT_ONCE, model.part_size(n, (shape[0], shape[1], shape[2])))
    if n <= size or n % size or jax.default_backend() != "cpu" or jax.device_count() > 1:
        return of(batch)
    if batch.hidden is not None:
        batch = batch._replace(hidden=jnp.broadcast_to(batch.hidden, batch.image.shape))

    def cut(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(n // size, size, *leaf.shape[1:])

    def whole(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(n, *leaf.shape[2:])

    made: Any = jax.lax.map(of, jax.tree.map(cut, batch))
    return jax.tree.map(whole, made)
