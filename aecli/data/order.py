"""The order in which a run sees its training images: a keyed permutation for every pass, computed only where it is asked for.

The example at a position is a function of (seed, position, n) alone, so a run can go on from any step without replaying
anything, and every tier sees the same batches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 6


def example_at(seed: int, position: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Which of `n` examples stands at each position of the endless sequence of shuffled passes: int64 [...] -> int64 [...].

    Positions `e n` to `(e + 1) n - 1` are a permutation of range(n), the e-th pass.
    """
    flat = np.ravel(position)
    result = np.empty_like(flat)
    epochs = flat // n
    for epoch in np.unique(epochs):
        here = epochs == epoch
        result[here] = _permute(seed, int(epoch), flat[here] % n, n)
    return result.reshape(np.shape(position))


def _permute(seed: int, epoch: int, index: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """A Feistel network on the smallest even number of bits that holds n, walked until the value falls below n."""
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.Generator(np.random.Philox(key=[seed, epoch])).integers(0, 2**63, _ROUNDS, np.uint64)
    value = index.astype(np.uint64)
    todo = np.ones(value.shape, bool)
    while todo.any():
        left, right = value[todo] >> half, value[todo] & mask
        for key in keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(32)
            left, right = right, left ^ (mixed & mask)
        value[todo] = (left << half) | right
        todo = value >= n
    return value.astype(np.int64)
