"""Approximate posteriors q(z | x), and what they cost in nats."""

from __future__ import annotations

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

    def sample(self, key: jax.Array) -> jax.Array:
        """One reparameterized code per example (Kingma & Welling 2014, section 2.4)."""
        return self.mean + jnp.exp(self.log_sigma) * jax.random.normal(key, self.mean.shape)

    def kl_to_standard_normal(self) -> jax.Array:
        """KL(q || N(0, I)) per latent dimension, [B, latent] nats (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean**2 + jnp.exp(2 * self.log_sigma) - 1) - self.log_sigma
