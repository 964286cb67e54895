"""Structural similarity of images.

Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13: a Gaussian window of
11x11 pixels and sigma 1.5 (the largest odd one that fits into smaller images), K1 = .01, K2 = .03, data range 1, averaged over
the places where the window fits, and over channels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def ssim(x: jax.Array, y: jax.Array) -> jax.Array:
    """[B, H, W, C] in [0, 1] twice -> [B]."""
    down, right = _filter(x.shape[1]), _filter(x.shape[2])

    # Along one axis and then the other, of all five at once: as one product of three XLA takes four times as long on a CPU.
    rows = jnp.einsum("mnhwc,bw->mnhcb", jnp.stack([x, y, x * x, y * y, x * y]), right)
    mx, my, xx, yy, xy = jnp.einsum("mnhcb,ah->mncba", rows, down)
    vx, vy, cov = xx - mx**2, yy - my**2, xy - mx * my
    similarity = (2 * mx * my + C1) * (2 * cov + C2) / ((mx**2 + my**2 + C1) * (vx + vy + C2))
    return similarity.mean(axis=(1, 2, 3))


def _filter(side: int) -> jax.Array:
    """The window along one axis as a matrix, [places, side]."""
    width = min(WINDOW, side - 1 + side % 2)
    offset = np.arange(width) - width // 2
    weight = np.exp(-0.5 * (offset / SIGMA) ** 2)
    rows = np.zeros((side - width + 1, side))
    for place in range(len(rows)):
        rows[place, place : place + width] = weight / weight.sum()
    return jnp.asarray(rows, jnp.float32)
