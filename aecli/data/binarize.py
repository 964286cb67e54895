"""Binary images from gray ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.data.rows import ArrayRows, Rows
from aecli.system.arrays import kept_arrays
from aecli.system.folders import cache_root

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


def kept_fixed(splits: Sequence[Rows], fingerprint: str, called: str) -> list[ArrayRows]:
    """`draw_fixed`, drawn once for all runs on the data of this fingerprint: for 20,000 images it takes as long as to start."""
    stamp = f"{fingerprint} {[len(rows) for rows in splits]} {FIXED_SEED}"
    path = cache_root() / "shared" / f"binarized-{hashlib.sha256(stamp.encode()).hexdigest()[:16]}.npz"

    def make() -> dict[str, Any]:
        return {str(i): np.packbits(rows.images) for i, rows in enumerate(draw_fixed(splits))}

    try:
        kept = kept_arrays(path, stamp, make, f"binarizes {called}")
    except OSError:  # no cache
        return draw_fixed(splits)
    drawn: list[ArrayRows] = []
    for i, rows in enumerate(splits):
        images, labels = rows.all()
        bits = np.unpackbits(kept[str(i)], count=images.size).reshape(images.shape)
        drawn.append(ArrayRows(bits * np.uint8(255), labels))
    return drawn
