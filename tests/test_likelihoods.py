"""Likelihoods and posteriors against closed forms and brute force."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aecli.core.gaussian import Gaussian
from aecli.distributions.observations import bernoulli_nll, gaussian_nll, image_of, mse, squared_error
from aecli.distributions.softplus import log_sigmoid, softplus


def test_bernoulli_probabilities_of_all_binary_images_sum_to_one() -> None:
    images = jnp.array(list(product([0.0, 1.0], repeat=6))).reshape(-1, 2, 3, 1)
    logits = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (1, 2, 3, 1)) * 3, images.shape)
    assert jnp.allclose(jnp.exp(-bernoulli_nll(logits, images)).sum(), 1.0, atol=1e-5)


def test_bernoulli_of_a_gray_image_is_least_at_its_own_intensities() -> None:
    image = jax.random.uniform(jax.random.key(0), (4, 3, 3, 1), minval=0.01, maxval=0.99)
    entropy = -(image * jnp.log(image) + (1 - image) * jnp.log(1 - image)).sum((1, 2, 3))
    best = bernoulli_nll(jnp.log(image / (1 - image)), image)
    assert jnp.allclose(best, entropy, atol=1e-4)
    assert (bernoulli_nll(jnp.log(image / (1 - image)) + 0.3, image) > best).all()


def test_bernoulli_is_finite_far_out() -> None:
    logits = jnp.array([1e4, -1e4]).reshape(1, 1, 2, 1)
    assert jnp.allclose(bernoulli_nll(logits, jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)), 2e4)
    assert jnp.allclose(bernoulli_nll(logits, jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)), 0.0)


@pytest.mark.parametrize("log_sigma", [-2.0, 0.0, 0.7])
def test_a_gaussian_density_integrates_to_one(log_sigma: float) -> None:
    x = jnp.linspace(-20, 20, 40_001).reshape(-1, 1, 1, 1)
    density = jnp.exp(-gaussian_nll(jnp.full_like(x, 0.3), x, jnp.float32(log_sigma)))
    assert abs(float(jnp.trapezoid(density, dx=40 / 40_000)) - 1) < 1e-3


def test_squared_error_is_a_unit_gaussian_without_its_constant() -> None:
    key = jax.random.key(0)
    mean, image = jax.random.normal(key, (3, 4, 5, 1)), jax.random.uniform(key, (3, 4, 5, 1))
    constant = 0.5 * 20 * np.log(2 * np.pi)
    assert jnp.allclose(squared_error(mean, image) + constant, gaussian_nll(mean, image, jnp.float32(0)), rtol=1e-5)
    assert jnp.allclose(mse(mean, image) * 20 / 2, squared_error(mean, image), rtol=1e-5)


def test_sums_are_float32_whatever_the_network_computes_in() -> None:
    logits = jnp.full((1, 28, 28, 1), 0.01, jnp.bfloat16)
    image = jnp.full((1, 28, 28, 1), 0.5)
    assert bernoulli_nll(logits, image).dtype == jnp.float32
    assert jnp.allclose(bernoulli_nll(logits, image), 784 * np.log(2), rtol=1e-4)


def test_the_kl_divergence_has_its_closed_form() -> None:
    key = jax.random.key(0)
    q = Gaussian(jax.random.normal(key, (5, 3)), 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (5, 3)))
    noise = np.random.default_rng(0).standard_normal((400_000, 5, 3))
    z = np.asarray(q.mean) + np.exp(q.log_sigma) * noise
    monte_carlo = (-0.5 * noise**2 - np.asarray(q.log_sigma) + 0.5 * z**2).mean(0)
    assert jnp.allclose(q.kl_to_standard_normal(), monte_carlo, atol=0.02)
    assert (q.kl_to_standard_normal() > 0).all()


def test_the_kl_divergence_of_the_prior_itself_is_zero() -> None:
    assert jnp.array_equal(Gaussian(jnp.zeros((2, 3)), jnp.zeros((2, 3))).kl_to_standard_normal(), jnp.zeros((2, 3)))


def test_samples_have_the_mean_and_the_deviation_of_the_posterior() -> None:
    q = Gaussian(jnp.full((200_000, 1), 2.0), jnp.full((200_000, 1), jnp.log(3.0)))
    z = q.sample(jax.random.key(0))
    assert abs(float(z.mean()) - 2) < 0.03 and abs(float(z.std()) - 3) < 0.03


def test_an_output_is_split_into_means_and_log_deviations() -> None:
    q = Gaussian.from_output(jnp.arange(8.0).reshape(2, 4))
    assert jnp.array_equal(q.mean, jnp.array([[0.0, 1.0], [4.0, 5.0]]))
    assert jnp.array_equal(q.log_sigma, jnp.array([[2.0, 3.0], [6.0, 7.0]]))


def test_a_bounded_output_is_an_image_and_nearly_the_linear_one_in_the_middle() -> None:
    y = jnp.array([-3.0, 0.0, 0.45, 0.5, 0.55, 1.0, 4.0], jnp.bfloat16)
    assert jnp.array_equal(image_of(y, "linear"), y.astype(jnp.float32))
    image = image_of(y, "sigmoid")
    assert image.dtype == jnp.float32 and ((image > 0) & (image < 1)).all() and image[3] == 0.5
    assert jnp.allclose(image[2:5], y[2:5].astype(jnp.float32), atol=1e-3)


def test_softplus_equals_jaxs_in_value_gradient_and_curvature() -> None:
    x = jnp.concatenate([jnp.linspace(-20, 20, 401), jnp.array([-1e4, -200.0, 0.0, 200.0, 1e4])])
    assert jnp.allclose(softplus(x), jax.nn.softplus(x), rtol=1e-6, atol=0)
    exact = np.logaddexp(0.0, np.asarray(x, np.float64))
    assert np.allclose(softplus(x), exact, rtol=4e-7, atol=1e-38)
    assert np.allclose(log_sigmoid(x), -np.logaddexp(0.0, -np.asarray(x, np.float64)), rtol=4e-7, atol=1e-38)
    ends = softplus(jnp.array([-jnp.inf, jnp.inf, jnp.nan]))
    assert ends[0] == 0 and ends[1] == jnp.inf and jnp.isnan(ends[2])
    slope = jax.grad(softplus)
    assert jnp.allclose(jax.vmap(slope)(x), jax.nn.sigmoid(x), rtol=1e-6, atol=0)
    assert jnp.allclose(jax.vmap(jax.grad(slope))(x), jax.nn.sigmoid(x) * jax.nn.sigmoid(-x), atol=1e-7)
