"""Likelihoods over levels are probabilities, and levels are what they say."""

from __future__ import annotations

from functools import partial
from math import log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aecli.distributions.discrete import Categorical, Discrete, LogisticMixture, dequantize, invert_cdf, quantize
from aecli.distributions.observations import Discretized, GaussianPixels

OF_TWO = [Categorical(levels=2), LogisticMixture(levels=2, components=1), LogisticMixture(levels=2, components=3)]
FAMILIES = [
    *OF_TWO,
    Categorical(levels=256),
    LogisticMixture(levels=256, components=1),
    LogisticMixture(levels=256, components=4),
    LogisticMixture(levels=8, components=2),
]


def params(family: Discrete, scale: float) -> jax.Array:
    return scale * jax.random.normal(jax.random.key(0), (50, family.outputs))


@partial(jax.jit, static_argnames=("family",))
def log_probs(family: Discrete, drawn: jax.Array) -> jax.Array:
    return family.log_probs(drawn)


@partial(jax.jit, static_argnames=("family",))
def log_prob(family: Discrete, drawn: jax.Array, value: jax.Array) -> jax.Array:
    return family.log_prob(drawn, value)


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_the_probabilities_of_all_levels_sum_to_one(family: Discrete, scale: float) -> None:
    every = log_probs(family, params(family, scale))
    assert every.shape == (50, family.levels)
    assert np.allclose(np.exp(np.asarray(every, np.float64)).sum(1), 1, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_one_level_has_the_probability_that_it_has_among_all(family: Discrete) -> None:
    value = jax.random.randint(jax.random.key(1), (50,), 0, family.levels)
    drawn = params(family, 3.0)
    among = np.take_along_axis(np.asarray(log_probs(family, drawn)), np.asarray(value)[:, None], 1)[:, 0]
    assert np.allclose(log_prob(family, drawn, value), among, atol=1e-5)


@pytest.mark.parametrize("family", OF_TWO, ids=str)
def test_a_value_between_two_levels_is_an_expectation_over_them(family: Discrete) -> None:
    drawn, p = params(family, 3.0), jnp.linspace(0, 1, 50)
    lower, higher = np.asarray(log_probs(family, drawn)).T
    assert np.allclose(log_prob(family, drawn, p), (1 - p) * lower + p * higher, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_gradients_are_finite_even_for_hopeless_parameters(family: Discrete) -> None:
    value = jnp.zeros(50, jnp.int32)
    gradient = jax.jit(jax.grad(lambda p: family.log_prob(p, value).sum()))(params(family, 100.0))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_equal_logits_cost_log_levels(levels: int) -> None:
    family = Categorical(levels=levels)
    nll = -log_prob(family, jnp.zeros((3, family.outputs)), jnp.array([0, 1, levels - 1]))
    assert jnp.allclose(nll, log(levels))


def test_a_logistic_is_the_difference_of_its_distribution_function() -> None:
    """In float64, where the plain difference still has digits."""
    family, drawn = LogisticMixture(levels=256, components=1), params(LogisticMixture(levels=256, components=1), 1.0)
    mean, scale = np.asarray(drawn[:, 0], np.float64), np.exp(np.asarray(drawn[:, 1], np.float64) - 1)
    edges = (np.arange(257) * 2 - 256) / 255
    edges[0], edges[-1] = -np.inf, np.inf
    with np.errstate(over="ignore"):
        below = 1 / (1 + np.exp(-(edges[None] - mean[:, None]) / scale[:, None]))
    assert np.allclose(np.exp(np.asarray(log_probs(family, drawn), np.float64)), np.diff(below), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("levels", [2, 4, 16, 256])
def test_levels_are_of_equal_width_and_come_back(levels: int) -> None:
    every = jnp.arange(256) / 255
    value = quantize(every, levels)
    assert np.bincount(value).tolist() == [256 // levels] * levels
    assert jnp.array_equal(quantize(dequantize(jnp.arange(levels), levels), levels), jnp.arange(levels))


def test_uniform_numbers_fall_on_levels_as_often_as_these_are_likely() -> None:
    p = jnp.array([0.1, 0.0, 0.6, 0.3])
    drawn = invert_cdf(jnp.broadcast_to(jnp.log(p), (10_000, 4)), (jnp.arange(10_000) + 0.5) / 10_000)
    assert np.bincount(drawn, minlength=4).tolist() == [1000, 0, 6000, 3000]


def test_eight_bit_pixels_cost_eight_bits_when_nothing_is_known() -> None:
    image = jax.random.uniform(jax.random.key(0), (3, 4, 4, 2))
    nll = Discretized(Categorical(levels=256)).nll(jnp.zeros((3, 4, 4, 2, 256)), image)
    assert jnp.allclose(nll, 32 * log(256))


def test_a_predicted_sigma_is_the_gaussian_density_of_every_pixel() -> None:
    image, drawn = jax.random.uniform(jax.random.key(0), (3, 4, 4, 1)), jax.random.normal(jax.random.key(1), (3, 4, 4, 1, 2))
    mean, sigma = np.asarray(drawn[..., 0]), np.exp(np.asarray(drawn[..., 1]) - 1.4)
    expected = (0.5 * ((np.asarray(image) - mean) / sigma) ** 2 + np.log(sigma) + 0.5 * np.log(2 * np.pi)).sum((1, 2, 3))
    assert np.allclose(GaussianPixels(None).nll(drawn, image), expected, rtol=1e-4)
