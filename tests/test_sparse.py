"""Sparse codes are as sparse as they say, and the penalties are what the papers define."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call, first_state
from fit import dataset, experiment, fit, subject

from aecli.core.learner import Learner, Recipe
from aecli.core.model import Batch, Spec
from aecli.core.optimizer import Optimizer
from aecli.errors import ConfigError
from aecli.evaluation.registry import quick
from aecli.models.sparse import Sparse, SparseState, keep_largest, kl_to_target
from aecli.runs.trained import load
from aecli.sampling.given import Given
from aecli.sampling.walks import codes

SPEC = dataset().spec


def start(text: str) -> tuple[Sparse, Any, Batch]:
    model = experiment(f"variant: sparse, {text}").model
    assert isinstance(model, Sparse)
    rows = dataset().train
    batch = Batch(jnp.asarray(rows.images / np.float32(255)), jnp.asarray(rows.labels), jnp.ones(48, bool))
    return model, first_state(model, SPEC, Recipe(Optimizer(), 100)), batch


def test_refusals_of_k_tell_the_way_out() -> None:
    with pytest.raises(ConfigError, match="leave k out"):
        experiment("variant: sparse, penalty: l1, k: 3")
    model = experiment("variant: sparse, k: 30, units: 40").model
    (refused,) = model.objections(Spec(1, 20, 1, 0, "vector"))
    assert "the 20 values of a vector" in refused.message


def test_the_kl_penalty_is_0_at_its_target_and_known_elsewhere() -> None:
    assert float(kl_to_target(0.2, jnp.full(7, 0.2))) == pytest.approx(0, abs=1e-6)
    expected = 0.2 * np.log(0.2 / 0.5) + 0.8 * np.log(0.8 / 0.5)
    assert float(kl_to_target(0.2, jnp.full(3, 0.5))) == pytest.approx(3 * expected, rel=1e-5)


def test_exactly_k_stay_and_they_are_the_largest() -> None:
    x = jnp.array([[3.0, 1.0, 3.0, 3.0], [-4.0, -1.0, -2.0, -3.0]])
    kept = keep_largest(x, 2)
    assert (kept != 0).sum(axis=1).tolist() == [2, 2] and kept[1].tolist() == [0, -1, -2, 0]


def test_topk_has_exactly_k_active_units() -> None:
    model, state, batch = start("penalty: topk, units: 100, k: 7")
    assert (call(model, "active", state, batch).sum(axis=1) == 7).all()
    assert (call(model, "evaluate", state, batch, jax.random.key(0))["l0"] == 7).all()


def test_batch_topk_keeps_k_on_average_and_its_threshold_does_so_alone() -> None:
    model, state, batch = start("penalty: batch_topk, units: 100, k: 7")
    step = jax.jit(model.train_step)
    for i in range(300):
        state, values = step(state, batch, jax.random.key(i))
        assert float(values["l0"].mean()) == pytest.approx(7, abs=0.05)
    assert values["l0"].std() > 0, "images differ in what they need"
    assert 6 < float(call(model, "evaluate", state, batch, jax.random.key(0))["l0"].mean()) < 8


def test_the_dictionary_starts_tied_and_keeps_norm_1_and_the_mean_of_the_first_batch() -> None:
    model, state, batch = start("penalty: topk, units: 100, k: 7")
    net = state.net
    assert jnp.array_equal(net.kernel[...], net.rows[...].T)
    for i in range(5):
        state, _ = call(model, "train_step", state, batch, jax.random.key(i))
        assert jnp.allclose(jnp.linalg.norm(state.net.rows[...], axis=1), 1, atol=1e-5)
        if i == 0:
            mean = batch.image.mean(axis=0).reshape(-1)
            assert jnp.allclose(state.net.mean[...], mean, atol=0.002), "a step of Adam beside the mean"


def test_the_bias_takes_the_mean_of_the_first_batch_alone() -> None:
    """From then on it is learned: another batch moves it by a step of Adam, not to its own mean."""
    model, state, batch = start("penalty: topk, units: 100, k: 7")
    step = jax.jit(model.train_step)
    first, _ = step(state, batch, jax.random.key(0))
    second, _ = step(first, batch._replace(image=1 - batch.image), jax.random.key(1))
    moved = jnp.abs(second.net.mean[...] - first.net.mean[...])
    assert 0 < float(moved.max()) < 0.005


@pytest.mark.parametrize("refinements", [0, 1])
def test_dead_units_learn_through_the_auxiliary_loss_alone(refinements: int) -> None:
    model, state, batch = start(f"penalty: topk, units: 100, k: 2, dead_after: 3, refinements: {refinements}")
    state, _ = call(model, "train_step", state, batch, jax.random.key(0))  # which takes the mean of the batch
    state = SparseState(Learner.create(state.net, state.learner.recipe), state.seen)  # without the optimizer's momentum
    seen = state.seen._replace(silent=jnp.full(100, 9, jnp.int32))  # all count as dead
    state = SparseState(dataclasses.replace(state.learner, step=jnp.int32(1)), seen)
    silent = ~np.asarray(call(model, "active", state, batch)).any(axis=0)
    assert silent.any()
    after, _ = call(model, "train_step", state, batch, jax.random.key(0))
    moved = np.abs(np.asarray(after.net.kernel[...] - state.net.kernel[...])).sum(axis=0) > 1e-6
    assert moved[silent].mean() > 0.5
    off = model.model_copy(update={"auxk": 0.0})
    unmoved, _ = call(off, "train_step", state, batch, jax.random.key(0))
    still = np.abs(np.asarray(unmoved.net.kernel[...] - state.net.kernel[...])).sum(axis=0)
    really = ~np.asarray(call(model, "active", unmoved, batch)).any(axis=0) & silent
    assert (still[really] < 1e-6).all()
    if refinements:  # what chooses a unit for what the others left is learned, too
        learned, kept = (np.asarray(each.net.steps[...][0] - state.net.steps[...][0]) for each in (after, unmoved))
        assert (np.abs(learned[silent]) > 1e-6).mean() > 0.5 and (np.abs(kept[really]) < 1e-6).all()


def test_a_refined_code_leaves_less_of_an_image_and_has_as_many_active_units() -> None:
    """With an encoder that is the transposed dictionary a small enough step lowers the error, the oracle of gradient descent, and
    the k largest of a row that still holds the first k are chosen anew."""
    model, state, batch = start("penalty: topk, units: 100, k: 7, refinements: 3")
    once = model.model_copy(update={"refinements": 0})
    images = batch.image.reshape(len(batch.image), -1)
    net = state.net
    largest = np.linalg.norm(np.asarray(net.rows[...]), ord=2) ** 2
    small = SparseState(
        state.learner.adjust(lambda net: net.steps.set_value(jnp.full_like(net.steps[...], 1 / largest)), True), state.seen
    )
    code = np.asarray(call(model, "encode", small, batch))
    assert ((code != 0).sum(axis=1) == 7).all()
    by_hand = np.asarray(call(once, "encode", small, batch))
    rows, kernel, mean = (np.asarray(each[...]) for each in (net.rows, net.kernel, net.mean))
    for _ in range(3):
        before = by_hand + (np.asarray(images) - mean - by_hand @ rows) @ kernel / largest
        chosen = np.argsort(-before, axis=1)[:, :7]
        by_hand = np.zeros_like(before)
        np.put_along_axis(by_hand, chosen, np.take_along_axis(before, chosen, axis=1), axis=1)
    np.testing.assert_allclose(code, by_hand, atol=1e-4)
    left = [float(((np.asarray(call(each, "reconstruct", small, batch)) - batch.image) ** 2).sum()) for each in (once, model)]
    assert left[1] < left[0]


def test_the_kl_penalty_brings_the_mean_activation_to_its_target(tmp_path: Any) -> None:
    data = dataset()
    e = experiment(
        "variant: sparse, penalty: kl, rho: 0.1, weight: 3.0, units: 20",
        "steps: 400, eval_every: 1000, checkpoint_every: 1000",
        optimizer="learning_rate: 1e-2",
    )
    _, training = fit(tmp_path, e, data)
    found = quick(subject(e.model, training.state, data, split="train"))
    assert found["mean_activation"].value == pytest.approx(0.1, abs=0.02)


def test_what_evaluation_says_of_units_and_variance_is_of_the_whole_split() -> None:
    model, state, _ = start("penalty: topk, units: 100, k: 3")
    data = dataset(held_out=300)  # more than one batch, the last one padded
    found = quick(subject(model, state, data))
    images = jnp.asarray(data.test.images / np.float32(255))
    whole = Batch(images, jnp.asarray(data.test.labels), jnp.ones(300, bool))
    dead = 1 - np.asarray(call(model, "active", state, whole)).any(axis=0).mean()
    assert found["dead_fraction"].value == pytest.approx(dead)
    assert found["mean_activation"].value == pytest.approx(float(call(model, "encode", state, whole).mean()), rel=1e-4)
    error = ((np.asarray(call(model, "reconstruct", state, whole)).clip(0, 1) - np.asarray(images)) ** 2).sum()
    share = 1 - error / ((np.asarray(images) - np.asarray(images).mean(0)) ** 2).sum()
    assert found["explained_variance"].value == pytest.approx(share, rel=1e-4)


def test_a_unit_shows_no_image_that_it_is_not_active_on(tmp_path: Any) -> None:
    run, _ = fit(tmp_path, experiment("variant: sparse, penalty: topk, units: 24, k: 1", "steps: 3"), dataset())
    shown = codes(Given(load(run, "last", lambda line: None), dataset, 24)).arrays
    images, active = shown["top"], shown["activation"] != 0
    assert not active.all() and active.any(), "with one unit active in each image most have few"
    assert (images[~active] == 255).all() and not (images[active] == 255).all((1, 2, 3)).any()
    assert (active.sum(1) == np.minimum(np.rint(shown["density"] * 16), images.shape[1])).all()
