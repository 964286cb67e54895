"""Finite sets of codes."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call, first_state
from fit import dataset, experiment, subject

from aecli.core.learner import Recipe
from aecli.core.model import Batch
from aecli.core.optimizer import Optimizer
from aecli.evaluation.registry import quick
from aecli.models.vq import VQ
from aecli.nets.quantizers import Codebook, Scalars


@pytest.mark.parametrize("levels", [(3,), (2, 3), (8, 6, 5), (4, 4, 4)])
def test_fsq_reaches_exactly_the_product_of_its_levels(levels: tuple[int, ...]) -> None:
    scalars = Scalars(levels)
    grid = jnp.array(list(itertools.product(np.linspace(-4, 4, 41), repeat=len(levels))))
    rounded, number = scalars.round(grid), scalars.number(grid)
    assert len(np.unique(np.asarray(rounded).round(4), axis=0)) == scalars.codes == np.prod(levels)
    assert sorted(np.unique(number).tolist()) == list(range(scalars.codes))
    assert jnp.allclose(scalars.vector(number), rounded, atol=1e-6)
    assert jnp.abs(rounded).max() <= 1 + 1e-6


def test_fsq_passes_the_gradient_of_the_unrounded_value() -> None:
    gradient = jax.grad(lambda x: Scalars((5, 5)).round(x).sum())(jnp.array([0.1, -0.7]))
    assert (gradient > 0.1).all()


def test_a_codebook_finds_the_nearest_vector() -> None:
    key = jax.random.key(0)
    book = Codebook.start(key, 12, 3, 0)
    x = jax.random.normal(jax.random.key(1), (5, 4, 3))
    distance = ((np.asarray(x)[:, :, None] - np.asarray(book.vectors)) ** 2).sum(-1)
    assert np.array_equal(book.nearest(x), distance.argmin(-1))


def test_a_codebook_moves_to_the_mean_of_what_it_is_given() -> None:
    book = Codebook.start(jax.random.key(0), 3, 2, 0)
    x = jnp.array([[5.0, 1.0], [7.0, 1.0], [0.0, -2.0]])
    for _ in range(400):
        book = book.follow(x, jnp.array([1, 1, 2]), 0.95)
    assert jnp.allclose(book.vectors[1:], jnp.array([[6.0, 1.0], [0.0, -2.0]]), atol=1e-3)
    assert book.silent.tolist() == [400, 0, 0]


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 1 - 1e-7])
def test_a_code_that_is_not_used_stays_where_it_is_and_one_that_is_again_moves(decay: float) -> None:
    book = Codebook.start(jax.random.key(0), 2, 2, 0)
    follow = jax.jit(Codebook.follow, static_argnums=3)
    x, here = jnp.array([[5.0, 1.0]]), jnp.array([0])
    after = book
    for _ in range(2000):
        after = follow(after, x, here, decay)
    assert jnp.allclose(after.vectors[1], book.vectors[1], rtol=1e-3) and after.silent.tolist() == [0, 2000]
    again = follow(after, x, jnp.array([1]), decay)
    assert jnp.linalg.norm(again.vectors[1] - x[0]) < jnp.linalg.norm(after.vectors[1] - x[0]), "it follows what it is given"


def test_silent_codes_restart_at_vectors_of_the_batch_and_others_stay() -> None:
    book = Codebook.start(jax.random.key(0), 4, 2, 0)._replace(silent=jnp.array([0, 9, 10, 11]))
    x = jnp.array([[100.0, 0.0], [0.0, 100.0]])
    after = book.restart(x, jax.random.key(1), 10)
    assert jnp.array_equal(after.vectors[:2], book.vectors[:2]) and after.silent.tolist() == [0, 9, 0, 0]
    assert (jnp.abs(after.vectors[2:]).max(axis=1) == 100).all()


def test_the_rate_does_not_reach_the_encoder() -> None:
    """Two priors, one encoder: the encoder's step is the same."""
    model = experiment("variant: vq, hidden: [4], codes: 8, dimension: 2, prior_width: 4, prior_layers: 1").model
    assert isinstance(model, VQ)
    data = dataset()
    images = jnp.asarray(data.train.images[:16] / np.float32(255))
    batch = Batch(images, jnp.zeros(16, jnp.int32), jnp.ones(16, bool))
    state = first_state(model, data.spec, Recipe(Optimizer(name="sgd", b1=0.0), 10))
    step = jax.jit(model.train_step)
    plain, _ = step(state, batch, jax.random.key(0))
    params = jax.tree.map(lambda x: x, state.learner.params)
    params["prior"] = jax.tree.map(lambda x: x + 0.5, params["prior"])
    changed = dataclasses.replace(state, learner=dataclasses.replace(state.learner, params=params))
    other, _ = step(changed, batch, jax.random.key(0))
    for part in ("encoder", "decoder"):
        for a, b in zip(jax.tree.leaves(plain.learner.params[part]), jax.tree.leaves(other.learner.params[part]), strict=True):
            assert jnp.array_equal(a, b)


def test_usage_is_counted_over_the_whole_split() -> None:
    model = experiment("variant: vq, hidden: [4], codes: 8, dimension: 2, prior_width: 4, prior_layers: 1").model
    data = dataset(held_out=300)
    state = first_state(model, data.spec, Recipe(Optimizer(), 10))
    found = quick(subject(model, state, data))
    images = jnp.asarray(data.test.images / np.float32(255))
    codes = np.asarray(call(model, "codes_of", state, Batch(images, jnp.zeros(300, jnp.int32), jnp.ones(300, bool))))
    share = np.bincount(codes.ravel(), minlength=8) / codes.size
    assert found["code_usage"].value == pytest.approx((share > 0).mean())
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    assert found["code_perplexity"].value == pytest.approx(np.exp(entropy), rel=1e-6)
