"""Variational autoencoder with a Gaussian posterior and a standard normal prior.

Kingma & Welling 2014, "Auto-encoding variational Bayes", equation 10; `beta` from Higgins et al. 2017, "beta-VAE", equation 4;
`free_bits` from Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", equation 15; a shared
learned sigma from Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders", section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from aecli.core import Batch, Objection, SingleLoss, Spec, Values
from aecli.learner import Learner
from aecli.likelihoods import bernoulli_nll, gaussian_nll
from aecli.nets.pairs import PAIRS, Net, resolve_hidden
from aecli.posteriors import Gaussian

SIGMA_AT_START = 0.25
"""A learned sigma starts near the spread of pixels in [0, 1]. From 1 the errors would weigh so little at first that the
posterior collapses onto the prior, in some runs for good."""


class VaeNet(nnx.Module):
    """`log_sigma` is the scale of a Gaussian likelihood, where it is learned."""

    def __init__(self, spec: Spec, net: Net, hidden: tuple[int, ...], latent: int, learn_sigma: bool, *, rngs: nnx.Rngs) -> None:
        self.encoder = PAIRS[net].encoder(spec.shape, hidden, 2 * latent, rngs=rngs)
        self.decoder = PAIRS[net].decoder(spec.shape, hidden, latent, rngs=rngs)
        if learn_sigma:
            self.log_sigma = nnx.Param(jnp.full((), log(SIGMA_AT_START)))

    def posterior(self, image: jax.Array) -> Gaussian:
        return Gaussian.from_output(self.encoder(image))


class VAE(SingleLoss):
    """Values: `loss` = distortion_nats + beta rate_nats, with `distortion_nats` = -log p(x | z) for one z ~ q(z | x) and
    `rate_nats` = KL(q(z | x) || p(z)); with beta 1 the loss is the negative ELBO.

    `kl_warmup`: steps over which the weight of the rate rises from 0 to beta. `free_bits`: nats per latent dimension below
    which, on average over a batch, its rate costs nothing. Both act in training only. `sigma`: of `likelihood: gaussian`.
    """

    net: Net = "mlp"
    hidden: tuple[PositiveInt, ...] | None = None
    latent: PositiveInt = 20
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    sigma: PositiveFloat | Literal["learned"] = "learned"
    beta: NonNegativeFloat = 1.0
    kl_warmup: NonNegativeInt = Field(default=0, description="steps")
    free_bits: NonNegativeFloat = Field(default=0.0, description="nats per latent dimension")

    @model_validator(mode="after")
    def _settings_fit(self) -> VAE:
        resolve_hidden(self.net, self.hidden)
        if self.likelihood == "bernoulli" and "sigma" in self.model_fields_set and self.sigma != "learned":
            raise ValueError("sigma is for likelihood: gaussian")
        return self

    def objections(self, spec: Spec) -> Iterable[Objection]:
        if self.latent > spec.size:
            yield Objection("latent", f"{self.latent} latents for images of {spec.size} values", f"at most {spec.size}")

    def build(self, spec: Spec, rngs: nnx.Rngs) -> VaeNet:
        learn_sigma = self.likelihood == "gaussian" and self.sigma == "learned"
        return VaeNet(spec, self.net, resolve_hidden(self.net, self.hidden), self.latent, learn_sigma, rngs=rngs)

    def loss(self, net: VaeNet, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        posterior = net.posterior(batch.image)
        output = net.decoder(posterior.sample(key))
        distortion = self._nll(net, output, batch.image)
        kl = posterior.kl_to_standard_normal()
        rate, beta = kl.sum(axis=1), jnp.float32(self.beta)
        charged = rate
        if step is not None:
            if self.free_bits:
                free = kl.mean(axis=0, keepdims=True) < self.free_bits
                charged = jnp.where(free, self.free_bits, kl).sum(axis=1)
            if self.kl_warmup:
                beta *= jnp.minimum(1.0, step / self.kl_warmup)
        return {"loss": distortion + beta * charged, "distortion_nats": distortion, "rate_nats": rate}

    def encode(self, state: Learner[VaeNet], image: jax.Array) -> jax.Array:
        return state.net.posterior(image).mean

    def reconstruct(self, state: Learner[VaeNet], image: jax.Array) -> jax.Array:
        """The mean of p(x | z) at the mean of q(z | x)."""
        net = state.net
        return self._mean(net.decoder(net.posterior(image).mean))

    def sample(self, state: Learner[VaeNet], key: jax.Array, n: int) -> jax.Array:
        """The mean of p(x | z) at n codes from the prior."""
        return self._mean(state.net.decoder(jax.random.normal(key, (n, self.latent))))

    def _nll(self, net: VaeNet, output: jax.Array, image: jax.Array) -> jax.Array:
        if self.likelihood == "bernoulli":
            return bernoulli_nll(output, image)
        log_sigma = net.log_sigma[...].astype(jnp.float32) if self.sigma == "learned" else jnp.float32(log(self.sigma))
        return gaussian_nll(output, image, log_sigma)

    def _mean(self, output: jax.Array) -> jax.Array:
        output = output.astype(jnp.float32)
        return nnx.sigmoid(output) if self.likelihood == "bernoulli" else jnp.clip(output, 0.0, 1.0)
