"""What images cost without any model of how their pixels hang together."""

from __future__ import annotations

from collections.abc import Iterable
from math import log

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bernoulli_entropy(intensity: NDArray[np.floating]) -> Array:
    """sum of H(Bernoulli(x)) over the dimensions of each image, [n, D] in [0, 1] -> [n] nats: the least that images which are
    drawn from these intensities can cost on average, and the least cross-entropy of the intensities themselves."""
    p = np.asarray(intensity, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * np.log(p) + (1 - p) * np.log1p(-p)
    return -np.nan_to_num(terms).sum(1)


def independent_bernoulli(train: Iterable[NDArray[np.floating]], held_out: Iterable[NDArray[np.floating]]) -> Array:
    """-log p of binary (or gray) images under one Bernoulli a pixel with the train split's mean, [n] nats. Images come in pieces
    [m, D]."""
    n, total = 0, np.zeros(())
    for chunk in train:
        n, total = n + len(chunk), total + np.asarray(chunk, np.float64).sum(0)
    p = (total + 0.5) / (n + 1)  # a pixel that was always off may yet be on
    pieces = (np.asarray(images, np.float64) for images in held_out)
    return -np.concatenate([x @ np.log(p) + (1 - x) @ np.log1p(-p) for x in pieces])


def independent_levels(train: Iterable[NDArray[np.integer]], held_out: Iterable[NDArray[np.integer]], levels: int) -> Array:
    """-log p of images of whole numbers below `levels` under one histogram a pixel of the train split, each level counted once
    more than it occurs, [n] nats. Images come in pieces [m, D]."""
    counts = None
    for chunk in train:
        if counts is None:
            counts = np.ones((chunk.shape[1], levels), np.int64)
        place = np.arange(chunk.shape[1]) * levels
        counts += np.bincount((chunk + place).ravel(), minlength=counts.size).reshape(counts.shape)
    assert counts is not None
    log_p = np.log(counts) - np.log(counts.sum(1, keepdims=True))
    pieces = (np.asarray(images, np.int64)[:, :, None] for images in held_out)
    return -np.concatenate([np.take_along_axis(log_p[None], x, axis=2)[:, :, 0].sum(1) for x in pieces])


def to_bits_per_dim(nats: Array, dimensions: int) -> Array:
    return nats / (dimensions * log(2))
