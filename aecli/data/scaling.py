"""Brings vectors to a common scale: their mean and spread over the train split, and rows that are scaled by them."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import Standardize
from aecli.data.rows import Rows

_PIECE_BYTES = 2**25


class Scaling(NamedTuple):
    """`mean` and `scale`, [H, W, C] float32 each: a model sees (x - mean) / scale."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]

    def apply(self, x: Any) -> NDArray[np.float32]:
        """[n, H, W, C] -> the same as a model sees it."""
        return (x - self.mean[None]) / self.scale[None]

    def undo(self, x: Any) -> NDArray[np.float32]:
        """[n, H, W, C] as a model sees it -> in the units of the data."""
        return np.asarray(x, np.float32) * self.scale[None] + self.mean[None]


def fit(rows: Rows, how: Standardize) -> Scaling:
    """The scaling of a train split: by its mean (`mean`), or by its mean and the standard deviation of each value (`zscore`), in
    float64, in pieces. A value that never changes is only centred."""
    shape = rows.take(np.zeros(1, np.int64))[0].shape[1:]
    size = max(1, _PIECE_BYTES // (8 * int(np.prod(shape))))
    pieces = [(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    mean = sum(_piece(rows, *piece).sum(0) for piece in pieces) / len(rows)
    if how == "mean":
        return Scaling(np.asarray(mean, np.float32), np.ones(shape, np.float32))
    # The mean first: of values far from 0 a sum of squares would hold little of their spread.
    deviation = np.sqrt(sum(((_piece(rows, *piece) - mean) ** 2).sum(0) for piece in pieces) / len(rows))
    return Scaling(np.asarray(mean, np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32))


def _piece(rows: Rows, start: int, stop: int) -> NDArray[np.float64]:
    return rows.part(start, stop).all()[0].astype(np.float64)


@dataclasses.dataclass(frozen=True)
class ScaledRows:
    """Rows as a model sees them. What is kept stays in the units of the data."""

    rows: Rows
    scaling: Scaling

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.rows.labels

    def take(self, index: NDArray[np.int64]) -> tuple[Any, NDArray[np.int32]]:
        images, labels = self.rows.take(index)
        return self.scaling.apply(images), labels

    def all(self) -> tuple[Any, NDArray[np.int32]]:
        images, labels = self.rows.all()
        return self.scaling.apply(images), labels

    def part(self, start: int, stop: int) -> ScaledRows:
        return dataclasses.replace(self, rows=self.rows.part(start, stop))
