"""Exact likelihoods of discretized intensities, and the way from images to levels and back.

Every distribution here is over the whole numbers 0 to levels - 1, so its probabilities sum to 1: no dequantization, no bound.
Parameters may be bfloat16; everything is computed in float32.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp

from aecli.core.frozen import Frozen
from aecli.distributions.softplus import log_sigmoid, softplus

LOG_SCALES = (-7.0, 7.0)
"""A narrower logistic lies inside one of 256 levels anyhow, a wider one is flat."""


def quantize(image: jax.Array, levels: int) -> jax.Array:
    """Intensities in [0, 1], read as multiples of 1/255, -> int32 levels of equal width. `levels` divides 256."""
    return jnp.floor(image * 255.0 + 0.5).astype(jnp.int32) // (256 // levels)


def dequantize(value: jax.Array, levels: int) -> jax.Array:
    """Levels -> intensities in [0, 1]: the lowest is 0, the highest 1."""
    return value.astype(jnp.float32) / (levels - 1)


class Discrete(Protocol):
    """A family of distributions over `levels` values."""

    @property
    def outputs(self) -> int:
        """How many numbers a network gives for one dimension."""
        ...

    def log_prob(self, params: jax.Array, value: jax.Array) -> jax.Array:
        """[..., outputs] and int32 [...] -> [...] nats. Of two levels, a float `value` in [0, 1] is the probability of the
        higher one, and the result the expectation."""
        ...

    def log_probs(self, params: jax.Array) -> jax.Array:
        """[..., outputs] -> [..., levels] nats: of every value."""
        ...

    def mean(self, params: jax.Array) -> jax.Array:
        """[..., outputs] -> [...], the expected intensity in [0, 1]."""
        ...


class Categorical(Frozen):
    """A probability per level, by softmax; of two levels, by one logit."""

    levels: int

    @property
    def outputs(self) -> int:
        return 1 if self.levels == 2 else self.levels

    def log_prob(self, params: jax.Array, value: jax.Array) -> jax.Array:
        params = params.astype(jnp.float32)
        if self.levels == 2:
            logit = params[..., 0]
            return value * logit - softplus(logit)
        # A comparison, since the gradient of a gather is a scatter, which is slow on a CPU.
        chosen = value[..., None] == jax.lax.broadcasted_iota(jnp.int32, params.shape, params.ndim - 1)
        return jnp.where(chosen, params, 0.0).sum(-1) - jax.nn.logsumexp(params, axis=-1)

    def log_probs(self, params: jax.Array) -> jax.Array:
        params = params.astype(jnp.float32)
        if self.levels == 2:
            return jnp.concatenate([log_sigmoid(-params), log_sigmoid(params)], axis=-1)
        return jax.nn.log_softmax(params, axis=-1)

    def mean(self, params: jax.Array) -> jax.Array:
        return _mean(self.log_probs(params), self.levels)


class LogisticMixture(Frozen):
    """Logistic densities on [-1, 1], each level taking the mass of its bin, the lowest and the highest that of the tails too
    (Salimans et al. 2017, "PixelCNN++", equation 2; one component: Kingma et al. 2016, appendix A)."""

    levels: int
    components: int

    @property
    def outputs(self) -> int:
        """A logit, a mean and the logarithm of a scale for each component; of a single one, no logit."""
        return 2 if self.components == 1 else 3 * self.components

    def log_prob(self, params: jax.Array, value: jax.Array) -> jax.Array:
        if self.levels == 2 and jnp.issubdtype(value.dtype, jnp.floating):
            # A level has a bin around it: one between two levels would have mass of both.
            lower, higher = jnp.moveaxis(self.log_probs(params), -1, 0)
            return (1 - value) * lower + value * higher
        *logits, mean, log_scale = jnp.split(params.astype(jnp.float32), self.outputs // self.components, axis=-1)
        if logits:  # components that start equal would stay equal: they start spread over the intensities
            mean += jnp.broadcast_to(jnp.linspace(-1.0, 1.0, self.components), mean.shape)
        log_scale = jnp.clip(log_scale - 1.0, *LOG_SCALES)
        half = 1.0 / (self.levels - 1)
        x = (2.0 * half * value - 1.0)[..., None]
        inverse = jnp.exp(-log_scale)
        upper, lower = (x + half - mean) * inverse, (x - half - mean) * inverse
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which loses no digits.
        inside = log_sigmoid(upper) + log_sigmoid(-lower) + jnp.log(-jnp.expm1(-2.0 * half * inverse))
        lowest, highest = (value == 0)[..., None], (value == self.levels - 1)[..., None]
        mass = jnp.where(lowest, log_sigmoid(upper), jnp.where(highest, log_sigmoid(-lower), inside))
        return jax.nn.logsumexp(jax.nn.log_softmax(logits[0], axis=-1) + mass, axis=-1) if logits else mass[..., 0]

    def log_probs(self, params: jax.Array) -> jax.Array:
        every = jnp.arange(self.levels).reshape(-1, *(1,) * (params.ndim - 1))
        value = jnp.broadcast_to(every, (self.levels, *params.shape[:-1]))
        return jnp.moveaxis(self.log_prob(jnp.broadcast_to(params, (self.levels, *params.shape)), value), 0, -1)

    def mean(self, params: jax.Array) -> jax.Array:
        return _mean(self.log_probs(params), self.levels)


def invert_cdf(log_probs: jax.Array, uniform: jax.Array) -> jax.Array:
    """The value that a uniform number in [0, 1) falls on, [..., levels] and [...] -> int32 [...]."""
    below = jnp.cumsum(jnp.exp(log_probs), axis=-1)
    return jnp.minimum((below <= uniform[..., None]).sum(-1), log_probs.shape[-1] - 1).astype(jnp.int32)


def _mean(log_probs: jax.Array, levels: int) -> jax.Array:
    intensity = dequantize(jnp.arange(levels), levels)
    return jnp.exp(log_probs) @ intensity
