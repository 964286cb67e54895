"""A learned mixture of Gaussians as a prior over codes (Dilokthanakul et al. 2016, "Deep unsupervised clustering with Gaussian
mixture variational autoencoders"; beside VampPriors in Tomczak & Welling 2018, section 5, as MoG)."""

from __future__ import annotations

from math import log

import jax
import jax.numpy as jnp
from flax import nnx

APART = 0.5
"""The standard deviation of the means at the start. With theirs around each the mixture is then as wide as a standard normal."""


class Mixture(nnx.Module):
    """Equally likely components with a mean and a sigma for each of `latent` dimensions."""

    def __init__(self, components: int, latent: int, *, rngs: nnx.Rngs) -> None:
        self.mean = nnx.Param(APART * jax.random.normal(rngs.params(), (components, latent)))
        self.log_sigma = nnx.Param(jnp.full((components, latent), 0.5 * log(1 - APART**2)))

    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """Means and logarithms of sigmas, float32 [components, latent] each."""
        return self.mean[...].astype(jnp.float32), self.log_sigma[...].astype(jnp.float32)
