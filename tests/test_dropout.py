"""Dropout: of the stated share, without bias, in the steps of a training alone."""

from __future__ import annotations

from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call, few
from fit import dataset, experiment
from flax import nnx

from aecli.core.flop import products
from aecli.core.learner import Recipe
from aecli.core.model import Batch
from aecli.core.optimizer import Optimizer
from aecli.nets import gmlp
from aecli.nets.dropout import Dropout, drop, each, in_training
from aecli.nets.mlp import GatedMlp

SPEC = dataset().spec
MODELS = {
    "made": "variant: autoregressive, net: made, levels: 2, hidden: [12, 12]",
    "pixelcnn": "variant: autoregressive, net: pixelcnn, levels: 2, width: 8, layers: 1, patch: 2",
    "gmlp": "variant: autoregressive, net: gmlp, levels: 2, width: 8, layers: 1, heads: 2, patch: 2",
    "transformer": "variant: autoregressive, net: transformer, levels: 2, width: 8, layers: 1, heads: 2, patch: 2",
    "hvae": "variant: hvae, hidden: 12, latent: 3, prior: vamp, pseudo_inputs: 5",
    "hvae-samples": "variant: hvae, hidden: 12, latent: 3, samples: 2",
}


def both(name: str) -> tuple[Any, Any, Any]:
    """A model without dropout, the same with it, and a state of either with random weights, none of them 0."""
    without, with_it = (experiment(f"{MODELS[name]}{more}").model for more in ("", ", dropout: 0.3"))
    leaves, form = jax.tree.flatten(jax.eval_shape(lambda: without.init(jax.random.key(0), SPEC, Recipe(Optimizer(ema=0.9), 10))))
    generator = np.random.default_rng(0)
    noise = [jnp.asarray(0.3 * generator.standard_normal(leaf.shape), leaf.dtype) for leaf in leaves]
    return without, with_it, jax.tree.unflatten(form, noise)


def test_a_share_is_dropped_and_the_expectation_kept() -> None:
    x = jnp.linspace(1.0, 2.0, 50)
    found = np.asarray(jax.vmap(lambda key: drop(x, Dropout(0.2, key)))(jax.random.split(jax.random.key(0), 4000)))
    assert (found == 0).mean() == pytest.approx(0.2, abs=0.005)  # five standard errors are 0.0045
    assert np.allclose(found[found != 0], np.broadcast_to(x / 0.8, found.shape)[found != 0])
    assert np.allclose(found.mean(axis=0), x, atol=0.08)  # of each number, 5 standard errors


def test_what_is_dropped_at_one_place_says_nothing_of_another() -> None:
    one, other = (drop(jnp.ones(20_000), place) == 0 for place in each(Dropout(0.5, jax.random.key(0)), 2))
    assert float((one & other).mean()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("what", ["gmlp", "gated"])
def test_a_branch_that_is_linear_after_what_is_dropped_has_the_mean_of_the_whole(what: str) -> None:
    x = jax.random.normal(jax.random.key(1), (2, 3, 8) if what == "gmlp" else (2, 8))
    net: Any = gmlp.Block(3, 8, 2, rngs=nnx.Rngs(0)) if what == "gmlp" else GatedMlp((8, 8, 4), rngs=nnx.Rngs(0))
    passes = jax.jit(jax.vmap(lambda key: net(x, Dropout(0.4, key))))(jax.random.split(jax.random.key(2), 20_000))
    error = np.asarray(passes).std(axis=0) / np.sqrt(len(passes))
    assert (np.abs(np.asarray(passes).mean(axis=0) - net(x, None)) < 5 * error).all() and (error > 0).all()


def test_at_rate_0_and_at_evaluation_the_key_stays_whole() -> None:
    key = jax.random.key(0)
    for rate, step in ((0.0, jnp.int32(3)), (0.2, None)):
        rest, dropout = in_training(rate, key, step)
        assert dropout is None and rest is key
    rest, dropout = in_training(0.2, key, jnp.int32(3))
    assert dropout is not None and len({str(jax.random.key_data(k)) for k in (key, rest, dropout.key)}) == 3


@pytest.mark.parametrize("name", MODELS)
def test_steps_alone_drop(name: str) -> None:
    """What a model with dropout measures and draws is what the one without it does, by the averaged weights too."""
    without, with_it, state = both(name)
    for ability, arguments in (
        ("evaluate", (few(), jax.random.key(1))),
        ("sample", (jax.random.key(1), jnp.zeros(4, jnp.int32))),
        ("encode", (few(),)),
    ):
        plain, dropping = (call(model, ability, state, *arguments) for model in (without, with_it))
        assert all(map(np.array_equal, jax.tree.leaves(plain), jax.tree.leaves(dropping)))
    losses = [
        np.asarray(call(model, "train_step", state, few(), jax.random.key(key))[1]["loss"])
        for model, key in ((without, 1), (with_it, 1), (with_it, 1), (with_it, 2))
    ]
    assert np.array_equal(losses[1], losses[2])
    assert (losses[0] != losses[1]).all() and (losses[1] != losses[3]).all()
    given = state, Batch.abstract(16, SPEC), jax.random.key(0)
    counted = [products(jax.make_jaxpr(model.train_step)(*given)) for model in (without, with_it)]
    assert counted[0] == counted[1] > 0, "masks are no products"


def test_every_part_of_an_hvae_drops() -> None:
    _, _, state = both("hvae")
    net, dropout = state.net, Dropout(0.3, jax.random.key(0))
    seen, z, label = few().image.reshape(16, -1), jnp.ones((16, 3)), few().label
    for part in (
        lambda d: net.posterior_z2(seen, d).mean,
        lambda d: net.posterior_z1(seen, z, d).mean,
        lambda d: net.prior_z1(z, d).mean,
        lambda d: net.prior_z2(d).components.mean,
        lambda d: net.decode(z, z, label, d),
    ):
        assert (part(dropout) != part(None)).any()


def test_labels_are_told_apart_by_one_thinned_network() -> None:
    """Where the label says nothing, both labels are as likely, whatever is dropped."""
    model: Any = experiment(f"{MODELS['gmlp']}, conditional: true, hybrid: 1.0, dropout: 0.3").model
    state = model.init(jax.random.key(0), SPEC, Recipe(Optimizer(), 10))
    net = state.net
    net.condition.kernel = nnx.Param(jnp.zeros_like(net.condition.kernel[...]))
    net.head.kernel = nnx.Param(jax.random.normal(jax.random.key(1), net.head.kernel[...].shape))
    found = model.loss(net, few(), jax.random.key(2), jnp.int32(0))
    assert np.allclose(found["confusion_nats"], log(2), rtol=1e-5)
