"""Autoregressive models: nothing of the future, all of the probability, and the same pixels however they are computed."""

from __future__ import annotations

import dataclasses
import itertools
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call, first_state
from fit import dataset, experiment, started, subject

from aecli.core.learner import Recipe
from aecli.core.model import Batch, Spec
from aecli.core.optimizer import Optimizer
from aecli.evaluation.evaluators import completion
from aecli.models import autoregressive
from aecli.models.autoregressive import Autoregressive
from aecli.nets.dropout import Dropout

NETS = {
    "made": "net: made, hidden: [20, 20, 12]",
    "pixelcnn": "net: pixelcnn, width: 8, layers: 2",
    "gmlp": "net: gmlp, width: 8, layers: 2",
    "transformer": "net: transformer, width: 8, layers: 2",
}


def build(settings: str, spec: Spec) -> tuple[Autoregressive, Any]:
    """A model with random weights, none of them 0."""
    model = experiment(f"variant: autoregressive, {settings}").model
    assert isinstance(model, Autoregressive)
    leaves, form = jax.tree.flatten(jax.eval_shape(lambda: model.init(jax.random.key(0), spec, Recipe(Optimizer(), 100))))
    generator = np.random.default_rng(0)
    noise = [jnp.asarray(0.4 * generator.standard_normal(x.shape), x.dtype) for x in leaves]
    return model, jax.tree.unflatten(form, noise)


def batch_of(image: Any, label: int = 0) -> Batch:
    image = jnp.asarray(image, jnp.float32)
    return Batch(image, jnp.full(len(image), label), jnp.ones(len(image), bool))


@pytest.mark.parametrize("net", NETS)
def test_all_binary_3x3_images_have_probability_one_together(net: str) -> None:
    model, state = build(f"{NETS[net]}, levels: 2", Spec(3, 3, 1, 0))
    every = np.array(list(itertools.product((0, 1), repeat=9))).reshape(-1, 3, 3, 1)
    nll = call(model, "evaluate", state, batch_of(every), jax.random.key(0))["loss"]
    assert np.exp(-np.asarray(nll, np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert nll.std() > 0.1, "a model of equal probabilities would prove nothing"


@pytest.mark.parametrize(
    "settings",
    ["net: made, hidden: [20]", "width: 8, layers: 1, patch: 2", "net: gmlp, width: 8, layers: 1", "net: transformer, width: 8"],
)
def test_all_tiny_colour_images_have_probability_one_together(settings: str) -> None:
    model, state = build(f"{settings}, levels: 4", Spec(2, 2, 2, 0))
    every = np.array(list(itertools.product(range(4), repeat=8))).reshape(-1, 2, 2, 2) / 3
    nll = call(model, "evaluate", state, batch_of(every), jax.random.key(0))["loss"]
    assert np.exp(-np.asarray(nll, np.float64)).sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("settings", [*NETS.values(), "net: gmlp, width: 8, layers: 2, patch: 2"])
def test_no_parameter_depends_on_its_own_or_a_later_value(settings: str) -> None:
    """The gradient is exactly 0, and not 0 somewhere before: each value depends on every earlier one through two layers. So it
    is while some features are dropped."""
    spec = Spec(4, 4, 2, 0)
    _, state = build(f"{settings}, levels: 16", spec)
    net: Any = state.net
    layout = net.layout
    shape = (1, layout.rows, layout.columns, layout.values * layout.inputs)

    x = jax.random.normal(jax.random.key(1), (spec.size * layout.inputs,))
    for dropout in (None, Dropout(0.3, jax.random.key(2))):

        def flat(x: jax.Array, dropout: Dropout | None = dropout) -> jax.Array:
            return net(x.reshape(shape), jnp.zeros((1, 0)), dropout=dropout).reshape(spec.size, -1).sum(1)

        jacobian = jnp.abs(jax.jit(jax.jacobian(flat))(x)).reshape(spec.size, spec.size, -1).sum(-1)
        assert (jnp.triu(jacobian) == 0).all()
        seen = jnp.tril(jacobian, -1) > 0
        assert seen[-1].mean() > 0.9, "the last value sees nearly everything"


@pytest.mark.parametrize("likelihood", ["categorical", "discretized_logistic"])
def test_intensities_as_targets_are_the_same_objective_in_expectation(likelihood: str) -> None:
    """Over all draws of a gray 2x2 image, each as likely as its pixels say."""
    model, state = build(f"width: 8, layers: 1, levels: 2, likelihood: {likelihood}", Spec(2, 2, 1, 0))
    intensity = jnp.broadcast_to(jnp.array([[0.1, 0.7], [0.5, 0.9]])[None, :, :, None], (16, 2, 2, 1))
    every = jnp.array(list(itertools.product((0.0, 1.0), repeat=4))).reshape(16, 2, 2, 1)
    p = jnp.where(every == 1, intensity, 1 - intensity).prod(axis=(1, 2, 3))
    drawn, expected = (
        jax.jit(model.loss)(state.net, batch_of(every)._replace(intensity=i), jax.random.key(0), jnp.int32(0))["loss"]
        for i in (None, intensity)
    )
    assert p @ drawn == pytest.approx(float(p @ expected), rel=1e-5)
    assert float(jnp.abs(drawn - expected).max()) > 0.1


def test_the_pixelcnn_has_no_blind_spot() -> None:
    """Deep enough, the last row's first pixel sees the whole of the rows above."""
    _, state = build("width: 4, layers: 6, levels: 2", Spec(7, 7, 1, 0))
    net: Any = state.net

    def one(x: jax.Array) -> jax.Array:
        return net(x, jnp.zeros((1, 0)))[0, 6, 0].sum()

    gradient = jax.jit(jax.grad(one))(jax.random.normal(jax.random.key(0), (1, 7, 7, 1)))[0, :, :, 0]
    assert (gradient[:6] != 0).all() and (gradient[6] == 0).all()


@pytest.mark.parametrize(
    "settings",
    [
        *NETS.values(),
        "width: 8, layers: 2, patch: 2, conditional: true",
        "net: gmlp, width: 8, layers: 2, patch: 2, conditional: true",
        "net: transformer, width: 8, patch: 2, likelihood: discretized_logistic, components: 2",
        "net: made, hidden: [12], conditional: true",
    ],
)
def test_cached_and_naive_sampling_draw_the_same_pixels(settings: str) -> None:
    model, state = build(f"{settings}, levels: 16", Spec(4, 6, 2, 3))
    label = jnp.arange(20) % 3
    cached = call(model, "sample", state, jax.random.key(1), label)
    naive = call(model, "sample_naive", state, jax.random.key(1), label)
    assert jnp.array_equal(cached, naive) and len(jnp.unique(cached)) > 4


@pytest.mark.parametrize("net", ["made", "pixelcnn", "gmlp"])
def test_completion_keeps_what_is_known_and_follows_it(net: str) -> None:
    spec = Spec(4, 4, 1, 0)
    model, state = build(f"{NETS[net]}, levels: 256", spec)
    image = jax.random.uniform(jax.random.key(2), (6, 4, 4, 1))  # not on the levels, and still untouched
    known = jnp.broadcast_to((jnp.arange(4) < 2)[None, :, None, None], image.shape)
    made = call(model, "complete", state, jax.random.key(1), batch_of(image), known)
    assert jnp.array_equal(made[:, :2], image[:, :2])
    other = call(model, "complete", state, jax.random.key(1), batch_of(1 - image), known)
    assert not jnp.array_equal(made[:, 2:], other[:, 2:]), "the rest is drawn given the known half"
    nothing = call(model, "complete", state, jax.random.key(1), batch_of(image), jnp.zeros_like(known))
    assert jnp.array_equal(nothing, call(model, "sample", state, jax.random.key(1), jnp.zeros(6, jnp.int32)))
    everything = call(model, "complete", state, jax.random.key(1), batch_of(image), jnp.ones_like(known))
    assert jnp.array_equal(everything, image)


def test_samples_are_as_frequent_as_they_are_likely() -> None:
    model, state = build("width: 8, layers: 1, levels: 2", Spec(2, 2, 1, 0))
    every = np.array(list(itertools.product((0, 1), repeat=4))).reshape(-1, 2, 2, 1)
    p = np.exp(-np.asarray(call(model, "evaluate", state, batch_of(every), jax.random.key(0))["loss"]))
    n = 20_000
    drawn = call(model, "sample", state, jax.random.key(3), jnp.zeros(n, jnp.int32))
    found = np.bincount(np.asarray(drawn.reshape(n, 4)).astype(int) @ [8, 4, 2, 1], minlength=16) / n
    assert np.abs(found - p).max() < 4 * np.sqrt(0.25 / n)


def test_a_low_temperature_draws_the_likeliest_value() -> None:
    model, state = build("width: 8, layers: 1, levels: 16", Spec(3, 3, 1, 0))
    cold = [call(model, "sample", state, jax.random.key(seed), jnp.zeros(1, jnp.int32), 1e-6) for seed in range(3)]
    assert jnp.array_equal(cold[0], cold[1]) and jnp.array_equal(cold[0], cold[2])


@pytest.mark.parametrize(("net", "levels"), [("made", 2), ("pixelcnn", 256), ("gmlp", 16), ("transformer", 16)])
def test_a_fresh_model_costs_log_levels_per_value(net: str, levels: int) -> None:
    model = experiment(f"variant: autoregressive, levels: {levels}, {NETS[net]}").model
    spec = Spec(3, 3, 2, 0)
    state = first_state(model, spec, Recipe(Optimizer(), 100))
    values = call(model, "evaluate", state, batch_of(jax.random.uniform(jax.random.key(1), (4, *spec.shape))), jax.random.key(0))
    assert jnp.allclose(values["bits_per_dim"], log(levels) / log(2))
    assert jnp.allclose(values["loss"], spec.size * log(levels))


def test_a_step_in_parts_is_the_step_on_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one CPU a network of many sites trains on parts of a batch: the same gradient, and every example's value."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    spec = Spec(4, 4, 1, 3)
    model, noise = build("net: pixelcnn, width: 8, layers: 1, levels: 4, conditional: true", spec)
    state = first_state(model, spec, Recipe(Optimizer(name="sgd", learning_rate=0.1), 10))
    state = dataclasses.replace(state, params=noise.params)
    image = jax.random.uniform(jax.random.key(1), (12, 4, 4, 1))
    batch = Batch(image, jnp.arange(12, dtype=jnp.int32) % 3, jnp.ones(12, bool))
    assert model.part_size(12, spec.shape) == 12
    whole, values = jax.jit(model.train_step)(state, batch, jax.random.key(2))
    monkeypatch.setattr(autoregressive, "AT_ONCE", 5 * 16 * 8)  # five images, of which four divide the batch
    assert model.part_size(12, spec.shape) == 4
    parts, same = jax.jit(model.train_step)(state, batch, jax.random.key(2))
    for name, value in values.items():
        assert jnp.allclose(same[name], value, rtol=1e-5)
    moved = jax.tree.map(lambda new, old: float(jnp.abs(new - old).max()), whole.params, state.params)
    assert max(jax.tree.leaves(moved)) > 1e-4
    for ours, theirs in zip(jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True):
        assert jnp.allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_hybrid_term_tells_a_label_from_another_in_training_alone() -> None:
    spec = Spec(3, 3, 1, 2)
    model, state = build("net: made, hidden: [20], levels: 2, conditional: true, hybrid: 0.5", spec)
    image = (np.random.default_rng(0).random((6, 3, 3, 1)) < 0.5).astype(np.float32)
    batch = batch_of(image)._replace(label=jnp.array([0, 1, 1, 0, 1, -1]))
    other = batch._replace(label=1 - batch.label)
    nll, against = (-model.log_prob(state, each) for each in (batch, other))
    found = model.loss(state.net, batch, jax.random.key(0), jnp.int32(0))
    confusion = np.logaddexp(0.0, np.asarray(nll - against, np.float64)).copy()
    confusion[-1] = 0.0  # of an image without a label nothing can be told apart
    assert np.allclose(found["confusion_nats"], confusion, rtol=1e-5)  # of two classes the other one is the only one
    assert np.allclose(found["loss"], nll + 0.5 * confusion, rtol=1e-5)
    assert np.array_equal(model.loss(state.net, batch, jax.random.key(0), None)["loss"], nll)


def test_of_one_class_there_is_no_other_label() -> None:
    model = experiment("variant: autoregressive, conditional: true, hybrid: 0.5").model
    assert [objection.key for objection in model.objections(Spec(8, 8, 1, 1))] == ["hybrid"]
    assert not list(model.objections(Spec(8, 8, 1, 2)))


def test_other_labels_are_drawn_evenly_and_never_the_own_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, state = build("net: made, hidden: [4], levels: 2, conditional: true, hybrid: 1.0", Spec(2, 2, 1, 4))
    seen: list[Any] = []

    def nll(self: Autoregressive, net: Any, batch: Batch, dropout: Dropout | None) -> jax.Array:
        seen.append(batch.label)
        return jnp.zeros(len(batch.label))

    monkeypatch.setattr(Autoregressive, "_nll", nll)
    label = jnp.arange(4000) % 4
    model.loss(state.net, batch_of(np.zeros((4000, 2, 2, 1)))._replace(label=label), jax.random.key(0), jnp.int32(0))
    own, other = (np.asarray(each) for each in seen)
    assert (own != other).all()
    counts = np.array([[((own == a) & (other == b)).sum() for b in range(4)] for a in range(4)])
    assert (counts[~np.eye(4, dtype=bool)] > 270).all()


@pytest.mark.parametrize(
    ("settings", "shape"), [("net: made, hidden: [20]", (4, 2)), ("net: gmlp, width: 8, layers: 1, heads: 2, patch: 2", (4, 2))]
)
def test_the_rest_given_the_beginning_is_what_the_joint_probabilities_say(settings: str, shape: tuple[int, int]) -> None:
    height, width = shape
    model, state = build(f"{settings}, levels: 2", Spec(height, width, 1, 0))
    every = np.array(list(itertools.product((0, 1), repeat=height * width))).reshape(-1, height, width, 1)
    joint = np.exp(np.asarray(model.log_prob(state, batch_of(every)), np.float64))
    known = jnp.broadcast_to(jnp.arange(height)[:, None, None] < 2, every.shape)
    upper = every[:, :2].reshape(len(every), -1)
    alike = (upper[:, None] == upper[None]).all(axis=2)  # images with the same upper half
    expected = np.log(joint / (alike @ joint))
    assert np.allclose(model.rest_log_prob(state, batch_of(every), known), expected, atol=1e-5)
    assert 2 % model.rows_at_once() == 0


def test_a_completion_is_held_against_pixels_that_know_nothing_of_each_other() -> None:
    data = dataset(train=300, held_out=40)
    for levels, name in ((2, "independent pixels"), (16, "pixel histograms")):
        e, state = started(f"variant: autoregressive, net: made, hidden: [16], levels: {levels}", data)
        ours = subject(e.model, state, data, binarize="fixed" if levels == 2 else "none")
        metric = completion.measure(ours).metrics["completion_nats"]
        # A fresh model takes all levels for equally likely.
        assert metric.value == pytest.approx(32 * log(levels), rel=1e-4) and metric.protocol["given_rows"] == 4
        assert 0 < metric.baselines[name] < metric.value
    gray = subject(e.model.model_copy(update={"levels": 2}), state, data)
    assert "set data.binarize" in str(completion.cannot(gray))
    whole, state = started("variant: autoregressive, net: gmlp, width: 8, layers: 1, heads: 2, patch: 8, levels: 16", data)
    assert "in one piece" in str(completion.cannot(subject(whole.model, state, data)))
