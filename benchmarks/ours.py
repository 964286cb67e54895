"""aecli's side of what `aecli bench` does not time: sampling, cached and by a whole pass per value, and importance sampling.

  python ours.py {sampling,naive,importance} CONFIG [--seconds 8] [--batch N] [--set KEY=VALUE ...]

Prints one JSON line, as the peers do. The networks have random weights: what they draw costs the same.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
import numpy as np

import aecli
from aecli.config.load import load
from aecli.core.model import Batch, Spec
from aecli.evaluation.importance import importance_sampled
from aecli.runs.state import init
from aecli.system.placement import placement

SPEC = Spec(28, 28, 1, 10)
SAMPLES = 200


def repeated(work: Callable[[], jax.Array], amount: float, seconds: float) -> float:
    """The median rate over so many seconds, and at least one call after a first one that compiles."""
    jax.block_until_ready(work())
    rates: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not rates:
        begun = time.perf_counter()
        jax.block_until_ready(work())
        rates.append(amount / (time.perf_counter() - begun))
    return median(rates)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=["sampling", "naive", "importance"])
    parser.add_argument("config", type=Path)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    experiment = load(arguments.config, arguments.set).experiment
    model, n = experiment.model, arguments.batch
    state = init(experiment, SPEC, 60_000, placement(1))
    key = jax.random.key(0)
    if arguments.work == "importance":
        image = (np.random.default_rng(0).uniform(size=(n, *SPEC.shape)) < 0.3).astype(np.float32)
        batch = Batch(jnp.asarray(image), jnp.zeros(n, jnp.int32), jnp.ones(n, bool))
        work = lambda: importance_sampled(model, state, batch, key, jnp.int32(SAMPLES))["nll_nats"]  # noqa: E731
        rate = repeated(work, SAMPLES * n, arguments.seconds)
    else:
        draw = jax.jit(model.sample if arguments.work == "sampling" else model.sample_naive)
        label = jnp.zeros(n, jnp.int32)
        rate = repeated(lambda: draw(state, key, label), n, 0.0 if arguments.work == "naive" else arguments.seconds)
    print(json.dumps({"images_per_s": rate, "device": jax.default_backend(), "version": aecli.__version__}))


main()
