"""Models of p(x | c(x)): an image given what a corruption leaves of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call
from fit import dataset, experiment, fit, go_on, new_run, started, subject

from aecli.core import jitted
from aecli.core.abilities import ABILITIES, abilities
from aecli.core.contract import ContractError
from aecli.core.learner import Recipe
from aecli.core.model import Batch, Spec
from aecli.core.optimizer import Optimizer
from aecli.distributions.corruptions import corrupt
from aecli.errors import ConfigError, UsageError
from aecli.evaluation import registry
from aecli.runs.trained import Trained, load
from aecli.sampling.given import Given
from aecli.sampling.modes import MODES, check_mode, modes_of
from aecli.sampling.request import SampleRequest
from aecli.verbs.evaluate import evaluate_run

OUTLINE = "given: {name: outline, threshold: 0.25}"
NETS = {
    "pixelcnn": "net: pixelcnn, width: 8, layers: 2",
    "gmlp": "net: gmlp, width: 8, layers: 2",
    "transformer": "net: transformer, width: 8, layers: 2",
    "patches": "net: gmlp, width: 8, layers: 2, patch: 2",
}


def build(settings: str, spec: Spec, scale: float = 0.4) -> tuple[Any, Any]:
    """A model with random weights, none of them 0."""
    model: Any = experiment(f"variant: {settings}").model
    leaves, form = jax.tree.flatten(jax.eval_shape(lambda: model.init(jax.random.key(0), spec, Recipe(Optimizer(), 100))))
    generator = np.random.default_rng(0)
    noise = [jnp.asarray(scale * generator.standard_normal(x.shape), x.dtype) for x in leaves]
    return model, jax.tree.unflatten(form, noise)


def batch_of(image: Any, given: Any = None) -> Batch:
    image = jnp.asarray(image, jnp.float32)
    return Batch(image, jnp.zeros(len(image), jnp.int32), jnp.ones(len(image), bool), given=given)


@pytest.mark.parametrize("net", ["pixelcnn", "gmlp", "transformer"])
def test_given_any_image_all_images_have_probability_one_together_and_another_image_gives_others(net: str) -> None:
    model, state = build(f"autoregressive, {NETS[net]}, levels: 2, {OUTLINE}", Spec(3, 3, 1, 0))
    every = np.array(list(itertools.product((0, 1), repeat=9))).reshape(-1, 3, 3, 1)
    p = []
    for seed in (0, 1):
        given = jnp.broadcast_to(jax.random.uniform(jax.random.key(seed), (1, 3, 3, 1)), every.shape)
        p.append(np.exp(np.asarray(call(model, "log_prob", state, batch_of(every, given)), np.float64)))
        assert p[-1].sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(p[0] - p[1]).sum() > 0.01


@pytest.mark.parametrize("net", NETS)
def test_no_parameter_depends_on_its_own_or_a_later_value_and_each_on_all_of_what_is_given(net: str) -> None:
    spec = Spec(4, 4, 2, 0)
    _, state = build(f"autoregressive, {NETS[net]}, levels: 16, given: {{name: gaussian, sigma: 0.1}}", spec)
    net_: Any = state.net
    layout = net_.layout
    shape = (1, layout.rows, layout.columns, layout.values * layout.inputs)

    def flat(x: jax.Array, given: jax.Array) -> jax.Array:
        return net_(x.reshape(shape), jnp.zeros((1, 0)), net_.given(given.reshape(1, *spec.shape))).reshape(spec.size, -1).sum(1)

    x = jax.random.normal(jax.random.key(1), (spec.size * layout.inputs,))
    given = jax.random.uniform(jax.random.key(2), (spec.size,))
    own, other = (jnp.abs(jacobian) for jacobian in jax.jit(jax.jacobian(flat, (0, 1)))(x, given))
    own = own.reshape(spec.size, spec.size, -1).sum(-1)
    assert (jnp.triu(own) == 0).all() and (jnp.tril(own, -1) > 0)[-1].mean() > 0.9
    assert (other > 0).all(), "the first value, too, sees the last pixel that is given"


@pytest.mark.parametrize("settings", [*NETS.values(), "net: gmlp, width: 8, layers: 1, patch: 2, conditional: true"])
def test_cached_and_naive_sampling_draw_the_same_pixels_and_follow_what_is_given(settings: str) -> None:
    model, state = build(f"autoregressive, {settings}, levels: 16, {OUTLINE}", Spec(4, 6, 1, 3))
    given = jax.random.uniform(jax.random.key(3), (20, 4, 6, 1))
    batch = batch_of(jnp.zeros_like(given), given)
    cached = call(model, "translate", state, jax.random.key(1), batch)
    naive = call(model, "translate_naive", state, jax.random.key(1), batch)
    assert jnp.array_equal(cached, naive) and len(jnp.unique(cached)) > 4
    assert not jnp.array_equal(cached, call(model, "translate", state, jax.random.key(1), batch._replace(given=1 - given)))
    assert not jnp.array_equal(cached, call(model, "translate", state, jax.random.key(2), batch))
    assert jnp.array_equal(cached, call(model, "translate", state, jax.random.key(1), batch._replace(image=given)))


@pytest.mark.parametrize("settings", ["prior: standard", "prior: mog, components: 4, conditional: true", "samples: 3"])
def test_a_vae_is_given_an_image_in_all_but_its_prior(settings: str) -> None:
    model, state = build(f"vae, hidden: [12], latent: 3, {settings}, {OUTLINE}", Spec(8, 8, 1, 3), 0.1)
    given = jax.random.uniform(jax.random.key(3), (6, 8, 8, 1))
    first, other = (batch_of(jnp.full_like(given, 0.3), image) for image in (given, 1 - given))
    key = jax.random.key(1)
    assert not jnp.allclose(*(call(model, "encode", state, batch) for batch in (first, other)))
    draws = [call(model, "translate", state, key, batch) for batch in (first, other)]
    assert not jnp.allclose(*draws) and jnp.array_equal(draws[0], call(model, "translate", state, key, first))
    assert not jnp.allclose(draws[0], call(model, "translate", state, jax.random.key(2), first))
    weigh = jax.jit(model.log_weights, static_argnums=3)
    straight, turned = weigh(state, first, key, 4), weigh(state, first._replace(given=given[::-1]), key, 4)
    assert straight.shape == (4, 6) and (jnp.abs(straight - turned) > 1e-3).all(), "each image has its own"


@pytest.mark.parametrize("variant", ["autoregressive, levels: 4, width: 8, layers: 1", "vae, hidden: [12], latent: 3"])
def test_what_is_given_is_made_of_the_image_and_follows_the_key_only_where_it_is_random(variant: str) -> None:
    image = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))
    for corruption, is_random in (("{name: outline, threshold: 0.25}", False), ("{name: gaussian, sigma: 0.2}", True)):
        model = experiment(f"variant: {variant}, given: {corruption}").model
        batch = batch_of(image)
        first, other = (model.give(batch, jax.random.key(seed)) for seed in (0, 1))
        assert jnp.array_equal(first.image, image) and jnp.array_equal(first.given, other.given) is not is_random
        assert is_random or jnp.array_equal(first.given, corrupt(model.given_corruptions, image, jax.random.key(0)))
        assert model.give(first, jax.random.key(1)) is first, "what is given once stays"


def test_a_model_that_is_given_nothing_leaves_batches_as_they_are() -> None:
    model: Any = experiment("variant: vae, hidden: [12], latent: 3").model
    batch = batch_of(jnp.zeros((1, 8, 8, 1)))
    assert model.give(batch, jax.random.key(0)) is batch and jitted.give(model, batch, jax.random.key(0)) is batch


def test_the_draw_of_an_image_is_not_averaged_over_where_what_is_given_was_made_of_it() -> None:
    model, state = build(f"autoregressive, width: 8, layers: 1, levels: 2, {OUTLINE}", Spec(4, 4, 1, 0))
    image = jnp.round(jax.random.uniform(jax.random.key(0), (6, 4, 4, 1)))
    batch = model.give(batch_of(image), jax.random.key(0))
    plain, with_intensity = (
        jax.jit(model.loss)(state.net, batch._replace(intensity=intensity), jax.random.key(0), jnp.int32(0))["loss"]
        for intensity in (None, jnp.full_like(image, 0.5))
    )
    assert jnp.array_equal(plain, with_intensity)


def test_the_likelihood_is_that_of_the_objective_where_what_is_given_is_no_draw() -> None:
    data = dataset(train=40, held_out=20)
    e, state = started(f"variant: autoregressive, net: gmlp, levels: 4, width: 8, layers: 1, {OUTLINE}", data)
    ours = subject(e.model, state, data)
    found = registry.evaluate(ours, ["objective", "likelihood"])
    assert found["likelihood"].metrics["nll_nats"].value == pytest.approx(found["objective"].metrics["loss"].value, rel=1e-5)
    assert any("given outline 0.25" in note for note in found["likelihood"].notes)


def test_a_model_that_is_given_images_is_asked_for_nothing_that_holds_none() -> None:
    given, plain = (experiment(f"variant: vae, hidden: [12], latent: 3{more}").model for more in (f", {OUTLINE}", ""))
    both = set(abilities(type(given)))
    assert set(abilities(given)) | set(abilities(plain)) == both == set(abilities(type(plain))) <= set(ABILITIES)
    assert "translates" in abilities(given) and "translates" not in abilities(plain)
    assert not {"samples", "decodes", "reconstructs"} & set(abilities(given))
    assert modes_of(given) == ("translate", "map") and "translate" not in modes_of(plain)
    with pytest.raises(UsageError, match="drawn given another one") as caught:
        check_mode(given, "prior")
    assert "--mode translate" in (caught.value.help or "")
    with pytest.raises(UsageError, match="it is given no image"):
        check_mode(plain, "translate")


def test_a_batch_without_what_is_given_is_refused_in_words() -> None:
    for settings in ("vae, hidden: [12], latent: 3", "autoregressive, width: 8, layers: 1, levels: 4"):
        model, state = build(f"{settings}, {OUTLINE}", Spec(8, 8, 1, 0))
        with pytest.raises(ContractError, match="holds no image"):
            model.encode(state, batch_of(jnp.zeros((1, 8, 8, 1))))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("variant: vae, given: {name: otuline}", "no name 'otuline'"),
        ("variant: vae, given: {name: outline}", "threshold"),
        ("variant: gan, given: {name: outline, threshold: 0.2}", "not a setting"),
        ("variant: autoregressive, net: made, given: {name: outline, threshold: 0.2}", "given is for net"),
        ("variant: vae, prior: vamp, given: {name: outline, threshold: 0.2}", "given needs a prior"),
    ],
)
def test_settings_that_cannot_be_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        experiment(text)


@pytest.mark.parametrize(
    ("text", "spec", "reason"),
    [
        ("variant: vae, likelihood: gaussian, given: {name: gaussian, sigma: 0.1}", Spec(1, 20, 1, 0, "vector"), "given is for"),
        ("variant: vae, given: {name: grayscale}", Spec(8, 8, 1, 0), "gray already"),
        ("variant: autoregressive, given: {name: block, size: 9}", Spec(8, 8, 1, 0), "does not fit"),
    ],
)
def test_data_that_cannot_be_given_so_is_refused(text: str, spec: Spec, reason: str) -> None:
    objection = next(objection for objection in experiment(text).model.objections(spec) if objection.key == "given")
    assert reason in objection.message and objection.help


DATA = dataset(train=60, held_out=30)
MODELS = {
    "autoregressive": f"variant: autoregressive, net: gmlp, levels: 4, width: 8, layers: 1, patch: 2, {OUTLINE}",
    "vae": f"variant: vae, hidden: [12], latent: 3, {OUTLINE}",
}


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    run, _ = fit(tmp_path_factory.mktemp("runs"), experiment(MODELS[request.param], "steps: 30"), DATA)
    return load(run, "last", print)


def test_the_mode_shows_test_images_what_is_given_of_them_and_different_draws(trained: Trained) -> None:
    first, again, other = (
        MODES["translate"].show(Given(trained, lambda: DATA, 3, SampleRequest(seed=seed))).arrays for seed in (1, 1, 2)
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert first["image"].shape == (3, 8, 8, 1) and first["draws"].shape == (3, 8, 8, 8, 1)
    outline = corrupt(trained.model.given_corruptions, first["image"] / np.float32(255), jax.random.key(0))
    assert np.array_equal(first["given"], 255 * np.asarray(outline, np.uint8)) and str(first["corruption"]) == "outline 0.25"
    assert not np.array_equal(first["draws"][:, 0], first["draws"][:, 1])
    assert not np.array_equal(first["draws"], other["draws"])


def test_numbers_say_what_was_given(tmp_path: Path) -> None:
    from aecli.evaluation.request import EvalRequest

    run, _ = fit(tmp_path, experiment(MODELS["autoregressive"]), DATA)
    measured = evaluate_run(run, load(run, "last", print), DATA, EvalRequest(only=("objective", "likelihood")))
    assert {number.protocol["given_image"] for number in measured.metrics.values()} == {"outline 0.25"}


def test_a_run_goes_on_with_equal_bits_where_what_is_given_is_drawn(tmp_path: Path) -> None:
    text = "variant: autoregressive, net: gmlp, levels: 2, width: 8, layers: 1, heads: 2, given: {name: block, size: 3}"
    whole = experiment(text, "steps: 6, checkpoint_every: 3")
    _, straight = fit(tmp_path / "one", whole, DATA)
    run = new_run(tmp_path / "two", whole, DATA)
    go_on(run, experiment(text, "steps: 3, checkpoint_every: 3"), DATA)
    resumed = go_on(run, whole, DATA)
    for a, b in zip(jax.tree.leaves(straight.state), jax.tree.leaves(resumed.state), strict=True):
        assert np.array_equal(a, b)
