"""What is known at the sites of an image, told region by region: where things are is kept, roughly.

The pooling is that of Coates, Ng & Lee 2011, "An analysis of single-layer networks in unsupervised feature learning", section
3.1, with means for sums, over three by three regions.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

ACROSS = 3
"""Regions across the height of an image, and across its width, unless a model has others."""


def bounds(sites: int, most: int = ACROSS) -> list[tuple[int, int]]:
    """Where each region of a row of sites begins and ends: as even as they can be, overlapping where they do not divide it. Of
    fewer sites than regions each is one."""
    regions = min(most, sites)
    return [(i * sites // regions, -(-(i + 1) * sites // regions)) for i in range(regions)]


def regions(height: int, width: int) -> int:
    """How many there are of so many sites."""
    return len(bounds(height)) * len(bounds(width))


def region_means(x: jax.Array, across: int = ACROSS) -> jax.Array:
    """The mean of each region: [B, h, w, C] -> [B, across^2 C] float32, fewer where there are fewer sites across than regions."""
    x = x.astype(jnp.float32)
    rows = jnp.stack([x[:, start:end].mean(axis=1) for start, end in bounds(x.shape[1], across)], axis=1)
    means = jnp.stack([rows[:, :, start:end].mean(axis=2) for start, end in bounds(x.shape[2], across)], axis=2)
    return means.reshape(x.shape[0], -1)
