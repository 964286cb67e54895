"""Residual U-Net: an image to an image of the same form, as a correction of its input.

Ronneberger et al. 2015, "U-Net", with sums for skips; the correction is Zhang et al. 2017, "Beyond a Gaussian denoiser"
(DnCNN), equation 1; working on the four interleaved sub-images is Zhang et al. 2018, "FFDNet", section 3.2: a quarter of the
positions.
"""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.conv import Conv, ConvTranspose
from aecli.nets.patches import cut, join
from aecli.nets.residual import Residual


class UNet(nnx.Module):
    """One resolution per entry of `hidden`, each half of the one before; the first is half of the image's."""

    def __init__(self, channels: int, hidden: tuple[int, ...], *, rngs: nnx.Rngs) -> None:
        self.depth = len(hidden)
        self.stem = Conv(4 * channels, hidden[0], 3, 1, 1, rngs=rngs)
        self.before = nnx.List([Residual(width, rngs=rngs) for width in hidden])
        self.downs = nnx.List([Conv(i, o, 3, 2, 1, rngs=rngs) for i, o in pairwise(hidden)])
        self.ups = nnx.List([ConvTranspose(o, i, 4, 2, 1, rngs=rngs) for i, o in pairwise(hidden)])
        self.after = nnx.List([Residual(width, rngs=rngs) for width in hidden])
        self.last = Conv(hidden[0], 4 * channels, 3, 1, 1, rngs=rngs)
        # It starts as the identity.
        self.last.kernel = nnx.Param(jnp.zeros_like(self.last.kernel[...]))

    def __call__(self, image: jax.Array) -> jax.Array:
        _, height, width, _ = image.shape
        skips = self._skips(image)
        x = self.after[-1](skips[-1])
        for level in reversed(range(self.depth - 1)):
            x = self.after[level](skips[level] + self.ups[level](nnx.gelu(x)))
        correction = join(self.last(nnx.gelu(x)), 2)[:, :height, :width]
        return image + correction.astype(image.dtype)

    def innermost(self, image: jax.Array) -> jax.Array:
        """The last hidden layer at the lowest resolution, which no other skips: [B, h, w, hidden[-1]]."""
        return self.after[-1](self._skips(image)[-1])

    def _skips(self, image: jax.Array) -> list[jax.Array]:
        """What each resolution tells the way back, the highest first."""
        _, height, width, _ = image.shape
        unit = 2**self.depth
        padded = jnp.pad(image, ((0, 0), (0, -height % unit), (0, -width % unit), (0, 0)), mode="edge")
        x = self.stem(cut(padded, 2))
        skips: list[jax.Array] = []
        for level, block in enumerate(self.before):
            x = block(x if level == 0 else self.downs[level - 1](nnx.gelu(x)))
            skips.append(x)
        return skips
