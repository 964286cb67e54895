"""The best linear codes and restorers: PCA, and the affine map of least squared error. In float64, on the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Array = NDArray[np.float64]

LARGEST = 4096
"""Covariances are square in the dimensions of an image, eigenvectors take their cube in time: beyond this there is no PCA."""


class Moments(NamedTuple):
    """`mean` [D] and `covariance` [D, D] (divided by n) of n images."""

    mean: Array
    covariance: Array
    n: int


def moments(chunks: Iterable[NDArray[np.floating]]) -> Moments:
    """The moments of images that come in pieces [m, D]."""
    n, total, products = 0, np.zeros(()), np.zeros(())
    for chunk in chunks:
        x = np.asarray(chunk, np.float64)
        n, total, products = n + len(x), total + x.sum(0), products + x.T @ x
    mean = total / n
    return Moments(mean, products / n - np.outer(mean, mean), n)


class Pca(NamedTuple):
    """`components` [D, D], a row each, by falling variance; `variances` [D], along each."""

    mean: Array
    components: Array
    variances: Array

    def code(self, x: NDArray[np.floating], k: int) -> Array:
        """[m, D] -> [m, k]."""
        return (np.asarray(x, np.float64) - self.mean) @ self.components[:k].T

    def reconstruct(self, x: NDArray[np.floating], k: int) -> Array:
        """[m, D] -> [m, D], the best affine reconstruction from k numbers (of the images that it was fitted to)."""
        return self.mean + self.code(x, k) @ self.components[:k]


def pca(of: Moments) -> Pca:
    # Threads meet at every column, and wait by spinning: beside other work two took 2 to 100 times as long as one does.
    with threadpool_limits(1, "blas"):
        variances, vectors = np.linalg.eigh(of.covariance)
    return Pca(of.mean, vectors[:, ::-1].T, variances[::-1])


class Affine(NamedTuple):
    """y -> `offset` + (y - `centre`) `matrix`."""

    offset: Array
    centre: Array
    matrix: Array

    def __call__(self, y: NDArray[np.floating]) -> Array:
        return self.offset + (np.asarray(y, np.float64) - self.centre) @ self.matrix


def wiener(of: Moments, sigma: float) -> Affine:
    """The affine map of least squared error from x + sigma e, e ~ N(0, I), to x: m + C (C + sigma^2 I)^-1 (y - m)."""
    noisy = of.covariance + sigma**2 * np.eye(len(of.mean))
    return Affine(of.mean, of.mean, np.asarray(np.linalg.solve(noisy, of.covariance), np.float64))


class Seen(NamedTuple):
    """Moments of images y that were made of images x, in the expectation over what was random: `clean`, E[x] [D]; `mean`, E[y]
    [D]; `square`, E[y y^T] [D, D]; `cross`, E[y x^T] [D, D]."""

    clean: Array
    mean: Array
    square: Array
    cross: Array


def untouched(of: Moments) -> Seen:
    """y = x."""
    square = of.covariance + np.outer(of.mean, of.mean)
    return Seen(of.mean, of.mean, square, square)


def restorer(of: Seen, ridge: float = 1e-4) -> Affine:
    """The affine map of least squared error from y to x; `ridge` is added to the variances of y, since a corruption may leave
    directions empty."""
    covariance = of.square - np.outer(of.mean, of.mean) + ridge * np.eye(len(of.mean))
    with threadpool_limits(1, "blas"):
        matrix = np.linalg.solve(covariance, of.cross - np.outer(of.mean, of.clean))
    return Affine(of.clean, of.mean, np.asarray(matrix, np.float64))


def seen(pairs: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]]) -> Seen:
    """The moments of pieces of pairs (clean, corrupted) [m, D], as they are."""
    n, x_sum, y_sum, yy, yx = 0, np.zeros(()), np.zeros(()), np.zeros(()), np.zeros(())
    for clean, corrupted in pairs:
        x, y = np.asarray(clean, np.float64), np.asarray(corrupted, np.float64)
        n, x_sum, y_sum = n + len(x), x_sum + x.sum(0), y_sum + y.sum(0)
        yy, yx = yy + y.T @ y, yx + y.T @ x
    return Seen(x_sum / n, y_sum / n, yy / n, yx / n)
