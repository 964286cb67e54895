"""Bounds on log p(x) from importance samples of codes.

Burda et al. 2016, "Importance weighted autoencoders", section 3.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from aecli.core.model import Batch
from aecli.system.unfused import unfused

CHUNK = 10
"""Codes of each image at once. More would not fit into the caches of a CPU, and memory is not to grow with S."""


def _counted(i: jax.Array, samples: jax.Array) -> jax.Array:
    """Which codes of the i-th chunk are among so many, [CHUNK, 1]."""
    return (jnp.arange(CHUNK) + i * CHUNK < samples)[:, None]


def importance_bounds(model: Any, state: Any, batch: Batch, key: jax.Array, samples: jax.Array) -> dict[str, jax.Array]:
    """Per image, [B]: `nll_nats`, -log of the mean importance weight of so many codes; `elbo_nats`, - the mean of the logarithms;
    `effective_samples`, the squared sum of the weights over the sum of their squares. Memory does not depend on S."""

    def more(i: jax.Array, sums: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        log_weight = model.log_weights(state, batch, jax.random.fold_in(key, i), CHUNK)
        counts = _counted(i, samples)
        log_mean, log_square, total = sums
        return (
            jnp.logaddexp(log_mean, jax.nn.logsumexp(jnp.where(counts, log_weight, -jnp.inf), axis=0)),
            jnp.logaddexp(log_square, jax.nn.logsumexp(jnp.where(counts, 2 * log_weight, -jnp.inf), axis=0)),
            total + jnp.where(counts, log_weight, 0.0).sum(axis=0),
        )

    none = jnp.full(batch.image.shape[0], -jnp.inf)
    chunks = (samples + CHUNK - 1) // CHUNK
    log_sum, log_square, total = jax.lax.fori_loop(0, chunks, more, (none, none, jnp.zeros(batch.image.shape[0])))
    return {
        "nll_nats": jnp.log(samples.astype(jnp.float32)) - log_sum,
        "elbo_nats": -total / samples,
        "effective_samples": jnp.exp(2 * log_sum - log_square),
    }


importance_sampled = unfused(importance_bounds, "model")


def top_bound(model: Any, state: Any, batch: Batch, key: jax.Array, samples: jax.Array) -> jax.Array:
    """The bound of `WeighsTop` on log p(x) from so many codes, [B] nats. Their weights are not averaged before the logarithm is
    taken: this bound is to be loose where the lower codes of an image are not those that its top one would have."""

    def more(i: jax.Array, total: jax.Array) -> jax.Array:
        log_weight = model.log_weights_of_top(state, batch, jax.random.fold_in(key, i), CHUNK)
        counts = _counted(i, samples)
        return total + jnp.where(counts, log_weight, 0.0).sum(axis=0)

    chunks = (samples + CHUNK - 1) // CHUNK
    return jax.lax.fori_loop(0, chunks, more, jnp.zeros(batch.image.shape[0])) / samples


top_bounded = unfused(top_bound, "model")
