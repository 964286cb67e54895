"""Observation models p(x | ...): negative log-likelihoods in nats, summed over the dimensions of an image.

Outputs of a network may be bfloat16; everything here is computed in float32.
"""

from __future__ import annotations

from math import log, pi

import jax
import jax.numpy as jnp


def bernoulli_nll(logits: jax.Array, image: jax.Array) -> jax.Array:
    """-log Bernoulli(image; sigmoid(logits)), [B, H, W, C] twice -> [B] nats. Of gray images this is a cross-entropy (BCE)
    and no likelihood; its least value is then the sum of the entropies H(Bernoulli(image)), not 0."""
    logits = logits.astype(jnp.float32)
    return (jax.nn.softplus(logits) - image * logits).sum(axis=(1, 2, 3))


def gaussian_nll(mean: jax.Array, image: jax.Array, log_sigma: jax.Array) -> jax.Array:
    """-log N(image; mean, sigma^2), [B, H, W, C] twice and a scalar -> [B] nats: a density of the pixels in [0, 1]."""
    z = (image - mean.astype(jnp.float32)) * jnp.exp(-log_sigma)
    return (0.5 * z**2 + log_sigma + 0.5 * log(2 * pi)).sum(axis=(1, 2, 3))


def squared_error(mean: jax.Array, image: jax.Array) -> jax.Array:
    """Half the summed squared error, [B]: in nats, a Gaussian of sigma 1 without its constant."""
    return 0.5 * ((image - mean.astype(jnp.float32)) ** 2).sum(axis=(1, 2, 3))


def mse(reconstruction: jax.Array, image: jax.Array) -> jax.Array:
    """Squared error averaged over the dimensions of each image, [B, H, W, C] twice -> [B]."""
    return ((image - reconstruction.astype(jnp.float32)) ** 2).mean(axis=(1, 2, 3))
