"""A decoder that knows place: features of each square of an image, mixed over the squares by gated layers, then its pixels.

The layers are those of nets/gmlp.py (Liu et al. 2021, "Pay attention to MLPs", equations 1 and 2), with sums over all squares.
"""

from __future__ import annotations

import jax
from flax import nnx

from aecli.nets.dropout import Dropout, each
from aecli.nets.gmlp import Block
from aecli.nets.patches import join


class Squares(nnx.Module):
    """[B, h w width] -> [B, H, W, C outputs], of squares of `patch` x `patch` pixels that tile the image."""

    def __init__(
        self, shape: tuple[int, int, int], outputs: int, patch: int, width: int, layers: int, heads: int, *, rngs: nnx.Rngs
    ) -> None:
        self.patch, self.rows, self.columns = patch, shape[0] // patch, shape[1] // patch
        self.inputs = self.rows * self.columns * width
        sites = self.rows * self.columns
        self.blocks = nnx.List([Block(sites, width, heads, causal=False, rngs=rngs) for _ in range(layers)])
        self.last = nnx.Linear(width, patch**2 * shape[2] * outputs, rngs=rngs)

    def __call__(self, features: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        h = features.reshape(features.shape[0], self.rows * self.columns, -1)
        for block, dropped in zip(self.blocks, each(dropout, len(self.blocks)), strict=True):
            h = block(h, dropped)
        return join(self.last(nnx.gelu(h)).reshape(h.shape[0], self.rows, self.columns, -1), self.patch)
