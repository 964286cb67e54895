"""Distributions over codes: approximate posteriors q(z | x) and priors p(z), in nats."""

from __future__ import annotations

from math import log, pi
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Gaussian(NamedTuple):
    """A diagonal Gaussian over codes; `mean` and `log_sigma` are [B, latent] float32."""

    mean: jax.Array
    log_sigma: jax.Array

    @classmethod
    def from_output(cls, output: jax.Array) -> Gaussian:
        """From a network's [B, 2 latent]: the means, then the logarithms of the standard deviations."""
        mean, log_sigma = jnp.split(output.astype(jnp.float32), 2, axis=-1)
        return cls(mean, log_sigma)

    def bounded(self) -> Gaussian:
        """With the variance kept within exp(-6) and exp(2), as Tomczak & Welling train: no step can make a density explode."""
        return Gaussian(self.mean, jnp.clip(self.log_sigma, -3, 1))

    def sample(self, key: jax.Array, temperature: jax.Array | float = 1.0) -> jax.Array:
        """One reparameterized code per example (Kingma & Welling 2014, section 2.4), its noise scaled by `temperature`."""
        return self.mean + temperature * jnp.exp(self.log_sigma) * jax.random.normal(key, self.mean.shape)

    def log_prob(self, code: jax.Array) -> jax.Array:
        """[B, latent] -> [B]."""
        z = (code - self.mean) * jnp.exp(-self.log_sigma)
        return -(0.5 * z**2 + self.log_sigma + 0.5 * log(2 * pi)).sum(axis=-1)

    def mixture_log_prob(self, code: jax.Array) -> jax.Array:
        """log of the average density of these B Gaussians at other codes, [N, latent] -> [N]."""
        precision = jnp.exp(-2 * self.log_sigma)
        # The square is expanded so that all pairs are products of matrices.
        square = code**2 @ precision.T - 2 * code @ (self.mean * precision).T + (self.mean**2 * precision).sum(-1)[None]
        each = -0.5 * square - (self.log_sigma + 0.5 * log(2 * pi)).sum(-1)[None]
        return jax.nn.logsumexp(each, axis=1) - log(len(self.mean))

    def sample_mixture(self, key: jax.Array, n: int, temperature: jax.Array | float = 1.0) -> jax.Array:
        """n codes of the average of these B Gaussians, [n, latent]."""
        choosing, drawing = jax.random.split(key)
        chosen = jax.random.randint(choosing, (n,), 0, len(self.mean))
        return Gaussian(self.mean[chosen], self.log_sigma[chosen]).sample(drawing, temperature)

    def repeat(self, n: int) -> Gaussian:
        """n copies of the batch, one after the other."""
        return Gaussian(jnp.tile(self.mean, (n, 1)), jnp.tile(self.log_sigma, (n, 1)))

    def kl_to(self, prior: Gaussian) -> jax.Array:
        """KL(self || prior) per latent dimension, [B, latent] nats."""
        scaled = (self.mean - prior.mean) * jnp.exp(-prior.log_sigma)
        shrink = self.log_sigma - prior.log_sigma
        return 0.5 * (scaled**2 + jnp.exp(2 * shrink) - 1) - shrink

    def kl_to_standard_normal(self) -> jax.Array:
        """KL(q || N(0, I)) per latent dimension, [B, latent] nats (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean**2 + jnp.exp(2 * self.log_sigma) - 1) - self.log_sigma


def importance_bound(log_weights: jax.Array) -> jax.Array:
    """log of the mean importance weight over k codes, [k, B] -> [B] nats: the bound of Burda et al. 2016, equation 8."""
    return jax.nn.logsumexp(log_weights, axis=0) - log(len(log_weights))


def standard_normal_log_prob(code: jax.Array) -> jax.Array:
    """log N(code; 0, I), [B, latent] -> [B] nats."""
    return -0.5 * (code**2 + log(2 * pi)).sum(axis=-1)
