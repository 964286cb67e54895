"""What the processes do that train with another one: the steps that it orders, each on its part of the batch."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

import jax
import numpy as np

from aecli.config.schema import Experiment
from aecli.data.dataset import Dataset
from aecli.data.train_batches import open_feed
from aecli.system.hosts import Follower, blaming
from aecli.system.placement import Placement, spread
from aecli.system.signals import Signals
from aecli.training.call import Call, advance, static


def follow(experiment: Experiment, dataset: Dataset, template: Any, place: Placement, crew: Follower) -> NoReturn:
    """Follows process 0 until that ends, as `Follower.hear` tells. `template` is the form of the state, on the devices of this
    process. A signal is passed on to process 0, which saves and ends all of them."""
    data = experiment.data
    program = partial(advance, *static(experiment, dataset.spec))
    root = jax.random.key(experiment.seed)
    with Signals() as signals, blaming(crew):
        crew.hear(lambda: signals.received)  # process 0 is about to give its state
        state = spread(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), template), place)
        feed = open_feed(dataset, experiment.seed, data.batch_size, place)
        pending: Call | None = None
        while True:
            order = crew.hear(lambda: signals.received)
            step, count = int(order["step"]), int(order["count"])
            chunk = feed.chunk(step, count)
            state, *told = program(state, chunk, np.int32(step), np.int32(count), root)
            if pending is not None:
                pending.done()
            pending = Call(step, count, *told)
