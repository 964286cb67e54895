"""A plain Flax loop, as in flax's own VAE example: a jitted step a batch, gathered on the host. Prints one JSON line."""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from statistics import median

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

DATA = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
BATCH = 128


class Vae(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.mean, self.log_var = (nnx.Linear(i, o, rngs=rngs) for i, o in ((784, 400), (400, 20), (400, 20)))
        self.up, self.out = nnx.Linear(20, 400, rngs=rngs), nnx.Linear(400, 784, rngs=rngs)

    def loss(self, x: jax.Array, key: jax.Array) -> jax.Array:
        h = nnx.relu(self.hidden(x))
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape)
        logits = self.out(nnx.relu(self.up(z)))
        bce = optax.sigmoid_binary_cross_entropy(logits, x).sum(-1)
        return (bce - 0.5 * (1 + log_var - mean**2 - jnp.exp(log_var)).sum(-1)).mean()


@nnx.jit
def step(model: Vae, optimizer: nnx.Optimizer, x: jax.Array, key: jax.Array) -> jax.Array:
    loss, gradient = nnx.value_and_grad(lambda model: model.loss(x, key))(model)
    optimizer.update(model, gradient)
    return loss


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=8.0)
    seconds = parser.parse_args().seconds
    with gzip.open(DATA) as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255
    model = Vae(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)
    order, at, settled, key = np.random.default_rng(0).permutation(len(images)), 0, 0.0, jax.random.key(0)
    rates: list[float] = []
    while not settled or time.monotonic() < settled + seconds:
        begun = time.perf_counter()
        for _ in range(16):
            if at + BATCH > len(images):
                at = 0
            key, now = jax.random.split(key)
            loss = step(model, optimizer, images[order[at : at + BATCH]], now)
            at += BATCH
        loss.block_until_ready()
        if settled:
            rates.append(16 * BATCH / (time.perf_counter() - begun))
        settled = settled or time.monotonic()
    print(json.dumps({"images_per_s": median(rates), "device": jax.default_backend(), "version": flax.__version__}))


main()
