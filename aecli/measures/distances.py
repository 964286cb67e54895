"""Distances between two sets of images, each given by features [n, d]. In float64, on the host; alike are alike to the bit.

Frechet distance: Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6. KID: Binkowski et al. 2018,
"Demystifying MMD GANs", section 4.1. Precision and recall: Kynkäänniemi et al. 2019, "Improved precision and recall metric",
equation 2. Density and coverage: Naeem et al. 2020, "Reliable fidelity and diversity metrics", equations 2 and 3. Data copying:
Meehan et al. 2020, "A non-parametric test to detect data-copying", section 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aecli.measures.neighbours import Known
from aecli.measures.side_by_side import SideBySide

KID_BLOCK = 1000
"""Images in each block of the KID, whose average and spread over blocks are reported."""
PRECISION_K, DENSITY_K = 3, 5
"""Neighbours of the balls of precision and recall, and of density and coverage, as their papers set them."""
CHUNK, PAIRS = 500, 2**22
"""Rows whose distances to others are taken at once, and the most distances at once."""
ROUNDING = 1e-12
"""A squared distance below this share of the squared norms is that of equal points."""


def frechet(x: Any, y: Any) -> float:
    """|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^1/2) of Gaussians fitted to both. The root is that of the symmetric matrix
    C_x^1/2 C_y C_x^1/2, which has the same trace and no imaginary part."""
    (mx, cx), (my, cy) = _fitted(x), _fitted(y)
    root = _power(cx, 0.5)
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ cy @ root), 0, None)).sum()
    return float((mx - my) @ (mx - my) + np.trace(cx) + np.trace(cy) - 2 * shared)


def frechet_influences(x: Any, y: Any) -> tuple[Any, Any]:
    """How far each row moves the Frechet distance, [n] and [m] with means of 0: to first order the distance is off by the mean of
    what the rows at hand say, so that its variance is that of the first over n and of the second over m (the delta method of
    Rippl, Munk & Sturm 2016, "Limit laws of the empirical Wasserstein distance: Gaussian distributions"). With the best map
    T = C_y^1/2 (C_y^1/2 C_x C_y^1/2)^-1/2 C_y^1/2 from the one Gaussian to the other, a row x at d = x - m_x counts
    2 d . (m_x - m_y) + d . (1 - T) d - tr((1 - T) C_x). Of equal distributions the variance is too large, as in them the first
    order vanishes, and what is left is noise."""
    fitted_x, fitted_y = _fitted(x), _fitted(y)
    return _influence(x, fitted_x, fitted_y), _influence(y, fitted_y, fitted_x)


def _influence(rows: Any, own: tuple[Any, Any], other: tuple[Any, Any]) -> Any:
    (mean, covariance), (to, wanted) = own, other
    root = _power(wanted, 0.5)
    slope = np.eye(len(mean)) - root @ _power(root @ covariance @ root, -0.5) @ root
    apart = np.asarray(rows, np.float64) - mean
    return 2 * apart @ (mean - to) + ((apart @ slope) * apart).sum(1) - np.trace(slope @ covariance)


def _fitted(x: Any) -> tuple[Any, Any]:
    """Mean and covariance of rows."""
    x = np.asarray(x, np.float64)
    return x.mean(0), np.atleast_2d(np.cov(x, rowvar=False))


def _power(matrix: Any, exponent: float) -> Any:
    """Of a symmetric matrix without negative eigenvalues; in directions in which it is 0, but for rounding, it stays so."""
    values, vectors = np.linalg.eigh(matrix)
    some = values > ROUNDING * values[-1]
    return (vectors * np.where(some, np.where(some, values, 1.0) ** exponent, 0.0)) @ vectors.T


def kid(x: Any, y: Any) -> list[float]:
    """Unbiased squared MMD with the kernel (x . y / d + 1)^3, of each pair of blocks in turn. Their rows are chosen at random,
    the same ones each time: a split may lie in the order of its classes, and a block of it would be of one class alone."""
    n = min(len(x), len(y))
    size = min(KID_BLOCK, n)
    rng = np.random.Generator(np.random.Philox(0))
    x, y = (rows[rng.permutation(len(rows))] for rows in (x, y))
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


def reaches(x: Any, ks: Sequence[int]) -> dict[int, Any]:
    """For each k the distance of each row to its k-th nearest other row, [n]; where there are fewer, to the farthest."""
    known = min(max(ks) + 1, len(x))
    with SideBySide() as side_by_side:
        index, distance = Known(x).nearest(x, known, side_by_side)
    distance = _rounded(x, x, index, distance)
    return {k: distance[:, min(k, known - 1)] for k in ks}


def has_radius(reach: Any) -> bool:
    """Whether balls that reach so far, [n], are balls: for most rows not all of the nearest ones are equal to them."""
    return bool(np.median(reach) > 0)


class Overlap(NamedTuple):
    """`precise` [n] bool, whether each drawn row lies in the ball of a real one, `recalled` [m] bool the reverse; `density` [n],
    in how many balls of real rows each drawn one lies, over k; `held` [m], how many drawn rows lie in each real one's ball, over
    k n / m, so that its mean is the same; `covered` [m] bool, whether a real row's ball holds a drawn one."""

    precise: Any
    recalled: Any
    density: Any
    held: Any
    covered: Any


def overlap(real: Any, drawn: Any, reach_real: Mapping[int, Any], reach_drawn: Mapping[int, Any]) -> Overlap:
    """Of balls of such `reaches`: of PRECISION_K and DENSITY_K of the real rows, of PRECISION_K of the drawn ones."""
    # What all share takes digits away from the distances; and what lies on a ball's edge is not to fall outside by rounding.
    centre = np.asarray(real, np.float64).mean(0)
    real, drawn = real - centre, drawn - centre
    near, far = ((1 + ROUNDING) * reach_real[k][None] ** 2 for k in (PRECISION_K, DENSITY_K))
    own = (1 + ROUNDING) * reach_drawn[PRECISION_K][:, None] ** 2

    def piece(rows: slice) -> tuple[Any, ...]:
        square = _squares(drawn[rows], real)
        inside = square <= far
        return (square <= near).any(1), (square <= own[rows]).any(0), inside.sum(1) / DENSITY_K, inside.sum(0)

    with SideBySide() as side_by_side:
        precise, recalled, density, held = zip(*side_by_side.map(piece, _rows(drawn, real)), strict=True)
    counts = np.sum(held, axis=0)
    shares = counts * len(real) / (DENSITY_K * len(drawn))
    return Overlap(np.concatenate(precise), np.any(recalled, axis=0), np.concatenate(density), shares, counts > 0)


def copying(near: Any, far: Any) -> float:
    """The chance that a drawn image is nearer to its nearest train image (distances `near`) than a held-out image to its own
    (`far`): 0.5 where draws are as new as the held-out images, 1 where they are copies."""
    ordered = np.sort(far)
    # How many of the others each drawn image is farther than, of equally far ones half.
    beaten = sum(np.searchsorted(ordered, near, side).sum() for side in ("left", "right")) / 2
    return float(1 - beaten / (len(near) * len(far)))


def nearest(x: Any, known: Any) -> tuple[Any, Any]:
    """The number of the nearest row of `known` to each row of x, and its distance, [n] each."""
    with SideBySide() as side_by_side:
        index, distance = Known(known).nearest(x, 1, side_by_side)
    return index[:, 0], _rounded(x, known, index, distance)[:, 0]


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


def _rows(x: Any, y: Any) -> list[slice]:
    """Some rows of x at a time, whose distances to all of y are held in memory."""
    size = max(1, min(CHUNK, PAIRS // len(y)))
    return [slice(start, start + size) for start in range(0, len(x), size)]


def _squares(x: Any, y: Any) -> Any:
    """Squared distances of all pairs, [n, m]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    norms = (x**2).sum(1)[:, None] + (y**2).sum(1)[None]
    square = norms - 2 * x @ y.T
    return np.where(square > ROUNDING * norms, square, 0.0)


def _rounded(x: Any, known: Any, index: Any, distance: Any) -> Any:
    """The distances [n, k] of the rows of x to those of `known` at `index`: 0 where these are equal, but for rounding."""
    norms = (np.asarray(x, np.float64) ** 2).sum(1)[:, None] + (np.asarray(known, np.float64) ** 2).sum(1)[index]
    return np.where(distance**2 > ROUNDING * norms, distance, 0.0)
