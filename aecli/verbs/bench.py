"""How fast a config trains on this machine, and how much of the machine that is."""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aecli.config.load import Config
from aecli.config.schema import Experiment
from aecli.core.model import Batch, Kind
from aecli.data.dataset import Dataset, open_dataset
from aecli.data.train_batches import open_feed
from aecli.runs.state import init, state_template
from aecli.system import threads
from aecli.system.placement import local_devices, most_bytes, placement
from aecli.system.progress import say
from aecli.training.call import adapt, advance

MATMUL_SIDE = 2048
MATMUL_SECONDS = 0.5
LEAST_CALLS = 3


class Speed(NamedTuple):
    """`images_per_s` are examples of whatever `kind`. `step_seconds` is the median over calls, `step_spread` that of their
    quartiles over it. `flop_per_step` is XLA's count for one step on all devices, None if it has none; `matmul_share` the rate of
    one device's part over `matmul_flop_per_s`, what products of square float32 matrices reach in the same minute. `peak_bytes`:
    of the process on a CPU, of the device elsewhere."""

    images_per_s: float
    step_seconds: float
    step_spread: float
    steps_per_call: int
    compile_seconds: float
    flop_per_step: float | None
    matmul_flop_per_s: float
    matmul_share: float | None
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
    data, model = experiment.data, experiment.model
    place = placement(data.batch_size)
    state_template(experiment, dataset.spec, len(dataset.train), place)
    feed = open_feed(dataset, experiment.seed, data.batch_size, place)
    state = init(experiment, dataset.spec, len(dataset.train), place)
    root = jax.random.key(experiment.seed)

    before = matmul_rate()
    chunk = feed.chunk(0, 1)
    begun = time.monotonic()
    lowered = advance.lower(model, dataset.spec, data.binarize, state, chunk, np.int32(0), np.int32(1), root)
    program = lowered.compile()
    compiled = time.monotonic() - begun
    flop = _flop(program)
    local = data.batch_size // place.devices
    part = model.part_size(local, dataset.spec.shape)
    if part < local:  # XLA counts the body of the loop over parts once, too
        flop = _flop(jax.jit(model.train_step).lower(state, Batch.abstract(part, dataset.spec), root).compile())
        flop = None if flop is None else flop * local / part
    times: list[float] = []
    step, count, settled, end = 0, 1, False, 0.0
    while not settled or len(times) < LEAST_CALLS or time.monotonic() < end:
        begun = time.monotonic()
        state, _ = jax.block_until_ready(program(state, feed.chunk(step, count), np.int32(step), np.int32(count), root))
        spent = time.monotonic() - begun
        step += count
        if settled:
            times.append(spent / count)
            continue
        longer = min(adapt(count, spent), feed.most)
        # The first call does more than the steps: it does not say how long they take.
        settled, count, end = longer <= count and step > 1, longer, time.monotonic() + seconds
    rate = max(before, matmul_rate())
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    return Speed(
        images_per_s=data.batch_size / median,
        step_seconds=median,
        step_spread=(high - low) / median,
        steps_per_call=count,
        compile_seconds=compiled,
        flop_per_step=None if flop is None else flop * place.devices,
        matmul_flop_per_s=rate,
        matmul_share=None if flop is None else flop / median / rate,
        peak_bytes=most_bytes(),
        tier=dataset.tier,
        devices=f"{place.devices} x {local_devices()[0].device_kind}",
        kind=dataset.spec.kind,
    )


def matmul_rate() -> float:
    """FLOP per second of this machine's products of square float32 matrices: the best of some."""
    a = jnp.ones((MATMUL_SIDE, MATMUL_SIDE))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best, end = float("inf"), time.monotonic() + MATMUL_SECONDS
    while time.monotonic() < end:
        begun = time.monotonic()
        product(a, a).block_until_ready()
        best = min(best, time.monotonic() - begun)
    return 2 * MATMUL_SIDE**3 / best


def _flop(compiled: Any) -> float | None:
    """The FLOP of one step on one device: XLA counts the body of the loop over steps once."""
    analysis = compiled.cost_analysis() or {}
    flop = float(analysis.get("flops", 0.0))
    return flop if flop > 0 else None
