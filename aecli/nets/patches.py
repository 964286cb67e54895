"""Squares of pixels as channels, and back (space to depth)."""

from __future__ import annotations

import jax


def cut(x: jax.Array, side: int) -> jax.Array:
    """[B, side h, side w, C] -> [B, h, w, side^2 C]: each square of `side` x `side` pixels in a row, channels last."""
    n, height, width, channels = x.shape
    parts = x.reshape(n, height // side, side, width // side, side, channels).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, height // side, width // side, -1)


def join(x: jax.Array, side: int) -> jax.Array:
    """The inverse of `cut`: [B, h, w, side^2 C] -> [B, side h, side w, C]."""
    n, h, w, values = x.shape
    parts = x.reshape(n, h, w, side, side, values // side**2).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(n, h * side, w * side, -1)
