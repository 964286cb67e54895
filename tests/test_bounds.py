"""Bounds on the likelihood: against the exact one where there is one, and against each other where there is not."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call, first_state
from fit import dataset, experiment
from flax import nnx

from aecli.core.gaussian import Gaussian, standard_normal_log_prob
from aecli.core.learner import Recipe
from aecli.core.model import Batch, Spec
from aecli.core.optimizer import Optimizer
from aecli.core.prior import Flow
from aecli.evaluation.importance import importance_sampled
from aecli.nets.coupling import CouplingFlow

SIGMA = 0.3


def probabilistic_pca(inflate: float) -> tuple[Any, Any, Batch, Any]:
    """A linear VAE whose p(x) is known: x = W z + b + sigma e with orthogonal columns of W, so that the exact posterior is
    diagonal. The encoder gives it, its standard deviations times `inflate`."""
    model = experiment("variant: vae, net: linear, latent: 3, likelihood: gaussian, sigma: 0.3").model
    spec = Spec(4, 4, 1, 0)
    state = first_state(model, spec, Recipe(Optimizer(), 10))
    generator = np.random.default_rng(0)
    q, _ = np.linalg.qr(generator.standard_normal((16, 3)))
    w, b = q * np.array([1.5, 1.0, 0.4]), generator.uniform(0, 1, 16)
    precision = (w**2).sum(0) / SIGMA**2 + 1
    kernel = w / SIGMA**2 / precision
    params = jax.tree.map(lambda x: x, state.params)

    def put(layer: Any, weights: Any, bias: Any) -> None:
        layer["kernel"][...], layer["bias"][...] = jnp.asarray(weights, jnp.float32), jnp.asarray(bias, jnp.float32)

    put(params["decoder"]["mlp"]["layers"][0], w.T, b)
    log_sigma = np.log(inflate) - 0.5 * np.log(precision)
    put(
        params["encoder"]["mlp"]["layers"][0],
        np.concatenate([kernel, np.zeros((16, 3))], axis=1),
        np.concatenate([-b @ kernel, log_sigma]),
    )
    x = generator.standard_normal((64, 3)) @ w.T + b + SIGMA * generator.standard_normal((64, 16))
    covariance = w @ w.T + SIGMA**2 * np.eye(16)
    centred = x - b
    exact = -0.5 * (
        (centred @ np.linalg.inv(covariance) * centred).sum(1) + np.linalg.slogdet(covariance)[1] + 16 * np.log(2 * np.pi)
    )
    batch = Batch(jnp.asarray(x.reshape(64, 4, 4, 1), jnp.float32), jnp.zeros(64, jnp.int32), jnp.ones(64, bool))
    return model, dataclasses.replace(state, params=params), batch, exact


def test_with_the_exact_posterior_every_weight_is_the_marginal_likelihood() -> None:
    model, state, batch, exact = probabilistic_pca(1.0)
    weights = jax.jit(lambda: model.log_weights(state, batch, jax.random.key(0), 4))()
    assert weights.shape == (4, 64) and np.allclose(weights, exact[None], atol=1e-3)
    assert call(model, "evaluate", state, batch, jax.random.key(1))["loss"].mean() == pytest.approx(-exact.mean(), abs=0.3)


def test_importance_sampling_closes_the_gap_of_a_wrong_posterior() -> None:
    model, state, batch, exact = probabilistic_pca(1.5)
    elbo = np.mean([call(model, "evaluate", state, batch, jax.random.key(i))["loss"].mean() for i in range(20)])
    found = importance_sampled(model, state, batch, jax.random.key(0), jnp.int32(2000))["nll_nats"]
    error = float(jnp.std(found + exact) / 8)
    assert elbo > -exact.mean() + 0.5
    assert abs(float(found.mean()) + exact.mean()) < 2 * error + 0.01


@pytest.mark.parametrize("text", ["variant: vae, hidden: [12], latent: 4", "variant: hvae, hidden: 12, latent: 4"])
def test_the_bound_rises_with_the_samples_and_is_the_elbo_at_one(text: str) -> None:
    model: Any = experiment(text).model
    rows = dataset().train
    batch = Batch(jnp.asarray(rows.images / np.float32(255)), jnp.asarray(rows.labels), jnp.ones(48, bool))
    state = first_state(model, dataset().spec, Recipe(Optimizer(), 10))
    state = jax.tree.map(
        lambda x: np.float32(1.3) * np.asarray(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )  # off the prior
    keys = jax.random.split(jax.random.key(1), 300)

    def bound(k: int, keys: jax.Array) -> Any:
        weights = jax.jit(jax.vmap(lambda key: model.log_weights(state, batch, key, k)))(keys)
        return np.asarray(jax.nn.logsumexp(weights, axis=1) - jnp.log(k)).mean(1)

    one, five, fifty = bound(1, keys), bound(5, keys), bound(50, keys[:60])
    assert one.mean() < five.mean() < fifty.mean()
    elbo = -np.asarray(jax.jit(jax.vmap(lambda key: model.evaluate(state, batch, key)["loss"]))(keys)).mean(1)
    spread = np.sqrt((one.var() + elbo.var()) / len(keys))
    assert abs(one.mean() - elbo.mean()) < 4 * spread
    trained = model.model_copy(update={"samples": 5})
    assert -float(call(trained, "evaluate", state, batch, keys[0])["loss"].mean()) == pytest.approx(
        five.mean(), abs=6 * float(five.std())
    )


def test_kl_between_gaussians_is_the_closed_form_and_what_samples_say() -> None:
    a = Gaussian(jnp.array([[0.3, -1.0]]), jnp.array([[0.2, -0.5]]))
    b = Gaussian(jnp.array([[0.0, 0.5]]), jnp.array([[-0.1, 0.4]]))
    assert jnp.allclose(a.kl_to(a), 0) and jnp.allclose(
        a.kl_to(Gaussian(jnp.zeros((1, 2)), jnp.zeros((1, 2)))), a.kl_to_standard_normal()
    )
    many = a.repeat(200_000)
    z = many.sample(jax.random.key(0))
    drawn = (many.log_prob(z) - b.repeat(200_000).log_prob(z)).mean()
    assert float(a.kl_to(b).sum()) == pytest.approx(float(drawn), rel=0.02)


def test_a_mixture_of_one_is_that_gaussian_and_of_equals_too() -> None:
    one = Gaussian(jnp.array([[0.3, -1.0]]), jnp.array([[0.2, -0.5]]))
    z = jax.random.normal(jax.random.key(0), (7, 2))
    alone = Gaussian(*(jnp.broadcast_to(x, (7, 2)) for x in one)).log_prob(z)
    assert jnp.allclose(one.mixture_log_prob(z), alone, atol=1e-4)
    assert jnp.allclose(one.repeat(5).mixture_log_prob(z), alone, atol=1e-4)
    standard = Gaussian(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    assert jnp.allclose(standard.mixture_log_prob(z), standard_normal_log_prob(z), atol=1e-5)


def test_the_variances_of_a_hierarchical_vae_are_bounded_whatever_its_weights_say() -> None:
    model: Any = experiment("variant: hvae, hidden: 12, latent: 4").model
    state = first_state(model, dataset().spec, Recipe(Optimizer(), 10))
    wild = jax.tree.map(lambda x: 1e3 * np.asarray(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
    image = jnp.asarray(dataset().train.images[:8] / np.float32(255))

    @jax.jit
    def gaussians(state: Any) -> Any:
        seen = state.net.seen(image, jnp.zeros(8, jnp.int32))
        z2 = state.net.posterior_z2(seen)
        return z2, state.net.posterior_z1(seen, z2.mean), state.net.prior_z1(z2.mean)

    for gaussian in gaussians(wild):
        assert float(gaussian.log_sigma.min()) == -3 and float(gaussian.log_sigma.max()) == 1


def flow(latent: int, couplings: int) -> CouplingFlow:
    made = CouplingFlow(latent, couplings, rngs=nnx.Rngs(0))
    assert jnp.array_equal(made.from_base(jnp.ones((2, latent))), jnp.ones((2, latent))), "it starts as the identity"
    keys = iter(jax.random.split(jax.random.key(1), 2 * couplings))
    for coupling in made.couplings:
        for leaf in (coupling.last.kernel, coupling.last.bias):
            leaf[...] = 0.2 * jax.random.normal(next(keys), leaf[...].shape)
    return made


@pytest.mark.parametrize("latent", [2, 3])
def test_couplings_are_inverted_and_their_determinant_is_that_of_the_derivative(latent: int) -> None:
    made = flow(latent, 3)
    code = 2 * jax.random.normal(jax.random.key(2), (20, latent))
    base, log_det = made.to_base(code)
    assert jnp.allclose(made.from_base(base), code, atol=1e-4) and float(jnp.abs(base - code).max()) > 0.1
    derivative = jax.vmap(jax.jacfwd(lambda one: made.to_base(one[None])[0][0]))(code)
    assert jnp.allclose(log_det, jnp.linalg.slogdet(derivative)[1], atol=1e-4)


def test_the_density_of_a_flow_is_one_in_all_and_that_of_its_draws() -> None:
    prior = Flow(flow(2, 4), 2)
    axis = jnp.linspace(-12, 12, 481)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = jnp.exp(prior.log_prob(grid))
    mass = float(density.sum()) * (24 / 480) ** 2
    assert mass == pytest.approx(1, abs=1e-3)
    drawn = prior.sample(jax.random.key(0), 20_000)
    mean = (density[:, None] * grid).sum(0) / density.sum()
    assert jnp.allclose(drawn.mean(0), mean, atol=0.03) and float(jnp.abs(mean).max()) > 0.05
    inside = float(((grid**2).sum(1) < 2) @ density) / float(density.sum())
    assert float(((drawn**2).sum(1) < 2).mean()) == pytest.approx(inside, abs=0.02)
    assert float(prior.sample(jax.random.key(0), 500, 0.0).std(0).max()) < 1e-6


@pytest.mark.parametrize("text", ["variant: vae, hidden: [12], latent: 4", "variant: hvae, hidden: 12, latent: 4"])
def test_samples_from_a_step_on_train_on_the_elbo_before_it(text: str) -> None:
    many: Any = experiment(f"{text}, samples: 5").model
    one, later = (many.model_copy(update=change) for change in ({"samples": 1}, {"samples_from": 3}))
    rows = dataset().train
    batch = Batch(jnp.asarray(rows.images / np.float32(255)), jnp.asarray(rows.labels), jnp.ones(48, bool))
    net = first_state(many, dataset().spec, Recipe(Optimizer(), 10)).net

    def loss(model: Any, step: int | None) -> Any:
        taken = None if step is None else jnp.int32(step)
        return np.asarray(jax.jit(lambda: model.loss(net, batch, jax.random.key(0), taken)["loss"])())

    assert np.allclose(loss(later, 2), loss(one, 2), atol=1e-3) and np.allclose(loss(later, 3), loss(many, 3), atol=1e-3)
    assert np.allclose(loss(later, None), loss(many, None), atol=1e-3) and not np.allclose(loss(one, 2), loss(many, 2), atol=0.1)
