"""How long the steps of a training take on this machine, measured on a state that is thrown away."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from aecli.data.train_batches import Feed
from aecli.training.call import adapt

LEAST_CALLS = 3


class Pace(NamedTuple):
    """`seconds` of a step, of each call that was timed; a call does `steps_per_call`. `state` is what became of the one that was
    given, which is gone."""

    seconds: tuple[float, ...]
    steps_per_call: int
    state: Any


def pace(advance: Any, feed: Feed, state: Any, root: jax.Array, seconds: float, most: int) -> Pace:
    """Trains for about so many seconds, after calls that find out how many steps the next ones do: no more than `most`. `advance`
    is compiled."""
    times: list[float] = []
    step, count, settled, end = 0, 1, False, 0.0
    while not settled or len(times) < LEAST_CALLS or time.monotonic() < end:
        begun = time.monotonic()
        state, *_ = jax.block_until_ready(advance(state, feed.chunk(step, count), np.int32(step), np.int32(count), root))
        spent = time.monotonic() - begun
        step += count
        if settled:
            times.append(spent / count)
            continue
        longer = min(adapt(count, spent), most)
        # The first call does more than the steps: it does not say how long they take.
        settled, count, end = longer <= count and step > 1, longer, time.monotonic() + seconds
    return Pace(tuple(times), count, state)
