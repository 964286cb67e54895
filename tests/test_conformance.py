"""What must be true of every variant that is found, whatever it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit, go_on

from aecli import catalog, checkpoint
from aecli.config import dump, load, parse
from aecli.core import Batch, Encodes, Model, Reconstructs, Samples, abilities
from aecli.keys import Stream, stream
from aecli.learner import Recipe
from aecli.optimizers import Optimizer
from aecli.runs import Run

# Settings that reach the code paths of a variant; every variant is also tried with its defaults.
SETTINGS = {
    "bottleneck": [
        "net: linear, latent: 3",
        "net: mlp, hidden: [12], latent: 3, likelihood: bernoulli",
        "net: conv, hidden: [4, 6], latent: 3",
    ],
    "vae": [
        "hidden: [12], latent: 3, kl_warmup: 4, free_bits: 0.1",
        "net: conv, hidden: [4, 6], latent: 3, likelihood: gaussian",
        "net: linear, latent: 3, likelihood: gaussian, sigma: 0.3, beta: 2.0",
    ],
}
CASES = [f"variant: {name}{', ' + more if more else ''}" for name in catalog.variants() for more in ["", *SETTINGS.get(name, [])]]
SPEC = dataset().spec
CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(case: str) -> Model:
    return experiment(case).model


@pytest.fixture(scope="module")
def state(model: Model) -> Any:
    return jax.jit(model.init, static_argnums=(1, 2))(jax.random.key(0), SPEC, Recipe(Optimizer(learning_rate=3e-3), 100))


@pytest.fixture(scope="module")
def step(model: Model) -> Any:
    return jax.jit(model.train_step)


@pytest.fixture(scope="module")
def batch() -> Batch:
    rows = dataset().train
    return Batch(jnp.asarray(rows.images[:16] / np.float32(255)), jnp.asarray(rows.labels[:16]), jnp.ones(16, bool))


def test_the_values_are_per_example_finite_and_hold_the_loss(model: Model, state: Any, step: Any, batch: Batch) -> None:
    for values in (step(state, batch, jax.random.key(1))[1], jax.jit(model.evaluate)(state, batch, jax.random.key(1))):
        assert "loss" in values
        for name, value in values.items():
            assert value.shape == (16,), name
            assert value.dtype == jnp.float32, name
            assert jnp.isfinite(value).all(), name


def test_a_step_is_a_function_of_its_arguments(state: Any, step: Any, batch: Batch) -> None:
    first, second = step(state, batch, jax.random.key(1)), step(state, batch, jax.random.key(1))
    assert all(jnp.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def test_a_step_keeps_the_form_of_the_state_and_moves_it(state: Any, step: Any, batch: Batch) -> None:
    after, _ = step(state, batch, jax.random.key(1))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    moved = False
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), path
        moved |= not bool(jnp.array_equal(a, b))
    assert moved


def test_another_seed_gives_another_start(model: Model, state: Any) -> None:
    other = jax.jit(model.init, static_argnums=(1, 2))(jax.random.key(1), SPEC, Recipe(Optimizer(learning_rate=3e-3), 100))
    assert any(not bool(jnp.array_equal(a, b)) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True))


def test_the_loss_falls_on_a_small_set(model: Model, state: Any, step: Any, batch: Batch) -> None:
    evaluate = jax.jit(model.evaluate)
    before = float(evaluate(state, batch, jax.random.key(9))["loss"].mean())
    for i in range(100):
        state, _ = step(state, batch, jax.random.key(i))
    after = float(evaluate(state, batch, jax.random.key(9))["loss"].mean())
    assert after < before - 0.05 * abs(before)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch(model: Model, state: Any, batch: Batch) -> None:
    """Padding must not touch the values of real images. The key draws per batch, so the shapes stay equal."""
    evaluate = jax.jit(model.evaluate)
    whole = evaluate(state, batch, jax.random.key(1))
    other = batch._replace(image=batch.image.at[8:].set(0.5), mask=jnp.arange(16) < 8)
    for name, value in evaluate(state, other, jax.random.key(1)).items():
        assert jnp.allclose(value[:8], whole[name][:8], rtol=1e-5), name


def test_the_config_survives_being_written_out(case: str) -> None:
    e = experiment(case)
    assert parse(dump(e), "again").experiment == e
    assert hash(parse(dump(e), "again").experiment.model) == hash(e.model)


def test_the_class_and_the_object_have_the_same_abilities(model: Model) -> None:
    assert abilities(model) == abilities(type(model))
    assert abilities(model), "a variant that can do nothing cannot be shown"


def test_reconstructions_look_like_images(model: Model, state: Any, batch: Batch) -> None:
    if not isinstance(model, Reconstructs):
        pytest.skip("does not reconstruct")
    made = jax.jit(model.reconstruct)(state, batch.image)
    assert made.shape == batch.image.shape and made.dtype == jnp.float32 and jnp.isfinite(made).all()


def test_codes_are_vectors(model: Model, state: Any, batch: Batch) -> None:
    if not isinstance(model, Encodes):
        pytest.skip("does not encode")
    code = jax.jit(model.encode)(state, batch.image)
    assert code.ndim == 2 and len(code) == 16 and jnp.isfinite(code).all()
    other = jax.jit(model.encode)(state, 1 - batch.image)
    assert not jnp.array_equal(code, other)


def test_samples_are_images_and_follow_the_key(model: Model, state: Any) -> None:
    if not isinstance(model, Samples):
        pytest.skip("does not sample")
    sample = jax.jit(model.sample, static_argnums=2)
    first, again, other = (sample(state, stream(jax.random.key(seed), Stream.SAMPLE), 5) for seed in (0, 0, 1))
    assert first.shape == (5, *SPEC.shape) and first.dtype == jnp.float32
    assert float(first.min()) >= 0 and float(first.max()) <= 1
    assert jnp.array_equal(first, again) and not jnp.array_equal(first, other)


def test_a_run_cut_anywhere_ends_with_the_same_bits(case: str, tmp_path: Path) -> None:
    """48 images in batches of 20: the six steps cross the end of two passes."""
    data = dataset()
    e = experiment(
        case, "steps: 6, checkpoint_every: 1, log_every: 2, keep: 9", "batch_size: 20", "learning_rate: 1e-2, ema: 0.9"
    )
    whole, _ = fit(tmp_path, e, data)
    assert checkpoint.steps(whole.checkpoints) == [1, 2, 3, 4, 5, 6]
    expected = _digests(whole.checkpoints, 6)
    for last in range(1, 6):
        cut = Run(tmp_path / f"cut-{last}")
        shutil.copytree(whole.path, cut.path)
        for later in range(last + 1, 7):
            (cut.checkpoints / f"{later}.commit.json").unlink()
        training = go_on(cut, e, data)
        assert training.resumed_from == last
        assert _digests(cut.checkpoints, 6) == expected
        assert [row["step"] for row in cut.rows()] == [row["step"] for row in whole.rows()]


def _digests(folder: Path, step: int) -> dict[str, str]:
    manifest = json.loads((folder / f"{step}.commit.json").read_text())
    assert checkpoint.steps(folder)[-1] == step
    return {leaf["path"]: leaf["sha256"] for leaf in manifest["leaves"]}


def test_each_variant_is_in_a_config() -> None:
    used = {load(path).experiment.model.variant for path in CONFIGS.glob("*.yaml")}
    assert used == set(catalog.variants())


def test_a_latent_larger_than_the_image_is_refused_by_every_variant_that_has_one() -> None:
    for name in catalog.variants():
        cls = catalog.load(name)
        if "latent" in cls.model_fields:
            [objection] = cls(latent=65).objections(SPEC)
            assert objection.key == "latent" and "64" in objection.message
