"""The hierarchical VAE given a label: a distribution over images for each, by codes that know nothing of it."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call
from fit import experiment

from aecli.core.learner import Recipe
from aecli.core.model import Batch, Spec
from aecli.core.optimizer import Optimizer

PRIORS = [
    "prior: standard",
    "prior: vamp, pseudo_inputs: 3",
    "prior: mog, components: 3",
    "prior: flow, couplings: 2",
]
SPEC = Spec(2, 2, 1, 2)


def built(settings: str) -> tuple[Any, Any]:
    """A model with random weights, none of them 0, those of the decoder larger: labels change much, and posteriors are not so far
    from the prior that importance samples are few."""
    model = experiment(f"variant: hvae, hidden: 6, latent: 2, conditional: true, {settings}").model
    form = jax.eval_shape(lambda: model.init(jax.random.key(0), SPEC, Recipe(Optimizer(), 10)))
    generator = np.random.default_rng(0)

    def noise(path: Any, leaf: Any) -> jax.Array:
        scale = 1.0 if "p_x" in jax.tree_util.keystr(path) else 0.1
        return jnp.asarray(scale * generator.standard_normal(leaf.shape), leaf.dtype)

    return model, jax.tree_util.tree_map_with_path(noise, form)


def every_image() -> Batch:
    """All 16 binary ones, given the first label and then given the second."""
    images = np.array(list(itertools.product((0, 1), repeat=4)), np.float32).reshape(16, 2, 2, 1)
    return Batch(jnp.asarray(np.concatenate([images, images])), jnp.repeat(jnp.arange(2), 16), jnp.ones(32, bool))


@pytest.mark.parametrize("settings", PRIORS)
def test_importance_samples_find_the_probability_of_each_image_given_a_label(settings: str) -> None:
    """It is the mean of p(x | y, z) over codes from the prior; of all images it is 1 together."""
    model, state = built(settings)
    batch, n = every_image(), 20_000
    weights = np.exp(np.asarray(jax.jit(lambda: model.log_weights(state, batch, jax.random.key(1), n))(), np.float64))
    error = np.sqrt((weights.var(axis=0) / n).reshape(2, 16).sum(axis=1))
    found = weights.mean(axis=0).reshape(2, 16)
    assert (error < 0.01).all() and (np.abs(found.sum(axis=1) - 1) < 5 * error).all()
    images = np.asarray(batch.image)[:16].reshape(16, 4)
    for label in (0, 1):
        drawn = call(model, "sample", state, jax.random.key(2), jnp.full(n, label)).reshape(n, 1, 4)
        p = np.where(images[None] == 1, drawn, 1 - drawn).prod(axis=2).mean(axis=0)
        assert np.abs(found[label] - p).max() < 0.015
    assert np.abs(found[0] - found[1]).max() > 0.05, "a label that nothing depends on would prove nothing"


@pytest.mark.parametrize("settings", [*PRIORS, "samples: 3, samples_from: 2"])
def test_a_label_reaches_the_posteriors_and_the_decoder_and_no_prior(settings: str) -> None:
    model, state = built(settings)
    batch, key = every_image(), jax.random.key(2)
    other = batch._replace(label=1 - batch.label)
    net = state.net
    seen, told = (net.seen(each.image, each.label) for each in (batch, other))
    z = jnp.ones((32, 2))
    assert (net.posterior_z2(seen).mean != net.posterior_z2(told).mean).any(axis=1).all()
    assert (net.posterior_z1(seen, z).mean != net.posterior_z1(told, z).mean).any(axis=1).all()
    for step in (None, jnp.int32(0), jnp.int32(5)):
        ours, theirs = (jax.jit(model.loss)(net, each, key, step)["loss"] for each in (batch, other))
        assert (ours != theirs).all()
    # What is drawn for two labels by one key is decoded from the same codes.
    first, second = jax.random.split(key)
    z2 = net.prior_z2().sample(first, 32)
    code = jnp.concatenate([z2, net.prior_z1(z2).sample(second)], axis=-1)
    for label in (batch.label, other.label):
        drawn = call(model, "sample", state, key, label)
        assert np.allclose(drawn, call(model, "decode", state, code, label), atol=1e-6)
    assert not np.allclose(*(call(model, "sample", state, key, label) for label in (batch.label, other.label)))
