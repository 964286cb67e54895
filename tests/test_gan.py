"""The two players of a GAN, and spectral normalization."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call
from fit import dataset, experiment, subject

from aecli.core.learner import Recipe
from aecli.core.model import Batch
from aecli.core.optimizer import Optimizer
from aecli.evaluation.evaluators import objective
from aecli.models.gan import GAN
from aecli.nets import spectral


def start(text: str = "") -> tuple[GAN, Any, Batch]:
    model = experiment(f"variant: gan, hidden: [4, 6], latent: 5{text}").model
    assert isinstance(model, GAN)
    rows = dataset().train
    batch = Batch(jnp.asarray(rows.images[:16] / np.float32(255)), jnp.asarray(rows.labels[:16]), jnp.ones(16, bool))
    recipe = Recipe(Optimizer(learning_rate=1e-3, b1=0.0), 100)
    return model, jax.jit(model.init, static_argnums=(1, 2))(jax.random.key(0), dataset().spec, recipe), batch


@partial(jax.jit, static_argnames=("model",))
def step(model: GAN, state: Any, batch: Batch, key: jax.Array) -> Any:
    return model.train_step(state, batch, key)


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_every_kernel_of_a_normalized_discriminator_has_norm_1() -> None:
    model, state, batch = start()

    @jax.jit
    def divided(state: Any) -> list[jax.Array]:
        net = state.discriminator.current
        spectral.divide(net, state.vectors)
        return [kernel[...] for kernel in (net.convs[0].kernel, net.convs[1].kernel, net.last.kernel)]

    for i in range(30):
        for kernel in divided(state):
            matrix = np.asarray(kernel).reshape(-1, kernel.shape[-1])
            assert np.linalg.svd(matrix, compute_uv=False)[0] == pytest.approx(1, abs=0.01)
        state, _ = step(model, state, batch, jax.random.key(i))


def test_the_discriminators_step_leaves_the_generator_and_the_reverse() -> None:
    model, state, batch = start(", discriminator_steps: 2")
    first, _ = step(model, state, batch, jax.random.key(0))
    assert same(first.generator, state.generator) and not same(first.discriminator.params, state.discriminator.params)
    second, _ = step(model, first, batch, jax.random.key(1))
    assert not same(second.generator.params, first.generator.params)
    # A discriminator that cannot move, because its rate is too small to be told from 0, is not moved by the generator's step.
    model, state, batch = start(", discriminator_rate: 1e-30")
    after, _ = step(model, state, batch, jax.random.key(0))
    for old, new in zip(*(jax.tree.leaves(s.discriminator.params) for s in (state, after)), strict=True):
        assert np.abs(np.asarray(new) - np.asarray(old)).max() < 1e-29
    assert not same(after.generator.params, state.generator.params)


def test_the_losses_are_those_of_the_papers() -> None:
    model, state, batch = start(", objective: non_saturating, spectral_norm: false")
    zero = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.discriminator.params)  # a discriminator that knows nothing
    for name, discriminator, generator in (("non_saturating", 2 * np.log(2), np.log(2)), ("hinge", 2, 0), ("wgan_gp", 10, 0)):
        of = model.model_copy(update={"objective": name})
        _, values = step(of, still(state, zero), batch, jax.random.key(0))
        assert jnp.allclose(values["loss"], discriminator, atol=1e-4), name
        assert jnp.allclose(values["generator_loss"], generator, atol=1e-4), name


def still(state: Any, params: Any) -> Any:
    """With a discriminator of these parameters, whose rate is too small to move it."""
    recipe = Recipe(Optimizer(learning_rate=1e-30, b1=0.0), 100)
    return dataclasses.replace(state, discriminator=dataclasses.replace(state.discriminator, params=params, recipe=recipe))


def test_r1_is_the_squared_gradient_at_real_images() -> None:
    model, state, batch = start(", objective: non_saturating, spectral_norm: false")
    state = still(state, state.discriminator.params)
    _, plain = step(model, state, batch, jax.random.key(0))
    _, more = step(model.model_copy(update={"r1": 3.0}), state, batch, jax.random.key(0))
    net = state.discriminator.current
    slope = jax.jit(jax.grad(lambda x: net(x, jnp.zeros((16, 0))).sum()))(batch.image)
    assert jnp.allclose(more["loss"] - plain["loss"], 1.5 * (slope**2).sum(axis=(1, 2, 3)), rtol=1e-3, atol=1e-6)


def test_the_energy_score_is_a_distance_of_images_and_no_number_of_nats() -> None:
    model, state, _ = start()
    loss = objective.measure(subject(model, state, dataset())).metrics["loss"]
    assert (loss.unit, loss.better) == ("intensity", "lower")


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_schedule_of_a_generator_that_moves_every_fifth_step_ends_with_the_run(schedule: Any) -> None:
    model = start(", discriminator_steps: 5")[0]
    optimizer = Optimizer(learning_rate=1e-3, schedule=schedule, warmup=10)
    state = model.init(jax.random.key(0), dataset().spec, Recipe(optimizer, 50))
    recipe = state.generator.recipe
    rate = recipe.optimizer.learning_rate_at(recipe.steps)
    assert float(rate(2)) == pytest.approx(1e-3) and float(rate(1)) == pytest.approx(5e-4), "after 10 and 5 steps of the run"
    assert float(rate(10)) == 0 and float(rate(9)) > 0, "of 50 steps it moves in ten"
    assert state.discriminator.recipe.steps == 50 and state.discriminator.recipe.optimizer.warmup == 10


def test_the_energy_score_is_least_for_the_true_distribution() -> None:
    """Of many images that are themselves draws, against a shifted generator: what evaluation minimizes is a proper score."""
    model, state, _ = start()
    label = jnp.zeros(256, jnp.int32)
    made, others = (call(model, "sample", state, jax.random.key(seed), label) for seed in (5, 7))
    shifted = jnp.clip(made + 0.2 * (made - others.mean(axis=0, keepdims=True)) + 0.1, 0, 1)
    true, wrong = (
        call(model, "evaluate", state, Batch(image, label, label == 0), jax.random.key(6))["loss"].mean()
        for image in (made, shifted)
    )
    assert wrong > true
