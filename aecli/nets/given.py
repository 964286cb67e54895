"""What a network is told of an image that it is given whole: features at every site, of which each knows all of that image.

Residual convolutions around a site, as the encoder of van den Oord et al. 2016, "Conditional image generation with PixelCNN
decoders", equation 5 has them for a location; between them the means of regions, which reach every site.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.conv import Conv
from aecli.nets.patches import cut
from aecli.nets.regions import region_means, regions
from aecli.nets.residual import Residual


class GivenNet(nnx.Module):
    """[B, side h, side w, C] -> [B, h, w, width]; `inner` is the width of what is between."""

    def __init__(self, shape: tuple[int, int, int], side: int, inner: int, width: int, *, rngs: nnx.Rngs) -> None:
        height, across, channels = shape
        self.side = side
        self.stem = Conv(channels * side**2, inner, 3, 1, 1, rngs=rngs)
        self.first = Residual(inner, rngs=rngs)
        self.everywhere = nnx.Linear(regions(height // side, across // side) * inner, inner, rngs=rngs)
        self.second = Residual(inner, rngs=rngs)
        self.out = nnx.Linear(inner, width, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        h = self.first(self.stem(2 * cut(image, self.side) - 1))
        h += self.everywhere(region_means(nnx.gelu(h)).astype(h.dtype))[:, None, None]
        return self.out(nnx.gelu(self.second(h)))


class Refinement(nnx.Module):
    """What a decoder made of a code, corrected by the features of the image that is given: [B, H, W, C] and [B, H, W, F] ->
    [B, H, W, C]. It starts as it was made."""

    def __init__(self, channels: int, features: int, width: int, *, rngs: nnx.Rngs) -> None:
        self.enter = Conv(channels + features, width, 3, 1, 1, rngs=rngs)
        self.leave = Conv(width, channels, 3, 1, 1, rngs=rngs)
        self.leave.kernel = nnx.Param(jnp.zeros_like(self.leave.kernel[...]))

    def __call__(self, made: jax.Array, features: jax.Array) -> jax.Array:
        return made + self.leave(nnx.gelu(self.enter(jnp.concatenate([made, features.astype(made.dtype)], axis=-1))))
