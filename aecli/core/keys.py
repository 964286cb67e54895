"""Named streams of randomness. None is stored: a key is a function of the seed, the stream and a position in it."""

from __future__ import annotations

from enum import IntEnum

import jax


class Stream(IntEnum):
    INIT = 0
    TRAIN = 1
    BINARIZE = 2
    EVALUATE = 3
    SAMPLE = 4
    BINARIZE_HELD_OUT = 5
    FIT = 6
    CODES = 7
    AUGMENT = 8


def stream(root: jax.Array, name: Stream, position: jax.Array | int = 0) -> jax.Array:
    """The key of `root` at a position (a step, the number of a batch) of a stream."""
    return jax.random.fold_in(jax.random.fold_in(root, name), position)
