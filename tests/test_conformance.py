"""What must be true of every variant that is found, whatever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, OPTIMIZERS
from fit import dataset, experiment

from aecli.config import variants
from aecli.config.load import load, parse
from aecli.config.schema import dump
from aecli.core.abilities import Decodes, Encodes, Infers, Reconstructs, Samples, abilities
from aecli.core.keys import Stream, stream
from aecli.core.learner import Recipe
from aecli.core.model import Batch, Model, Spec
from aecli.core.optimizer import Optimizer
from aecli.errors import ConfigError

SPEC = dataset().spec
CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(case: str) -> Model:
    return experiment(case).model


def init(model: Model, seed: int) -> Any:
    recipe = Recipe(OPTIMIZERS.get(model.variant, Optimizer(learning_rate=3e-3)), 100)
    return model.init(jax.random.key(seed), SPEC, recipe)


@pytest.fixture(scope="module")
def state(model: Model) -> Any:
    return init(model, 0)


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


def test_in_bfloat16_the_state_and_all_results_stay_float32(model: Model, batch: Batch) -> None:
    recipe, key, label = Recipe(Optimizer(ema=0.9), 100, "bfloat16"), jax.random.key(0), batch.label[:3]
    state = jax.eval_shape(lambda: model.init(key, SPEC, recipe))
    after, values = jax.eval_shape(model.train_step, state, batch, key)
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]
    results = [values, jax.eval_shape(model.evaluate, state, batch, key)]
    if isinstance(model, Samples):
        results.append(jax.eval_shape(model.sample, state, key, label))
    if isinstance(model, Reconstructs):
        results.append(jax.eval_shape(model.reconstruct, state, batch))
    if isinstance(model, Encodes):
        results.append(jax.eval_shape(model.encode, state, batch))
    assert {x.dtype for x in jax.tree.leaves(results)} == {jnp.dtype("float32")}


def test_another_seed_gives_another_start(model: Model, state: Any) -> None:
    other = init(model, 1)
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
    made = jax.jit(model.reconstruct)(state, batch)
    assert made.shape == batch.image.shape and made.dtype == jnp.float32 and jnp.isfinite(made).all()


def test_codes_are_vectors(model: Model, state: Any, batch: Batch) -> None:
    if not isinstance(model, Encodes):
        pytest.skip("does not encode")
    code = jax.jit(model.encode)(state, batch)
    assert code.ndim == 2 and len(code) == 16 and jnp.isfinite(code).all()
    other = jax.jit(model.encode)(state, batch._replace(image=20 * (1 - batch.image)))
    assert not jnp.array_equal(code, other)
    if isinstance(model, Decodes):
        made = jax.jit(model.decode)(state, code, batch.label)
        assert made.shape == batch.image.shape and made.dtype == jnp.float32 and jnp.isfinite(made).all()


def test_a_posterior_is_around_the_code(model: Model, state: Any, batch: Batch) -> None:
    if not isinstance(model, Infers):
        pytest.skip("has no posterior")
    posterior = jax.jit(model.posterior)(state, batch)
    assert jnp.allclose(posterior.mean, jax.jit(model.encode)(state, batch)) and jnp.isfinite(posterior.log_sigma).all()


def test_samples_are_images_and_follow_the_key(model: Model, state: Any) -> None:
    if not isinstance(model, Samples):
        pytest.skip("does not sample")
    sample, label = jax.jit(model.sample), jnp.arange(5) % 3
    first, again, other = (sample(state, stream(jax.random.key(seed), Stream.SAMPLE), label) for seed in (0, 0, 1))
    assert first.shape == (5, *SPEC.shape) and first.dtype == jnp.float32
    assert float(first.min()) >= 0 and float(first.max()) <= 1
    assert jnp.array_equal(first, again) and not jnp.array_equal(first, other)


def test_each_variant_is_in_a_config() -> None:
    used = {load(path).experiment.model.variant for path in CONFIGS.glob("*.yaml")}
    assert used == set(variants.variants())


def test_a_latent_larger_than_the_image_is_refused_by_every_variant_that_has_one() -> None:
    for name in variants.variants():
        cls = variants.load(name)
        if "latent" in cls.model_fields:
            net = {"net": "mlp"} if "net" in cls.model_fields else {}
            [objection] = cls(latent=65, **net).objections(SPEC)
            assert objection.key == "latent" and "64" in objection.message


CONDITIONAL = [case for case in CASES if "conditional: true" in case]


@pytest.mark.parametrize("text", CONDITIONAL)
def test_a_label_changes_what_a_conditional_model_draws(text: str) -> None:
    model, batch = experiment(text).model, jnp.zeros(6, jnp.int32)
    state = model.init(jax.random.key(0), SPEC, Recipe(Optimizer(), 100))
    # Fresh networks may end in zeros: any weights will do.
    generator = np.random.default_rng(0)
    state = jax.tree.map(
        lambda x: x + 0.3 * generator.standard_normal(x.shape) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )
    draw = jax.jit(model.sample)
    assert not jnp.array_equal(draw(state, jax.random.key(1), batch), draw(state, jax.random.key(1), batch + 1))


def test_every_conditional_variant_refuses_data_without_labels() -> None:
    conditional = [name for name in variants.variants() if "conditional" in variants.load(name).model_fields]
    assert len(conditional) >= 4
    for name in conditional:
        [objection] = variants.load(name)(conditional=True).objections(SPEC._replace(classes=0))
        assert objection.key == "conditional" and "no labels" in objection.message


@pytest.mark.parametrize(
    ("text", "spec", "key", "reason"),
    [
        ("variant: vae", Spec(8, 8, 3, 0), "likelihood", "colour"),
        ("variant: hvae, latent: 4", Spec(8, 8, 3, 0), "likelihood", "colour"),
        ("variant: autoregressive, patch: 3", Spec(8, 8, 1, 0), "patch", "do not tile"),
        ("variant: autoregressive, net: transformer", Spec(96, 96, 1, 0), "patch", "too many"),
        ("variant: denoising, corruption: {name: grayscale}", Spec(8, 8, 1, 0), "corruption", "gray already"),
        ("variant: vae, corruption: {name: downsample, factor: 3}", Spec(8, 8, 1, 0), "corruption", "does not divide"),
        ("variant: bottleneck, corruption: {name: block, size: 9}", Spec(8, 8, 1, 0), "corruption", "does not fit"),
        ("variant: sparse, k: 64, units: 99", Spec(8, 8, 1, 0), "k", "no fewer"),
        ("variant: gan, hidden: [4, 4, 4, 4]", Spec(8, 8, 1, 0), "hidden", "leave nothing"),
        ("variant: vq, hidden: [4, 4, 4]", Spec(8, 8, 1, 0), "hidden", "one code"),
    ],
)
def test_a_variant_says_what_it_cannot_serve(text: str, spec: Spec, key: str, reason: str) -> None:
    objection = next(iter(experiment(text).model.objections(spec)))
    assert objection.key == key and reason in objection.message and objection.help


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("variant: autoregressive, levels: 3", "does not divide 256"),
        ("variant: autoregressive, net: transformer, width: 9, heads: 2", "does not divide width"),
        ("variant: autoregressive, net: made, patch: 2", "patch is for"),
        ("variant: sparse, penalty: l1, auxk: 0.5", "auxk and dead_after are for"),
        ("variant: sparse, k: 9, units: 8", "9 active units of 8"),
        ("variant: sparse, rho: 0.2", "rho is for"),
        ("variant: vae, samples: 5, beta: 2.0", "leave out beta"),
        ("variant: vae, sigma: 0.1", "sigma is for"),
        ("variant: vae, prior: vamp, free_bits: 0.1", "free_bits needs"),
        ("variant: vq, quantizer: fsq, codes: 12", "fsq has levels"),
        ("variant: vq, quantizer: fsq, levels: [99, 99, 99]", "can be predicted"),
        ("variant: denoising, corruption: []", "needs a corruption"),
        ("variant: denoising, latent: 3", "has no code"),
        ("variant: gan, gradient_penalty: 2.0", "is for objective"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        experiment(text)
