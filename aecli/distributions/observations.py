"""Observation models p(x | ...): negative log-likelihoods in nats, summed over the dimensions of an image.

Outputs of a network may be bfloat16; everything here is computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import log, pi
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from aecli.core.model import Objection, Spec
from aecli.distributions.discrete import Discrete, quantize
from aecli.distributions.softplus import softplus


def bernoulli_nll(logits: jax.Array, image: jax.Array) -> jax.Array:
    """-log Bernoulli(image; sigmoid(logits)), [B, H, W, C] twice -> [B] nats. Of gray images this is a cross-entropy (BCE)
    and no likelihood; its least value is then the sum of the entropies H(Bernoulli(image)), not 0."""
    logits = logits.astype(jnp.float32)
    return (softplus(logits) - image * logits).sum(axis=(1, 2, 3))


def gaussian_nll(mean: jax.Array, image: jax.Array, log_sigma: jax.Array) -> jax.Array:
    """-log N(image; mean, sigma^2), [B, H, W, C] twice and a scalar or as many sigmas -> [B] nats: a density over the
    reals, where pixels are in [0, 1]."""
    z = (image - mean.astype(jnp.float32)) * jnp.exp(-log_sigma)
    return (0.5 * z**2 + log_sigma + 0.5 * log(2 * pi)).sum(axis=(1, 2, 3))


def squared_error(mean: jax.Array, image: jax.Array) -> jax.Array:
    """Half the summed squared error, [B]: in nats, a Gaussian of sigma 1 without its constant."""
    return 0.5 * ((image - mean.astype(jnp.float32)) ** 2).sum(axis=(1, 2, 3))


Output = Literal["linear", "sigmoid"]


def image_of(output: jax.Array, kind: Output) -> jax.Array:
    """What a network's output y stands for as an image, float32: y itself, or sigmoid(4 (y - 1/2)), which lies in (0, 1) and has
    the slope 1 in the middle. Where half of the pixels are exactly 0 or 1, a linear output has to learn to meet these values, a
    bounded one to be large."""
    output = output.astype(jnp.float32)
    return output if kind == "linear" else jax.nn.sigmoid(4 * output - 2)


def mse(reconstruction: jax.Array, image: jax.Array) -> jax.Array:
    """Squared error averaged over the dimensions of each image, [B, H, W, C] twice -> [B]."""
    return ((image - reconstruction.astype(jnp.float32)) ** 2).mean(axis=(1, 2, 3))


class Observation(Protocol):
    """A factorised p(x | z), given a network's numbers [B, H, W, C, outputs] for every dimension of x."""

    @property
    def outputs(self) -> int: ...

    @property
    def support(self) -> int | None:
        """How many levels a value of x may have; None for a density."""
        ...

    def nll(self, params: jax.Array, image: jax.Array) -> jax.Array:
        """-log p(image | params), [B] nats."""
        ...

    def mean(self, params: jax.Array) -> jax.Array:
        """The expected image, [B, H, W, C], in [0, 1] where intensities are."""
        ...


class Bernoulli(NamedTuple):
    """By a logit."""

    @property
    def outputs(self) -> int:
        return 1

    @property
    def support(self) -> int | None:
        return 2

    def nll(self, params: jax.Array, image: jax.Array) -> jax.Array:
        return bernoulli_nll(params[..., 0], image)

    def mean(self, params: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(params[..., 0].astype(jnp.float32))


class GaussianPixels(NamedTuple):
    """By a mean, at a given sigma; where that is None, by a mean and the logarithm of a sigma (bounded below, since the density
    of a constant pixel has no upper bound). `bounded`: whether it is of intensities in [0, 1], which its mean is then clipped
    to."""

    log_sigma: jax.Array | None
    bounded: bool = True

    FINEST = log(1 / 255)

    @property
    def outputs(self) -> int:
        return 2 if self.log_sigma is None else 1

    @property
    def support(self) -> int | None:
        return None

    def nll(self, params: jax.Array, image: jax.Array) -> jax.Array:
        if self.log_sigma is not None:
            return gaussian_nll(params[..., 0], image, self.log_sigma)
        # Sigma starts at exp(-1.4), about the spread of pixels in [0, 1].
        return gaussian_nll(params[..., 0], image, jnp.maximum(params[..., 1].astype(jnp.float32) - 1.4, self.FINEST))

    def mean(self, params: jax.Array) -> jax.Array:
        mean = params[..., 0].astype(jnp.float32)
        return jnp.clip(mean, 0.0, 1.0) if self.bounded else mean


class Discretized(NamedTuple):
    """By a distribution over the 256 intensities of 8 bit: exact, in nats of a probability."""

    family: Discrete

    @property
    def outputs(self) -> int:
        return self.family.outputs

    @property
    def support(self) -> int | None:
        return 256

    def nll(self, params: jax.Array, image: jax.Array) -> jax.Array:
        return -self.family.log_prob(params, quantize(image, 256)).sum(axis=(1, 2, 3))

    def mean(self, params: jax.Array) -> jax.Array:
        return self.family.mean(params)


def gray_only(spec: Spec) -> Iterable[Objection]:
    """What a model of one bit per pixel says of colour."""
    if spec.channels != 1:
        message = "bernoulli is a likelihood of binary pixels, and the images are in colour"
        yield Objection("likelihood", message, "set likelihood: gaussian, or data.channels: 1")
