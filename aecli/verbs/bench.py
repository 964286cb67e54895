"""How fast a config trains on this machine, and how much of the machine that is."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aecli.config.load import Config
from aecli.config.schema import Experiment
from aecli.core.flop import products
from aecli.core.learner import Precision
from aecli.core.model import Kind
from aecli.data.dataset import Dataset, open_dataset
from aecli.data.train_batches import open_feed
from aecli.runs.state import init, state_template
from aecli.system import threads
from aecli.system.placement import local_devices, most_bytes, placement
from aecli.system.progress import say
from aecli.training.call import advance, static
from aecli.training.pace import pace

MATMUL_SIDES = (2048, 16384)
"""The least and the largest side of the matrices whose product is timed."""
MATMUL_LEAST_SECONDS = 0.005
"""A product that takes less says how long a call takes: a larger one is timed."""
MATMUL_SECONDS = 0.5


class Speed(NamedTuple):
    """`images_per_s` are examples of whatever `kind`. `step_seconds` is the median over calls, `step_spread` that of their
    quartiles over it. `flop_per_step` is what one step computes in products and convolutions on all devices; `matmul_share` the
    rate of one device's part over `matmul_flop_per_s`, what products of large square matrices reach in the same minute and
    precision. `peak_bytes`: of the process on a CPU, of the device elsewhere."""

    images_per_s: float
    step_seconds: float
    step_spread: float
    steps_per_call: int
    compile_seconds: float
    flop_per_step: float
    matmul_flop_per_s: float
    matmul_share: float
    peak_bytes: int
    tier: str
    devices: str
    kind: Kind


def bench(config: Config, seconds: float) -> Speed:
    """How fast a config trains; see `speed_of`. Raises ConfigError if the config does not fit the data."""
    with config.locating():
        threads.use(config.experiment.train.threads)
        return speed_of(config.experiment, open_dataset(config.experiment.data, say), seconds)


def speed_of(experiment: Experiment, dataset: Dataset, seconds: float) -> Speed:
    """Trains for about so many seconds, as `train` does, and keeps nothing. Raises SettingError if the model cannot serve the
    data."""
    experiment = experiment.without_budget()
    data = experiment.data
    place = placement(data.batch_size)
    state_template(experiment, dataset.spec, len(dataset.train), place)
    feed = open_feed(dataset, experiment.seed, data.batch_size, place)
    state = init(experiment, dataset.spec, len(dataset.train), place)
    root = jax.random.key(experiment.seed)

    precision = experiment.train.precision
    before = matmul_rate(precision)
    chunk = feed.chunk(0, 1)
    begun = time.monotonic()
    traced = advance.trace(*static(experiment, dataset.spec), state, chunk, np.int32(0), np.int32(1), root)
    program = traced.lower().compile()
    compiled = time.monotonic() - begun
    flop = products(traced.jaxpr)
    timed = pace(program, feed, state, root, seconds, feed.most)
    rate = max(before, matmul_rate(precision))
    median = statistics.median(timed.seconds)
    low, _, high = statistics.quantiles(timed.seconds, n=4)
    return Speed(
        images_per_s=data.batch_size / median,
        step_seconds=median,
        step_spread=(high - low) / median,
        steps_per_call=timed.steps_per_call,
        compile_seconds=compiled,
        flop_per_step=flop,
        matmul_flop_per_s=rate,
        matmul_share=flop / place.devices / median / rate,
        peak_bytes=most_bytes(),
        tier=dataset.tier,
        devices=f"{place.devices} x {local_devices()[0].device_kind}",
        kind=dataset.spec.kind,
    )


def matmul_rate(precision: Precision = "float32") -> float:
    """FLOP per second of one device's products of square matrices in this precision: the best of some."""
    end = time.monotonic() + MATMUL_SECONDS
    side, most = MATMUL_SIDES
    rounding = jax.lax.Precision.HIGH if precision == "tf32" else None
    product = jax.jit(partial(jnp.matmul, precision=rounding))

    def seconds(a: jax.Array) -> float:
        begun = time.monotonic()
        product(a, a).block_until_ready()
        return time.monotonic() - begun

    while True:
        a = jnp.ones((side, side), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
        seconds(a)  # compiles
        best = seconds(a)
        if best >= MATMUL_LEAST_SECONDS or 2 * side > most:
            break
        side *= 2
    while time.monotonic() < end:
        best = min(best, seconds(a))
    return 2 * side**3 / best
