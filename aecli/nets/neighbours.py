"""What a site sees of the sites around it that come before it: kernels that reach up and left only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.conv import convolve

ROWS, SIDE = 3, 3
"""Three rows above, from three sites to the left to three to the right, and the three sites to the left."""


class Kernel(nnx.Module):
    """The weights of a convolution, [rows, columns, C, O]."""

    def __init__(self, rows: int, columns: int, channels: int, out: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (rows, columns, channels, out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Without padding."""
        kernel = self.kernel[...]
        return convolve(x.astype(kernel.dtype), kernel, 1, 0)


class Neighbours(nnx.Module):
    """The first layer of a causal network: [B, h, w, C] -> what the rows above give, and the sites to the left, [B, h, w, O]
    each."""

    def __init__(self, channels: int, out: int, *, rngs: nnx.Rngs) -> None:
        self.vertical = Kernel(ROWS, 2 * SIDE + 1, channels, out, rngs=rngs)
        self.horizontal = Kernel(1, SIDE, channels, out, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.vertical(_above(x)[:, :-1]), self.horizontal(_left(x)[:, :, :-1])

    def row(self, x: jax.Array, row: jax.Array) -> jax.Array:
        """What is above one row, [B, 1, w, O]."""
        return self.vertical(jax.lax.dynamic_slice_in_dim(_above(x), row, ROWS, 1))

    def left(self, x: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        """What is left of one site, [B, 1, 1, O]."""
        here = jax.lax.dynamic_slice_in_dim(x, row, 1, 1)
        return self.horizontal(jax.lax.dynamic_slice_in_dim(_left(here), column, SIDE, 2))

    def one(self, x: jax.Array, row: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What one site sees, [B, 1, 1, O] each."""
        rows = jax.lax.dynamic_slice_in_dim(_above(x), row, ROWS, 1)
        return self.vertical(jax.lax.dynamic_slice_in_dim(rows, column, 2 * SIDE + 1, 2)), self.left(x, row, column)


def pad(x: jax.Array, top: int, left: int, right: int) -> jax.Array:
    """[B, h, w, C] with a border of zeros."""
    return jnp.pad(x, ((0, 0), (top, 0), (left, right), (0, 0)))


def _above(x: jax.Array) -> jax.Array:
    return pad(x, ROWS, SIDE, SIDE)


def _left(x: jax.Array) -> jax.Array:
    return pad(x, 0, SIDE, 0)
