"""Convolutional encoder and decoder whose code keeps its place: a grid of vectors."""

from __future__ import annotations

from itertools import pairwise

import jax
from flax import nnx

from aecli.nets.conv import Conv, ConvTranspose, crop
from aecli.nets.residual import Residual


class GridEncoder(nnx.Module):
    """Per entry of `hidden` a 3x3 convolution of stride 2, then a residual block and a map to `out` channels:
    [B, H, W, C] -> [B, h, w, out], with h and w rounded up."""

    def __init__(self, channels: int, hidden: tuple[int, ...], out: int, *, rngs: nnx.Rngs) -> None:
        self.downs = nnx.List([Conv(i, o, 3, 2, 1, rngs=rngs) for i, o in pairwise((channels, *hidden))])
        self.block = Residual(hidden[-1], rngs=rngs)
        self.out = Conv(hidden[-1], out, 1, 1, 0, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        x = image
        for down in self.downs:
            x = nnx.gelu(down(x))
        return self.out(nnx.gelu(self.block(x)))


class GridDecoder(nnx.Module):
    """The mirror of `GridEncoder`, cropped at the centre: [B, h, w, code] -> [B, H, W, C]."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...], code: int, *, rngs: nnx.Rngs) -> None:
        self.shape = shape
        self.input = Conv(code, hidden[-1], 3, 1, 1, rngs=rngs)
        self.block = Residual(hidden[-1], rngs=rngs)
        widths = (*reversed(hidden), shape[2])
        self.ups = nnx.List([ConvTranspose(i, o, 4, 2, 1, rngs=rngs) for i, o in pairwise(widths)])

    def __call__(self, code: jax.Array) -> jax.Array:
        x = self.block(self.input(code))
        for up in self.ups:
            x = up(nnx.gelu(x))
        return crop(x, self.shape)
