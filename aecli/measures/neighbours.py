"""Nearest rows by Euclidean distance, among all of them: by blocked products in float32, exactly among what these leave, and in
float64 where they cannot tell what to leave."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from aecli.measures.side_by_side import SideBySide

QUERIES, BLOCK = 500, 4096
"""Rows that are looked for at once, and rows that are looked through at once: their distances stay in a processor's caches."""
VALUES = 2**18
"""Values of candidates that are compared exactly at once."""
MORE = 12
"""Candidates beyond those that are asked for, which float32 may have put behind them."""
SPARSE = 1 / 16
"""The share of values that are not 0 up to which products skip the zeros."""


class _Block(NamedTuple):
    """Some of the rows, [m, d], and half their squares, [m]."""

    rows: Any
    half: Any

    def half_squares(self, sought: Any) -> Any:
        """|y|^2 / 2 - x . y of all x in [n, d] and all rows y, [n, m]."""
        return self.half - (self.rows @ sought.T).T


class Known:
    """Rows to look among, [n, d]. In float32 they are centred, unless most of their values are 0, and divided by the largest:
    what all of them share would take digits away from what tells them apart. Raises ValueError if a value is not finite."""

    def __init__(self, rows: Any) -> None:
        if not np.isfinite(rows).all():
            raise ValueError("the features hold values that are not finite: no row is nearest to another")
        self._rows = rows
        self._is_sparse = np.count_nonzero(rows) < SPARSE * rows.size
        self._centre = np.zeros(rows.shape[1]) if self._is_sparse else rows.mean(0, dtype=np.float64)
        self._scale = float(max(np.abs(rows.max(0) - self._centre).max(), np.abs(rows.min(0) - self._centre).max())) or 1.0
        self._blocks = [self._block(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
        self._largest = max(float(block.half.max()) for block in self._blocks)
        # Twice what float32 can be wrong by in a product of two rows and half a square, over the largest of the squares.
        self._unsure = 4 * rows.shape[1] * 2.0**-24

    def _block(self, rows: Any, dtype: Any = np.float32) -> _Block:
        apart = self._apart(rows)
        half = ((apart**2).sum(1) / 2).astype(dtype)
        if not self._is_sparse:
            return _Block(apart.astype(dtype), half)
        from scipy.sparse import csr_matrix

        return _Block(csr_matrix(apart, dtype=dtype), half)

    def _apart(self, rows: Any) -> Any:
        return (rows - self._centre) / self._scale

    def nearest(self, of: Any, k: int, side_by_side: SideBySide) -> tuple[Any, Any]:
        """The numbers of the k rows nearest to each row of [m, d], and their distances, the nearest first, [m, k] each. Of more
        equally near rows than are asked for, and than float64 tells apart, any come. Raises ValueError if there are fewer than
        k rows, or a value is not finite."""
        if k > len(self._rows):
            raise ValueError(f"{k} nearest of {len(self._rows)} rows")
        if not np.isfinite(of).all():
            raise ValueError("the features hold values that are not finite: no row is nearest to them")
        starts = range(0, len(of), QUERIES)
        found = side_by_side.map(lambda start: self._nearest(of[start : start + QUERIES], k), starts)
        index, distance = zip(*found, strict=True) if found else ([np.zeros((0, k), np.int64)], [np.zeros((0, k))])
        return np.concatenate(index), np.concatenate(distance)

    def _nearest(self, of: Any, k: int) -> tuple[Any, Any]:
        """As `nearest`, of rows that are looked for at once."""
        kept = min(k + MORE, len(self._rows))
        near, candidates = self._candidates(of, kept, self._blocks, np.float32)
        index, distance = self._exactly(of, candidates, k)
        if kept == len(self._rows):
            return index, distance
        # Every row that is left out is at least as far as float32 says that the last candidate is, but for its errors.
        square = (self._apart(of) ** 2).sum(1) / 2
        sure = near.max(1) - self._unsure * (square + self._largest)
        doubtful = (distance[:, -1] / self._scale) ** 2 / 2 - square > sure
        if doubtful.any():
            blocks = (self._block(self._rows[i : i + BLOCK], np.float64) for i in range(0, len(self._rows), BLOCK))
            _, candidates = self._candidates(of[doubtful], kept, blocks, np.float64)
            index[doubtful], distance[doubtful] = self._exactly(of[doubtful], candidates, k)
        return index, distance

    def _candidates(self, of: Any, kept: int, blocks: Iterable[_Block], dtype: Any) -> tuple[Any, Any]:
        """Of half the squared distances, less what a row of `of` adds to all of its own, the least, and the numbers of their
        rows, [n, kept] each."""
        sought = self._apart(of).astype(dtype)
        near = np.empty((len(of), 0), dtype)
        index = np.empty((len(of), 0), np.int64)
        reach: Any = None
        for number, block in enumerate(blocks):
            half = block.half_squares(sought)
            if reach is None:
                reach = _reach(half, kept)
            row, column = np.nonzero(half < reach)
            # The new ones of each row, side by side behind those that it has.
            count = np.bincount(row, minlength=len(of))
            place = near.shape[1] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
            more = ((0, 0), (0, int(count.max(initial=0))))
            near, index = np.pad(near, more, constant_values=np.inf), np.pad(index, more)
            near[row, place], index[row, place] = half[row, column], number * BLOCK + column
            if near.shape[1] > 4 * kept or number == len(self._blocks) - 1:
                best = np.argpartition(near, kept - 1, axis=1)[:, :kept]
                near, index = np.take_along_axis(near, best, 1), np.take_along_axis(index, best, 1)
                reach = near.max(1)[:, None]
        return near, index

    def _exactly(self, of: Any, index: Any, k: int) -> tuple[Any, Any]:
        """The k nearest of the candidates `index`."""
        index = np.sort(index, axis=1)
        square = np.empty(index.shape)
        some = max(1, VALUES // (index.shape[1] * of.shape[1]))
        for start in range(0, len(of), some):
            part = slice(start, start + some)
            square[part] = ((self._rows[index[part]] - of[part, None].astype(np.float64)) ** 2).sum(2)
        order = np.argsort(square, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(index, order, 1), np.sqrt(np.take_along_axis(square, order, 1))


def _reach(half: Any, kept: int) -> Any:
    """What the nearest of the first block lie below, as many as are kept, [n, 1]."""
    if half.shape[1] < kept:
        return np.full((len(half), 1), np.inf, half.dtype)
    return np.nextafter(np.partition(half, kept - 1, axis=1)[:, kept - 1 : kept], half.dtype.type(np.inf))
