"""Brings batches to the device: many steps' worth at a time, from whichever tier the images live in.

The host only ever computes indices (data on the device) or gathers rows (data elsewhere), while the device works on the
chunk before. A chunk is a pytree whose `batch(i)` runs inside jit.
"""

from __future__ import annotations

import dataclasses
from math import prod
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from aecli.core.model import Spec
from aecli.data.dataset import Dataset
from aecli.data.order import example_at
from aecli.data.rows import Rows, as_kept
from aecli.system.placement import Placement, put, put_share

RESIDENT_STEPS = 256
HOST_BYTES = 16 * 2**20
"""A chunk of gathered images is about this large."""


class Chunk(Protocol):
    """Batches of up to `most` steps."""

    @property
    def most(self) -> int: ...

    def batch(self, i: jax.Array, spec: Spec) -> tuple[jax.Array, jax.Array]:
        """The i-th batch of the chunk: rows as they are kept, `spec.row_shape` each and of any type, and int32 [B]."""
        ...


class Feed(Protocol):
    """`most`: how many steps a chunk has room for; fixed, so that one compiled call serves every chunk."""

    @property
    def most(self) -> int: ...

    def chunk(self, step: int, count: int) -> Chunk:
        """The batches of `count` steps from `step` on."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ResidentChunk:
    """`images` [n, H W C] and `labels` [n] stay on the device; `index` [most, B] int32 says which make each batch."""

    images: jax.Array
    labels: jax.Array
    index: jax.Array

    @property
    def most(self) -> int:
        return self.index.shape[0]

    def batch(self, i: jax.Array, spec: Spec) -> tuple[jax.Array, jax.Array]:
        chosen = self.index[i]
        return self.images[chosen].reshape(-1, *spec.row_shape), self.labels[chosen]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HostChunk:
    """`images` [most, B, H, W, C] and `labels` [most, B], gathered on the host."""

    images: jax.Array
    labels: jax.Array

    @property
    def most(self) -> int:
        return self.labels.shape[0]

    def batch(self, i: jax.Array, spec: Spec) -> tuple[jax.Array, jax.Array]:
        return self.images[i], self.labels[i]


class ResidentFeed:
    def __init__(self, rows: Rows, seed: int, batch_size: int, place: Placement) -> None:
        images, labels = (np.array(x) for x in rows.all())  # copies: a device may take memory as it is, and rows be a mapped file
        self._seed, self._batch, self._n, self._place = seed, batch_size, len(rows), place
        self._images = put(images.reshape(len(images), -1), place.replicated)
        self._labels = put(labels, place.replicated)

    @property
    def most(self) -> int:
        return RESIDENT_STEPS

    def chunk(self, step: int, count: int) -> ResidentChunk:
        index = np.zeros((self.most, self._batch), np.int32)
        index[:count] = _indices(self._seed, step, count, self._batch, self._n)
        return ResidentChunk(self._images, self._labels, put(index, self._place.chunk))


class HostFeed:
    def __init__(self, rows: Rows, seed: int, batch_size: int, spec: Spec, place: Placement) -> None:
        self._rows, self._seed, self._batch, self._spec, self._place = rows, seed, batch_size, spec, place

    @property
    def most(self) -> int:
        return max(1, min(64, HOST_BYTES // (self._batch * prod(self._spec.row_shape))))

    def chunk(self, step: int, count: int) -> HostChunk:
        index = _indices(self._seed, step, count, self._batch, len(self._rows))[:, self._place.share(self._batch)]
        images, labels = self._rows.take(index.ravel())
        taken = images.reshape(*index.shape, *self._spec.row_shape), labels.reshape(index.shape)
        return HostChunk(*(put_share(_padded(part, self.most), self._place, self._batch) for part in taken))


def open_feed(dataset: Dataset, seed: int, batch_size: int, place: Placement) -> Feed:
    """The feed of the train split in the data set's tier."""
    rows = as_kept(dataset.train)
    if dataset.tier == "device":
        return ResidentFeed(rows, seed, batch_size, place)
    return HostFeed(rows, seed, batch_size, dataset.spec, place)


def _padded(part: NDArray[Any], most: int) -> NDArray[Any]:
    """[steps, ...] with zeros behind, so that every chunk has the same shape."""
    if len(part) == most:
        return part
    padded = np.zeros((most, *part.shape[1:]), part.dtype)
    padded[: len(part)] = part
    return padded


def to_unit(image: jax.Array) -> jax.Array:
    """uint8 -> float32 in [0, 1]; float32, which is in the units that a model is to see, as it is."""
    return image.astype(jnp.float32) / 255.0 if image.dtype == jnp.uint8 else image


def _indices(seed: int, step: int, count: int, batch: int, n: int) -> Any:
    """Which examples make the batches of `count` steps: int64 [count, batch], a function of the seed and the step alone."""
    position = np.arange(step * batch, (step + count) * batch, dtype=np.int64)
    return example_at(seed, position, n).reshape(count, batch)
