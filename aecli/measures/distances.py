"""Distances between two sets of images, each given by features [n, d]. In float64, on the host, without a random number.

Frechet distance: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6. KID: Binkowski et al. 2018,
"Demystifying MMD GANs", section 4.1. Precision and recall: Kynkäänniemi et al. 2019, "Improved precision and recall metric",
equation 2. Density and coverage: Naeem et al. 2020, "Reliable fidelity and diversity metrics", equations 2 and 3. Data copying:
Meehan et al. 2020, "A non-parametric test to detect data-copying", section 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

KID_BLOCK = 1000
"""Images in each block of the KID, whose average and spread over blocks are reported."""
PRECISION_K, DENSITY_K = 3, 5
"""Neighbours of the balls of precision and recall, and of density and coverage, as their papers set them."""
CHUNK, PAIRS = 500, 2**22
"""Rows whose distances to others are taken at once, and the most distances at once."""
BLOCK = 2**16
"""Rows that are looked through at once for the nearest one."""
ROUNDING = 1e-12
"""A squared distance below this share of the squared norms is that of equal points."""


def frechet(x: Any, y: Any) -> float:
    """|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^1/2) of Gaussians fitted to both. The root is that of the symmetric matrix
    C_x^1/2 C_y C_x^1/2, which has the same trace and no imaginary part."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    difference = x.mean(0) - y.mean(0)
    cx, cy = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    values, vectors = np.linalg.eigh(cx)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cy @ root), 0, None)).sum()
    return float(difference @ difference + np.trace(cx) + np.trace(cy) - 2 * shared)


def kid(x: Any, y: Any) -> list[float]:
    """Unbiased squared MMD with the kernel (x . y / d + 1)^3, of each pair of blocks in turn."""
    n = min(len(x), len(y))
    size = min(KID_BLOCK, n)
    blocks = [slice(i, i + size) for i in range(0, n - size + 1, size)]
    return [_mmd(np.asarray(x[b], np.float64), np.asarray(y[b], np.float64)) for b in blocks]


def _mmd(x: Any, y: Any) -> float:
    n, d = x.shape
    kxx, kyy, kxy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (kxx.sum() - np.trace(kxx) + kyy.sum() - np.trace(kyy)) / (n * (n - 1))
    return float(within - 2 * kxy.mean())


def is_constant(x: Any) -> bool:
    """Whether all rows are equal, but for rounding."""
    x = np.asarray(x, np.float64)
    first = x[:1]
    return bool((((x - first) ** 2).sum(1) <= ROUNDING * ((x**2).sum(1) + (first**2).sum())).all())


def has_radius(x: Any, k: int) -> bool:
    """Whether balls to the k-th other row are balls: for most rows not all of the k nearest are equal to them."""
    return bool(np.median(neighbour_distances(x, x, k + 1)) > 0)


def precision_recall(real: Any, drawn: Any, k: int = PRECISION_K) -> tuple[Any, Any]:
    """Whether each drawn image lies within the k-th neighbour's distance of some real one, [n] bool, and the reverse."""
    reach_real, reach_drawn = neighbour_distances(real, real, k + 1), neighbour_distances(drawn, drawn, k + 1)
    precise, recalled = np.zeros(len(drawn), bool), np.zeros(len(real), bool)
    for start, square in _squares(drawn, real):
        part = slice(start, start + len(square))
        precise[part] = (square <= reach_real[None] ** 2).any(1)
        recalled |= (square <= reach_drawn[part, None] ** 2).any(0)
    return precise, recalled


def density_coverage(real: Any, drawn: Any, k: int = DENSITY_K) -> tuple[Any, Any]:
    """In how many k-neighbour balls of real images each drawn one lies, divided by k, [n]; whether each real ball holds a drawn
    image, [n] bool."""
    reach = neighbour_distances(real, real, k + 1)
    density, covered = np.zeros(len(drawn)), np.zeros(len(real), bool)
    for start, square in _squares(drawn, real):
        inside = square <= reach[None] ** 2
        density[start : start + len(square)] = inside.sum(1) / k
        covered |= inside.any(0)
    return density, covered


def copying(near: Any, far: Any) -> float:
    """The chance that a drawn image is nearer to its nearest train image (distances `near`) than a held-out image to its own
    (`far`): 0.5 where draws are as new as the held-out images, 1 where they are copies."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([near, far]))[: len(near)]
    wins = ranks.sum() - len(near) * (len(near) + 1) / 2  # how often a drawn image is the farther one
    return float(1 - wins / (len(near) * len(far)))


def nearest(x: Any, known: Any) -> tuple[Any, Any]:
    """The number of the nearest row of `known` to each row of x, and its distance, [n] each."""
    index, least = np.zeros(len(x), np.int64), np.full(len(x), np.inf)
    for first in range(0, len(known), BLOCK):
        for start, square in _squares(x, known[first : first + BLOCK]):
            part = slice(start, start + len(square))
            here = square.min(1)
            index[part] = np.where(here < least[part], first + square.argmin(1), index[part])
            least[part] = np.minimum(here, least[part])
    return index, np.sqrt(least)


def k_nearest(x: Any, pieces: Iterable[Any], k: int) -> tuple[Any, Any]:
    """The numbers of the k rows nearest to each row of x among all rows of `pieces`, [m, d] each, and their distances, the
    nearest first, [n, k] each. One piece at a time is held in memory."""
    near: Any = np.empty((len(x), 0))
    index: Any = np.empty((len(x), 0), np.int64)
    start = 0
    for known in pieces:
        square = (x**2).sum(1)[:, None] + (known**2).sum(1)[None] - 2 * x @ known.T
        rows = np.arange(start, start + len(known))
        near, index = np.hstack([near, square]), np.hstack([index, np.broadcast_to(rows, square.shape)])
        order = np.argsort(near, axis=1, kind="stable")[:, :k]
        near, index = np.take_along_axis(near, order, 1), np.take_along_axis(index, order, 1)
        start += len(known)
    return index, np.sqrt(np.clip(near, 0, None))


def neighbour_distances(x: Any, known: Any, k: int) -> Any:
    """The distance of each row of x to its k-th nearest row of `known`, [n]. A row that is in both counts as its first."""
    found = np.empty(len(x))
    for start, square in _squares(x, known):
        found[start : start + len(square)] = np.sqrt(np.partition(square, k - 1, axis=1)[:, k - 1])
    return found


def _squares(x: Any, y: Any) -> Any:
    """Squared distances of all pairs, some rows of x at a time: the first row's number, [m, len(y)]."""
    y = np.asarray(y, np.float64)
    norm = (y**2).sum(1)
    rows = max(1, min(CHUNK, PAIRS // len(y)))
    for start in range(0, len(x), rows):
        part = np.asarray(x[start : start + rows], np.float64)
        norms = (part**2).sum(1)[:, None] + norm[None]
        square = norms - 2 * part @ y.T
        yield start, np.where(square > ROUNDING * norms, square, 0.0)
