"""Decoded images of one split, by index: from an array or a memory map, or decoded each time."""

from __future__ import annotations

import dataclasses
import mmap
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from aecli.data.sources.base import Images, Labels, Source
from aecli.system.room import mapped_memory

T = TypeVar("T")

MAPPED_BYTES = 2 * 2**30
"""Of pages of files that a process has, those of its libraries among them: up to here a map's pages stay with it."""
_AT_ONCE = 256
"""Images of a stream that are decoded for their labels."""


class Rows(Protocol):
    def __len__(self) -> int: ...

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        """[n, H, W, C] and int32 [n] at `index`; images are uint8, or float32 as a model is to see them."""
        ...

    @property
    def labels(self) -> Labels:
        """Those of every row, int32 [n]."""
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
        taken = self.images[index], self.labels[index]
        _let_go(self.images)
        return taken

    def all(self) -> tuple[Images, Labels]:
        return self.images, self.labels

    def part(self, start: int, stop: int) -> ArrayRows:
        return ArrayRows(self.images[start:stop], self.labels[start:stop])


def _let_go(images: Images) -> None:
    """Gives the pages of a memory map, which stay in the system's cache, back once this process has MAPPED_BYTES of pages of
    files: otherwise a pass over a file makes the process as large as the file. To find them again takes longer than to copy the
    rows, so it is not done each time."""
    base: Any = images
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and mapped_memory() > MAPPED_BYTES:
        base.madvise(mmap.MADV_DONTNEED)


@dataclasses.dataclass(frozen=True)
class StreamRows:
    """Rows that are decoded each time that they are asked for."""

    source: Source
    split: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def labels(self) -> Labels:
        parts = range(0, len(self), _AT_ONCE)  # all images would not fit
        return np.concatenate([self.part(i, min(i + _AT_ONCE, len(self))).all()[1] for i in parts] or [np.empty(0, np.int32)])

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        return self.source.read(self.split, index + self.start)

    def all(self) -> tuple[Images, Labels]:
        return self.take(np.arange(len(self)))

    def part(self, start: int, stop: int) -> StreamRows:
        return dataclasses.replace(self, start=self.start + start, stop=self.start + stop)


@dataclasses.dataclass(frozen=True)
class ChosenRows:
    """The rows at `index`, rising numbers [n], of others; their `labels` [n] are known without a look at them."""

    rows: Rows
    index: NDArray[np.int64]
    labels: Labels

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        return self.rows.take(self.index[index])[0], self.labels[index]

    def all(self) -> tuple[Images, Labels]:
        return self.rows.take(self.index)[0], self.labels

    def part(self, start: int, stop: int) -> ChosenRows:
        return ChosenRows(self.rows, self.index[start:stop], self.labels[start:stop])


@dataclasses.dataclass(frozen=True)
class JoinedRows:
    """Rows of several splits, one after another."""

    parts: Sequence[Rows]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def labels(self) -> Labels:
        return np.concatenate([part.labels for part in self.parts])

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        each, again = np.unique(index, return_inverse=True)  # padding asks for the last row again and again
        found: list[tuple[Images, Labels]] = []
        start = 0
        for part in self.parts:
            here = each[(each >= start) & (each < start + len(part))]
            found += [part.take(here - start)] if len(here) else []
            start += len(part)
        images, labels = (np.concatenate(some) for some in zip(*found, strict=True))
        return images[again], labels[again]

    def all(self) -> tuple[Images, Labels]:
        return self.take(np.arange(len(self)))

    def part(self, start: int, stop: int) -> JoinedRows:
        kept: list[Rows] = []
        for part in self.parts:
            kept.append(part.part(max(0, min(start, len(part))), max(0, min(stop, len(part)))))
            start, stop = start - len(part), stop - len(part)
        return JoinedRows(kept)


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """Rows with other labels, [n], than they bring."""

    rows: Rows
    labels: Labels

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        return self.rows.take(index)[0], self.labels[index]

    def all(self) -> tuple[Images, Labels]:
        return self.rows.all()[0], self.labels

    def part(self, start: int, stop: int) -> LabelledRows:
        return LabelledRows(self.rows.part(start, stop), self.labels[start:stop])


@dataclasses.dataclass(frozen=True)
class PairedRows:
    """Pairs, of which whoever takes rows is given the images alone. `both` are the rows as they are kept, [n, H, W, 2 C]: the
    image, and behind it in the channels the one that it is paired with."""

    both: Rows

    def __len__(self) -> int:
        return len(self.both)

    @property
    def labels(self) -> Labels:
        return self.both.labels

    def take(self, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        images, labels = self.both.take(index)
        return apart(images, True)[0], labels

    def all(self) -> tuple[Images, Labels]:
        images, labels = self.both.all()
        return apart(images, True)[0], labels

    def part(self, start: int, stop: int) -> PairedRows:
        return PairedRows(self.both.part(start, stop))


def as_kept(rows: Rows) -> Rows:
    """The rows as they are kept: of pairs both images."""
    return rows.both if isinstance(rows, PairedRows) else rows


def remade(rows: Rows, make: Callable[[Rows], Rows]) -> Rows:
    """What `make` makes of the rows as they are kept; of pairs it is pairs again."""
    return PairedRows(make(rows.both)) if isinstance(rows, PairedRows) else make(rows)


def apart(kept: T, paired: bool) -> tuple[T, T | None]:
    """Rows as they are kept, an array [..., C], as the images and, of pairs, those that they are paired with."""
    array: Any = kept
    channels = array.shape[-1] // 2
    return (array[..., :channels], array[..., channels:]) if paired else (array, None)


def unit(images: Images) -> NDArray[np.float32]:
    """Rows as a model sees them, float32: of uint8 in [0, 1]."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


def choose(rows: Rows, most: int, seed: int) -> Rows:
    """At most so many rows, chosen by the seed, in their order."""
    chosen = np.sort(np.random.Generator(np.random.Philox(seed)).permutation(len(rows))[:most])
    return remade(rows, lambda kept: ArrayRows(*kept.take(chosen)))
