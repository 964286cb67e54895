"""Schedules by their values, rules by what they do to a known problem."""

from __future__ import annotations

from functools import cache
from math import prod

import jax
import jax.numpy as jnp
import optax
import pytest
from cases import CASES, named
from fit import experiment

from aecli.core.model import Spec
from aecli.core.optimizer import MUON_RMS, Optimizer, is_matrix, matrices
from aecli.runs.state import weights


@pytest.mark.parametrize(
    ("schedule", "at"),
    [("constant", [0.0, 0.05, 0.1, 0.1, 0.1]), ("linear", [0.0, 0.05, 0.1, 0.05, 0.0]), ("cosine", [0.0, 0.05, 0.1, 0.05, 0.0])],
)
def test_the_rate_rises_then_follows_its_schedule_to_the_last_step(schedule, at: list[float]) -> None:
    rate = Optimizer(learning_rate=0.1, schedule=schedule, warmup=10).learning_rate_at(110)
    for step, expected in zip([0, 5, 10, 60, 110], at, strict=True):
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)


def test_without_warmup_the_first_step_has_the_full_rate() -> None:
    assert float(Optimizer(learning_rate=0.1, schedule="cosine").learning_rate_at(10)(0)) == pytest.approx(0.1)


RULES = [("adam", (2,)), ("adamw", (2,)), ("sgd", (2,)), ("lion", (2,)), ("muon", (2,)), ("muon", (2, 3)), ("muon", (2, 2, 2, 3))]
"""A rule and the shape of what it moves: Muon has a rule of its own for matrices and convolutions."""


@pytest.mark.parametrize(("name", "shape"), RULES)
def test_every_rule_goes_downhill(name, shape: tuple[int, ...]) -> None:
    rate = 0.03 if len(shape) == 1 else 0.03 / MUON_RMS  # a matrix is moved by so much less at a rate of 1
    optimizer = Optimizer(name=name, learning_rate=rate, schedule="cosine", b1=0.9)
    rule = optimizer.build(300)
    x = {"kernel": jnp.linspace(-2.0, 3.0, prod(shape)).reshape(shape)}
    state = rule.init(x)

    @jax.jit
    def step(x, state):
        updates, state = rule.update(jax.grad(lambda x: jnp.sum(x["kernel"] ** 2))(x), state, x)
        return optax.apply_updates(x, updates), state

    for _ in range(300):
        x, state = step(x, state)
    assert float(jnp.abs(x["kernel"]).max()) < 0.5


def test_the_gradient_is_clipped_by_its_global_norm() -> None:
    rule = Optimizer(name="sgd", b1=0.0, learning_rate=1.0, clip_norm=1.0).build(1)
    x = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    updates, _ = rule.update({"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}, rule.init(x), x)
    assert jnp.allclose(updates["a"], jnp.array([-0.6, 0.0])) and jnp.allclose(updates["b"], jnp.array([-0.8]))


@pytest.mark.parametrize(("name", "shape"), [rule for rule in RULES if rule[0] != "adam"])
def test_weight_decay_pulls_towards_zero_without_a_gradient(name, shape: tuple[int, ...]) -> None:
    rule = Optimizer(name=name, learning_rate=0.1, weight_decay=0.5).build(10)
    x = {"kernel": jnp.full(shape, 2.0)}
    updates, _ = rule.update({"kernel": jnp.zeros(shape)}, rule.init(x), x)
    assert jnp.allclose(updates["kernel"], -0.1)


@cache
def state_shapes(text: str) -> dict[str, int]:
    e = experiment(text)
    shapes = jax.eval_shape(lambda: e.model.init(jax.random.key(0), Spec(8, 8, 1, 10), e.recipe(48)))
    return {path.removesuffix("/value"): axes for path, axes in weights(shapes).items()}


MOVED = {
    "bottleneck-conv": {"decoder/convs/0/kernel", "decoder/convs/1/kernel", "decoder/input/kernel"}
    | {"encoder/convs/0/kernel", "encoder/convs/1/kernel", "encoder/out/kernel"},
    "autoregressive-made": {"condition/kernel", "direct", "kernels/0", "kernels/1", "out"},
    "sparse": {"kernel", "rows"},
}
"""The parameters of a case that are matrices, spelled out."""


@pytest.mark.parametrize(("name", "paths"), MOVED.items(), ids=MOVED)
def test_matrices_are_what_layers_multiply_with(name: str, paths: set[str]) -> None:
    (text,) = (case.text for case in CASES if case.name == name)
    shapes = state_shapes(text)
    assert {path for path, axes in shapes.items() if is_matrix(path, axes)} == paths


@pytest.mark.parametrize("text", named(CASES))
def test_no_parameter_with_a_bias_for_a_name_is_a_matrix(text: str) -> None:
    """Whatever a network calls its parameters, what is added and what is looked up is named as a table."""
    names = {path.split("/")[-1] for path, axes in state_shapes(text).items() if is_matrix(path, axes)}
    assert names <= {"kernel", "outer", "inner", "rows", "out", "direct", "0", "1"}


def moved(kernel: jax.Array, gradient: jax.Array, name: str = "kernel") -> jax.Array:
    """What Muon adds in its first step, at a learning rate of 1."""
    rule = Optimizer(name="muon", learning_rate=1.0).build(1)
    params = {"layer": {name: kernel}}
    return rule.update({"layer": {name: gradient}}, rule.init(params), params)[0]["layer"][name]


def test_muon_moves_a_convolution_as_the_matrix_that_it_is() -> None:
    gradient = jax.random.normal(jax.random.key(0), (3, 3, 16, 24))
    of_kernel = moved(jnp.zeros((3, 3, 16, 24)), gradient)
    of_matrix = moved(jnp.zeros((144, 24)), gradient.reshape(144, 24))
    assert jnp.allclose(of_kernel.reshape(144, 24), of_matrix, rtol=1e-4, atol=1e-6)
    # Nearly orthogonal, and as large as the paper says: singular values are near 0.2 sqrt(144).
    singular = jnp.linalg.svd(of_matrix, compute_uv=False) / (MUON_RMS * 12)
    assert float(singular.min()) > 0.6 and float(singular.max()) < 1.3


@pytest.mark.parametrize(
    ("name", "shape"), [("bias", (5, 7)), ("place", (2, 3, 3, 4)), ("kernel", (4, 5, 6)), ("mix", (2, 3, 3)), ("mean", (5, 7))]
)
def test_tables_and_stacks_are_no_matrices(name: str, shape: tuple[int, ...]) -> None:
    gradient = jax.random.normal(jax.random.key(0), shape)
    rule = Optimizer(name="muon", learning_rate=1.0).build(1)
    adam = optax.adam(1.0, nesterov=True)
    assert matrices({name: gradient}) == {name: None}
    params = {"layer": {name: jnp.zeros(shape)}, "out": {"kernel": jnp.zeros((2, 2))}}
    slope = {"layer": {name: gradient}, "out": {"kernel": jnp.ones((2, 2))}}
    updates, _ = rule.update(slope, rule.init(params), params)
    expected, _ = adam.update(slope, adam.init(params), params)
    assert jnp.allclose(updates["layer"][name], expected["layer"][name], rtol=1e-5)
