"""Restorers that are not fitted: what the same corrupted images give without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]


class Corrupted(NamedTuple):
    """`shown` [n, H, W, C]; `hidden` [n, H, W, 1] bool, where known; `mean` [H, W, C], of the train images."""

    shown: Images
    hidden: NDArray[np.bool_] | None
    mean: Images


class Restorer(NamedTuple):
    """A restorer and what it is called in tables."""

    name: str
    restore: Callable[[Corrupted], Images]


def median(of: Corrupted) -> Images:
    """The median of each 3x3 neighbourhood, edges mirrored."""
    from scipy.ndimage import median_filter

    return median_filter(of.shown, size=(1, 3, 3, 1), mode="reflect")


def mean_fill(of: Corrupted) -> Images:
    """The mean train image where pixels are hidden."""
    assert of.hidden is not None
    return np.where(of.hidden, of.mean[None], of.shown).astype(np.float32)


def bicubic(of: Corrupted, factor: int) -> Images:
    """The small image, of which every pixel was repeated `factor` times each way, enlarged by Keys' cubic (1981, a = -0.5)."""
    small = of.shown[:, ::factor, ::factor]
    return np.asarray(jax.image.resize(jnp.asarray(small), of.shown.shape, "cubic"))
