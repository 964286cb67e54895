"""Decoded images of one split, by index: from an array or a memory map, or decoded each time."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aecli.data.sources.base import Images, Labels, Source


class Rows(Protocol):
    def __len__(self) -> int: ...

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        """uint8 [n, H, W, C] and int32 [n] at `index`."""
        ...

    def all(self) -> tuple[Images, Labels]:
        """Every row; arrays may be those that the rows are kept in, and a memory map stays one."""
        ...

    def part(self, start: int, stop: int) -> Rows:
        """The rows from `start` to before `stop`."""
        ...


@dataclasses.dataclass(frozen=True)
class ArrayRows:
    """`images` [n, H, W, C] may be a memory map; `labels` [n]."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        return self.images[index], self.labels[index]

    def all(self) -> tuple[Images, Labels]:
        return self.images, self.labels

    def part(self, start: int, stop: int) -> ArrayRows:
        return ArrayRows(self.images[start:stop], self.labels[start:stop])


@dataclasses.dataclass(frozen=True)
class StreamRows:
    """Rows that are decoded each time that they are asked for."""

    source: Source
    split: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        return self.source.read(self.split, index + self.start)

    def all(self) -> tuple[Images, Labels]:
        return self.take(np.arange(len(self)))

    def part(self, start: int, stop: int) -> StreamRows:
        return dataclasses.replace(self, start=self.start + start, stop=self.start + stop)


def choose(rows: Rows, most: int, seed: int) -> ArrayRows:
    """At most so many rows, chosen by the seed, in their order."""
    chosen = np.sort(np.random.Generator(np.random.Philox(seed)).permutation(len(rows))[:most])
    return ArrayRows(*rows.take(chosen))
