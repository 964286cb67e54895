"""Binary images from gray ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from aecli.data.rows import ArrayRows, Rows

FIXED_SEED = 777


def draw(image: jax.Array, key: jax.Array) -> jax.Array:
    """Each pixel anew from Bernoulli(intensity): [B, H, W, C] in [0, 1] -> the same shape in {0, 1}."""
    return (jax.random.uniform(key, image.shape) < image).astype(jnp.float32)


def draw_fixed(splits: Sequence[Rows]) -> list[ArrayRows]:
    """The frozen draw of the published protocol: one NumPy legacy generator of seed 777, `binomial(1, x / 255)` on float64
    arrays of the splits in turn. The published draw is of the last 10,000 train images, then the test images (code of the
    Exemplar VAE, Norouzi et al. 2020, arXiv 2004.04795). Returns rows of intensities 0 and 255."""
    generator = np.random.RandomState(FIXED_SEED)
    drawn: list[ArrayRows] = []
    for rows in splits:
        images, labels = rows.all()
        flat = images.reshape(len(images), prod(images.shape[1:]))
        bits = generator.binomial(1, flat / 255.0).astype(np.uint8)
        drawn.append(ArrayRows((bits * np.uint8(255)).reshape(images.shape), labels))
    return drawn
