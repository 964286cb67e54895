"""Importance-sampled negative log-likelihood: as a function for tests, and as a command for a trained run.

    python tests/nll.py RUN --samples 5000 --images 1000

The command measures the first images of the test split, paired with the entropy floor where the run was trained on a frozen
binarization of gray images, and prints what the whole split is expected to give: its floor, plus the mean excess.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli import runs
from aecli.core import Batch
from aecli.data.dataset import open_dataset
from aecli.evaluate.batches import batches
from aecli.restored import load

CHUNK = 20


@partial(jax.jit, static_argnames=("model", "samples"))
def importance_nll(model: Any, state: Any, batch: Batch, key: jax.Array, samples: int) -> jax.Array:
    """-log of the mean importance weight of so many codes (a multiple of 20, or fewer), [B] nats."""
    chunk = min(CHUNK, samples)

    def more(i: jax.Array, total: jax.Array) -> jax.Array:
        weights = model.log_weights(state, batch, jax.random.fold_in(key, i), chunk)
        return jnp.logaddexp(total, jax.nn.logsumexp(weights, axis=0))

    total = jax.lax.fori_loop(0, samples // chunk, more, jnp.full(len(batch.image), -jnp.inf))
    return log(samples // chunk * chunk) - total


def entropy(intensity: Any) -> Any:
    """The entropy of independent Bernoulli pixels, per image in nats: the least that binarized images can cost."""
    p = np.asarray(intensity, np.float64).reshape(len(intensity), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return -(np.nan_to_num(p * np.log(p)) + np.nan_to_num((1 - p) * np.log1p(-p))).sum(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--images", type=int, default=1000)
    given = parser.parse_args()
    trained = load(runs.find(given.runs_dir, given.run), "best", print)
    data = trained.experiment.data
    rows = open_dataset(data, print).test
    found: list[Any] = []
    begun = time.monotonic()
    for batch, key, real in batches(rows, data.binarize, jax.random.key(0), trained.place):
        take = min(real, given.images - sum(map(len, found)))
        if take <= 0:
            break
        if hasattr(trained.model, "log_weights"):
            nll = importance_nll(trained.model, trained.state, batch, key, given.samples)
        else:
            nll = trained.model.evaluate(trained.state, batch, key)["loss"]
        found.append(np.asarray(nll, np.float64)[:take])
    nll = np.concatenate(found)
    error = nll.std(ddof=1) / np.sqrt(len(nll))
    print(f"nll {nll.mean():.3f} +- {error:.3f} nats, {len(nll)} images, S = {given.samples}, {time.monotonic() - begun:.0f} s")
    if data.binarize == "fixed":
        gray = open_dataset(data.model_copy(update={"binarize": "none"}), print).test
        images, _ = gray.take(np.arange(len(gray)))
        floor = entropy(images / 255.0)
        excess = nll - floor[: len(nll)]
        spread = excess.std(ddof=1) / np.sqrt(len(nll))
        print(f"excess over the floor {excess.mean():.3f} +- {spread:.3f}; floor of the split {floor.mean():.3f}")
        print(f"expected of the whole split {floor.mean() + excess.mean():.3f} +- {spread:.3f}")


if __name__ == "__main__":
    main()
