"""Features of images by k-means on small patches: what a single layer without any gradient knows of them.

Coates, Ng & Lee 2011, "An analysis of single-layer networks in unsupervised feature learning", sections 3 and 4, with 3x3 regions
for quadrants.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SIDE = 6
"""Pixels across a patch."""
CENTROIDS = 100
SMALLEST = 2 * SIDE
"""Pixels across the smallest images that have such features: of smaller ones a patch is nearly the whole."""
MOST_ACROSS = 32
"""Patches across an image at most: of larger images they are every second pixel apart, every third, and so on."""
REGIONS = 3
FITTED = 100_000
"""Patches that the centroids are fitted to."""
ROUNDS = 10
CONTRAST, WHITENING = 10 / 255**2, 0.1
"""What is added to the variance of a patch, and to those of patches along their principal directions: less is taken for noise."""
FEATURE_VARIANCE = 0.01
AT_ONCE, BLOCK = 8, 256
"""Images whose distances stay in a processor's caches, and images of a call."""


class Dictionary(NamedTuple):
    """Of normalized patches `mean` [d] and `whitening` [d, d]; of whitened ones `centroids` [k, d]."""

    mean: Any
    whitening: Any
    centroids: Any


def fit(images: Any) -> Dictionary:
    """Of images [n, H, W, C] in [0, 1]; patches are taken from all of them, at places drawn once for ever."""
    n, height, width, channels = images.shape
    chance = np.random.Generator(np.random.Philox(0))
    most = min(FITTED, n * (height - SIDE + 1) * (width - SIDE + 1))
    image, top, left = (chance.integers(0, below, most) for below in (n, height - SIDE + 1, width - SIDE + 1))
    rows, columns = (start[:, None] + np.arange(SIDE) for start in (top, left))
    patches = images[image[:, None, None], rows[:, :, None], columns[:, None, :]].reshape(most, SIDE * SIDE * channels)
    normal = np.asarray(_normalized(jnp.asarray(patches, jnp.float32)))
    mean = normal.mean(0)
    variances, directions = np.linalg.eigh(np.cov(normal.T.astype(np.float64), bias=True))
    whitening = ((directions / np.sqrt(np.maximum(variances, 0) + WHITENING)) @ directions.T).astype(np.float32)
    return Dictionary(mean, whitening, np.asarray(_means(jnp.asarray((normal - mean) @ whitening))))


def features(dictionary: Dictionary, images: Any) -> Any:
    """How much nearer than on average the patches of each region are to each centroid, summed over the region:
    [n, H, W, C] -> [n, 9 k] float32."""
    parts: list[Any] = []
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        full = np.pad(block, ((0, BLOCK - len(block)), (0, 0), (0, 0), (0, 0)))  # of one shape, so that one program serves all
        parts.append(np.asarray(_features(dictionary, full))[: len(block)])
    return np.concatenate(parts)


def standardized(train: Any, *others: Any) -> list[Any]:
    """Features [n, d], less the mean of `train` and divided by its standard deviations."""
    mean, deviation = train.mean(0), np.sqrt(train.var(0) + FEATURE_VARIANCE)
    return [(part - mean) / deviation for part in (train, *others)]


def _normalized(patches: jax.Array) -> jax.Array:
    """Without its mean and contrast each, [m, d]."""
    apart = patches - patches.mean(axis=1, keepdims=True)
    return apart / jnp.sqrt((apart**2).mean(axis=1, keepdims=True) + CONTRAST)


def _square_distances(x: jax.Array, centroids: jax.Array) -> jax.Array:
    """[m, d] and [k, d] -> [m, k]."""
    squares = (x**2).sum(axis=1, keepdims=True) - 2 * x @ centroids.T + (centroids**2).sum(axis=1)[None]
    return jnp.maximum(0.0, squares)


@jax.jit
def _means(x: jax.Array) -> jax.Array:
    """k-means of [m, d] by Lloyd's rounds, from the first rows on, which are in no order. One that is nearest to no row stays."""

    def round_(_: int, centroids: jax.Array) -> jax.Array:
        nearest = jax.nn.one_hot(_square_distances(x, centroids).argmin(axis=1), len(centroids), dtype=x.dtype)
        count = nearest.sum(axis=0)[:, None]
        return jnp.where(count > 0, nearest.T @ x / jnp.maximum(count, 1), centroids)

    return jax.lax.fori_loop(0, ROUNDS, round_, x[:CENTROIDS])


@jax.jit
def _features(dictionary: Dictionary, images: jax.Array) -> jax.Array:
    """Of BLOCK images."""
    made = jax.lax.map(partial(_few, dictionary), images.reshape(-1, AT_ONCE, *images.shape[1:]))
    return made.reshape(len(images), -1)


def _few(dictionary: Dictionary, images: jax.Array) -> jax.Array:
    n, height, width, _ = images.shape
    apart = -(-(max(height, width) - SIDE + 1) // MOST_ACROSS)
    down, across = ((side - SIDE) // apart + 1 for side in (height, width))
    shifted = [
        images[:, i : i + apart * (down - 1) + 1 : apart, j : j + apart * (across - 1) + 1 : apart]
        for i in range(SIDE)
        for j in range(SIDE)
    ]
    patches = jnp.concatenate(shifted, axis=-1).reshape(n * down * across, -1)
    white = (_normalized(patches) - dictionary.mean[None]) @ dictionary.whitening
    distances = jnp.sqrt(_square_distances(white, dictionary.centroids))
    near = jnp.maximum(0.0, distances.mean(axis=1, keepdims=True) - distances).reshape(n, down * across, -1)
    # Sums over regions as products: XLA adds overlapping slices several times as slowly.
    return jnp.einsum("rp,npk->nrk", jnp.asarray(_regions(down, across)), near).reshape(n, -1)


def _regions(down: int, across: int) -> Any:
    """Which patches are in which region, [regions, down * across]."""

    def members(n: int) -> Any:
        place, number = np.arange(n)[None], np.arange(REGIONS)[:, None]
        return (place >= number * n // REGIONS) & (place < -(-(number + 1) * n // REGIONS))

    return np.kron(members(down), members(across)).astype(np.float32)
