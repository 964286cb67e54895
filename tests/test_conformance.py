"""What must be true of every variant that is found, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, named
from compiled import DATA, SIZE, Compiled, compiled, few
from fit import experiment

from aecli.config import variants
from aecli.config.load import load, parse
from aecli.config.schema import dump
from aecli.core import jitted
from aecli.core.abilities import (
    Activates,
    Encodes,
    Infers,
    Quantizes,
    Represents,
    Scores,
    abilities,
    features_of,
)
from aecli.core.keys import Stream, stream
from aecli.core.learner import Recipe
from aecli.core.model import Batch, Model, Spec
from aecli.core.optimizer import Optimizer
from aecli.data.eval_batches import EVAL_BATCH
from aecli.errors import ConfigError

SPEC = DATA.spec
CONFIGS = Path(__file__).parent.parent / "configs"


@pytest.fixture(scope="module", params=named(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def ours(case: str) -> Compiled:
    return compiled(case)


@pytest.fixture(scope="module")
def model(ours: Compiled) -> Any:
    return ours.model


@pytest.fixture(scope="module")
def state(ours: Compiled) -> Any:
    return ours.alone


@pytest.fixture(scope="module")
def batch(model: Model) -> Batch:
    return model.give(few(), jax.random.key(3))


def can(model: Any, ability: str) -> bool:
    return ability in abilities(model)


def is_equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_the_values_are_per_example_finite_and_hold_the_loss(ours: Compiled) -> None:
    step = jax.jit(ours.model.train_step)
    _, form = jax.eval_shape(step, ours.state, Batch.abstract(SIZE, SPEC), jax.random.key(0))
    evaluated = ours.evaluate(ours.state, ours.batch, 1)
    for values, n in ((form, SIZE), (evaluated, EVAL_BATCH)):
        assert "loss" in values
        for name, value in values.items():
            assert value.shape == (n,), name
            assert value.dtype == jnp.float32, name
    assert all(jnp.isfinite(value).all() for value in evaluated.values())
    _, sums = ours.train(0, 0, 2)
    assert sums.keys() == form.keys() and all(np.isfinite(value).all() for value in sums.values())


def test_a_step_is_a_function_of_its_arguments(ours: Compiled) -> None:
    assert is_equal(ours.train(0, 0, 1), ours.train(0, 0, 1))


def test_a_step_keeps_the_form_of_the_state_and_moves_it(ours: Compiled) -> None:
    after, _ = ours.train(0, 0, 1)
    assert jax.tree.structure(after) == jax.tree.structure(ours.state)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours.state), jax.tree.leaves(after), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), path
    assert not is_equal(after, ours.state)


def test_in_bfloat16_the_state_and_all_results_stay_float32(model: Any, batch: Batch) -> None:
    recipe, key, label = Recipe(Optimizer(ema=0.9), 100, "bfloat16"), jax.random.key(0), batch.label[:3]
    state = jax.eval_shape(lambda: model.init(key, SPEC, recipe))
    after, values = jax.eval_shape(model.train_step, state, batch, key)
    assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(state)]
    results = [values, jax.eval_shape(model.evaluate, state, batch, key)]
    if can(model, "samples"):
        results.append(jax.eval_shape(model.sample, state, key, label))
    if can(model, "translates"):
        results.append(jax.eval_shape(model.translate, state, key, batch))
    if can(model, "reconstructs"):
        results.append(jax.eval_shape(model.reconstruct, state, batch))
    if isinstance(model, Encodes):
        results += [jax.eval_shape(of, state, batch) for of in (model.encode, features_of(model))]
    assert {x.dtype for x in jax.tree.leaves(results)} == {jnp.dtype("float32")}


def test_another_seed_gives_another_start(ours: Compiled) -> None:
    assert not is_equal(ours.first(1), ours.state)


def test_the_loss_falls_on_a_small_set(ours: Compiled) -> None:
    after, _ = ours.train(0, 0, 100)
    before, after = (np.asarray(ours.evaluate(state, ours.batch, 9)["loss"])[:48].mean() for state in (ours.state, after))
    assert after < before - 0.05 * abs(before)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch(ours: Compiled) -> None:
    """Padding must not touch the values of real images. The key draws per batch, so the shapes stay equal."""
    whole = ours.evaluate(ours.state, ours.batch, 1)
    kept, batch = np.arange(EVAL_BATCH) < 8, ours.batch
    image = np.where(kept[:, None, None, None], batch.image, np.float32(0.5))
    image, mask = (jax.device_put(x, of.sharding) for x, of in ((image, batch.image), (kept, batch.mask)))
    other = batch._replace(image=image, mask=mask)
    for name, value in ours.evaluate(ours.state, other, 1).items():
        assert np.allclose(value[:8], whole[name][:8], rtol=1e-5), name


def test_the_config_survives_being_written_out(case: str) -> None:
    e = experiment(case)
    assert parse(dump(e), "again").experiment == e
    assert hash(parse(dump(e), "again").experiment.model) == hash(e.model)


def test_the_object_has_the_abilities_of_the_class_but_for_those_that_its_settings_take(model: Model) -> None:
    assert abilities(model) == tuple(name for name in abilities(type(model)) if name not in model.withheld)
    assert abilities(model), "a variant that can do nothing cannot be shown"


def test_reconstructions_look_like_images(model: Model, state: Any, batch: Batch) -> None:
    if not can(model, "reconstructs"):
        pytest.skip("does not reconstruct")
    made = np.asarray(jitted.reconstruct(model, state, batch))
    assert made.shape == batch.image.shape and made.dtype == np.float32 and np.isfinite(made).all()


def test_codes_are_vectors(model: Any, state: Any, batch: Batch) -> None:
    if not isinstance(model, Encodes):
        pytest.skip("does not encode")
    code = jitted.encode(model, state, batch)
    assert code.ndim == 2 and len(code) == 16 and np.isfinite(code).all()
    other = jitted.encode(model, state, batch._replace(image=20 * (1 - batch.image)))
    assert not np.array_equal(code, other)
    if can(model, "decodes"):
        made = np.asarray(jitted.decode(model, state, code, batch.label))
        assert made.shape == batch.image.shape and made.dtype == np.float32 and np.isfinite(made).all()


def test_features_are_vectors_and_the_code_where_there_are_no_others(model: Model, state: Any, batch: Batch) -> None:
    if not isinstance(model, Encodes):
        pytest.skip("does not encode")
    features = jitted.features(model, state, batch)
    assert features.ndim == 2 and len(features) == 16 and features.dtype == jnp.float32 and np.isfinite(features).all()
    if not isinstance(model, Represents):
        assert np.array_equal(features, jitted.encode(model, state, batch))


def test_a_posterior_is_around_the_code(model: Model, state: Any, batch: Batch) -> None:
    if not isinstance(model, Infers):
        pytest.skip("has no posterior")
    posterior = jitted.posterior(model, state, batch)
    assert np.allclose(posterior.mean, jitted.encode(model, state, batch)) and np.isfinite(posterior.log_sigma).all()


def are_images_that_follow_the_key(draw: Callable[[jax.Array], jax.Array], n: int) -> None:
    first, again, other = (np.asarray(draw(stream(jax.random.key(seed), Stream.SAMPLE))) for seed in (0, 0, 1))
    assert first.shape == (n, *SPEC.shape) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_samples_are_images_and_follow_the_key(model: Model, state: Any) -> None:
    if not can(model, "samples"):
        pytest.skip("does not sample")
    label = jnp.arange(6) % 3
    are_images_that_follow_the_key(lambda key: jitted.sample(model, state, key, label, jnp.float32(1)), 6)


def test_translations_are_images_and_follow_the_key(model: Model, state: Any, batch: Batch) -> None:
    if not can(model, "translates"):
        pytest.skip("is given no image")
    are_images_that_follow_the_key(lambda key: jitted.translate(model, state, key, batch, jnp.float32(1)), 16)


def test_a_completion_keeps_what_is_known_and_a_score_is_one_number_an_image(model: Model, state: Any, batch: Batch) -> None:
    if can(model, "completes"):
        known = jnp.broadcast_to((jnp.arange(8) < 4)[None, :, None, None], batch.image.shape)
        made = np.asarray(
            jitted.complete(model, state, jax.random.key(0), batch._replace(hidden=~known[..., :1]), known, jnp.float32(1))
        )
        assert np.array_equal(made[:, :4], np.asarray(batch.image)[:, :4]) and not np.array_equal(made, batch.image)
    if isinstance(model, Scores):
        assert jitted.log_prob(model, state, batch).shape == (16,)
    if isinstance(model, Activates):
        active = jitted.active(model, state, batch)
        assert active.dtype == bool and len(active) == 16
    if isinstance(model, Quantizes):
        codes = np.asarray(jitted.codes_of(model, state, batch))
        assert codes.ndim == 2 and codes.min() >= 0 and codes.max() < model.code_count()
    if not can(model, "completes") and not isinstance(model, Scores | Activates | Quantizes):
        pytest.skip("has none of these")


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


def test_a_label_changes_what_a_conditional_model_draws(case: str, model: Model, state: Any) -> None:
    if "conditional: true" not in case or not can(model, "samples"):
        pytest.skip("is not conditional, or draws only given an image")
    # Fresh networks may end in zeros: any weights will do.
    generator = np.random.default_rng(0)

    def disturbed(x: Any) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return np.asarray(x) + (0.3 * generator.standard_normal(x.shape)).astype(x.dtype)

    state = jax.tree.map(disturbed, state)
    label = np.zeros(6, np.int32)
    assert not np.array_equal(*(jitted.sample(model, state, jax.random.key(1), label + i, jnp.float32(1)) for i in (0, 1)))


def test_every_conditional_variant_refuses_data_without_labels() -> None:
    conditional = [name for name in variants.variants() if "conditional" in variants.load(name).model_fields]
    assert len(conditional) >= 5
    for name in conditional:
        [objection] = variants.load(name)(conditional=True).objections(SPEC._replace(classes=0))
        assert objection.key == "conditional" and "no labels" in objection.message


@pytest.mark.parametrize(
    ("text", "spec", "key", "reason"),
    [
        ("variant: vae", Spec(8, 8, 3, 0), "likelihood", "colour"),
        ("variant: hvae, latent: 4", Spec(8, 8, 3, 0), "likelihood", "colour"),
        ("variant: autoregressive, patch: 3", Spec(8, 8, 1, 0), "patch", "do not tile"),
        ("variant: hvae, decoder: gmlp", Spec(30, 30, 1, 0), "patch", "do not tile"),
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
        ("variant: hvae, width: 64", "are for decoder: gmlp"),
        ("variant: hvae, decoder: gmlp, width: 30", "does not divide width"),
        ("variant: sparse, penalty: l1, refinements: 1", "refinements are for"),
        ("variant: sparse, net: mlp, refinements: 1", "refinements are for"),
        ("variant: sparse, k: 9, units: 8", "9 active units of 8"),
        ("variant: sparse, rho: 0.2", "rho is for"),
        ("variant: vae, samples: 5, beta: 2.0", "leave out beta"),
        ("variant: vae, sigma: 0.1", "sigma is for"),
        ("variant: vae, prior: vamp, free_bits: 0.1", "free_bits needs"),
        ("variant: vae, samples: 5, capacity_nats: 2.0", "leave out .* capacity_nats"),
        ("variant: vae, capacity_nats: 2.0, free_bits: 0.1", "leave out free_bits"),
        ("variant: vae, capacity_nats: 2.0, kl_warmup: 5", "leave out free_bits and kl_warmup"),
        ("variant: vae, capacity_nats: 2.0, prior: mog", "needs the exact rate"),
        ("variant: vae, capacity_nats: 2.0, beta: 0.0", "needs a beta above 0"),
        ("variant: vae, capacity_warmup: 5", "needs a capacity_nats"),
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
