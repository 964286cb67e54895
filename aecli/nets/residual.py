"""Residual convolutions, and the encoder and decoder made of them (He et al. 2016, "Identity mappings in deep residual
networks", figure 1b, without normalization)."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import jax
from flax import nnx

from aecli.nets.conv import Conv, ConvTranspose, bottom, crop


class Residual(nnx.Module):
    """x + conv(gelu(conv(gelu(x)))), 3x3: [B, H, W, C] -> the same."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        self.first = Conv(channels, channels, 3, 1, 1, rngs=rngs)
        self.second = Conv(channels, channels, 3, 1, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.second(nnx.gelu(self.first(nnx.gelu(x))))


class ResidualEncoder(nnx.Module):
    """Per entry of `hidden` a 3x3 convolution of stride 2 and a residual block, then an affine map: [B, H, W, C] -> [B, out]."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...], out: int, *, rngs: nnx.Rngs) -> None:
        widths = (shape[2], *hidden)
        self.downs = nnx.List([Conv(i, o, 3, 2, 1, rngs=rngs) for i, o in pairwise(widths)])
        self.blocks = nnx.List([Residual(width, rngs=rngs) for width in hidden])
        self.out = nnx.Linear(prod(bottom(shape, len(hidden))) * hidden[-1], out, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        x = image
        for down, block in zip(self.downs, self.blocks, strict=True):
            x = block(down(x))
        return self.out(nnx.gelu(x).reshape(x.shape[0], -1))


class ResidualDecoder(nnx.Module):
    """The mirror of `ResidualEncoder`, cropped at the centre: [B, latent] -> [B, H, W, C]."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...], latent: int, *, rngs: nnx.Rngs) -> None:
        self.shape = shape
        self.bottom = (*bottom(shape, len(hidden)), hidden[-1])
        self.input = nnx.Linear(latent, prod(self.bottom), rngs=rngs)
        widths = (*reversed(hidden), shape[2])
        self.blocks = nnx.List([Residual(width, rngs=rngs) for width in reversed(hidden)])
        self.ups = nnx.List([ConvTranspose(i, o, 4, 2, 1, rngs=rngs) for i, o in pairwise(widths)])

    def __call__(self, code: jax.Array) -> jax.Array:
        x = self.input(code.astype(self.input.kernel[...].dtype)).reshape(-1, *self.bottom)
        for block, up in zip(self.blocks, self.ups, strict=True):
            x = up(nnx.gelu(block(x)))
        return crop(x, self.shape)
