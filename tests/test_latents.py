"""Distributions fitted to codes, and images drawn through them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit

from aecli.core.model import Spec
from aecli.data.dataset import Dataset
from aecli.data.rows import ArrayRows, LabelledRows
from aecli.errors import UsageError
from aecli.runs.trained import Trained, load
from aecli.sampling import flow_matching, samplers
from aecli.sampling.draws import by_class, neighbours, prior
from aecli.sampling.given import Given
from aecli.sampling.modes import MODES, check_drawn, check_mode
from aecli.sampling.request import SampleRequest
from aecli.verbs.sample import check_request

DATA = dataset(train=120)
SHORT = flow_matching.FlowRecipe(width=16, blocks=1, steps=20)


def trained(folder: Path, model: str) -> Trained:
    run, _ = fit(folder, experiment(f"variant: {model}", "steps: 3"), DATA)
    return load(run, "last", lambda line: None)


def test_a_gaussian_has_the_moments_of_what_it_was_fitted_to(tmp_path: Path) -> None:
    ours = trained(tmp_path, "bottleneck, latent: 3")
    arrays = samplers.fit_gaussian(ours, DATA.train, 1, 0)
    codes, _ = samplers._codes(ours, DATA.train, 0)
    assert np.allclose(arrays["means"][0], codes.mean(0), atol=1e-5)
    assert np.allclose(arrays["scale"][0] @ arrays["scale"][0].T, np.cov(codes, rowvar=False), atol=1e-4)
    drawn = np.asarray(samplers.draw_mixture(arrays, jax.random.key(0), jnp.zeros(20_000, int), 1.0))
    assert np.allclose(drawn.mean(0), codes.mean(0), atol=0.05 * codes.std() + 0.01)
    assert np.allclose(np.cov(drawn, rowvar=False), np.cov(codes, rowvar=False), atol=0.05 * codes.var() + 0.01)


def test_a_mixture_draws_from_every_component_as_often_as_it_weighs() -> None:
    arrays = {
        "weights": np.array([0.25, 0.75], np.float32),
        "means": np.array([[-100.0, 0.0], [100.0, 1.0]], np.float32),
        "scale": np.stack([np.eye(2), 2 * np.eye(2)]).astype(np.float32),
    }
    drawn = np.asarray(samplers.draw_mixture(arrays, jax.random.key(0), jnp.zeros(8000, int), 1.0))
    left = drawn[:, 0] < 0
    assert abs(left.mean() - 0.25) < 0.02
    assert abs(drawn[left].std(0) - 1).max() < 0.1 and abs(drawn[~left].std(0) - 2).max() < 0.1


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained in seconds, where only that it is trained matters."""
    monkeypatch.setattr(flow_matching, "RECIPE", SHORT)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_a_fit_is_kept_with_the_run_and_used_again(tmp_path: Path, sampler: str) -> None:
    ours = trained(tmp_path, "vae, latent: 3, hidden: [8]")
    counted = samplers.SAMPLERS[sampler].components is not None
    told: list[str] = []

    def draw(train: Any, fingerprint: str = "of this data") -> Any:
        components = 4 if counted else None
        drawn = samplers.fitted(tmp_path / "samplers", ours, fingerprint, sampler, components, train, told.append)
        return prior(Given(ours, lambda: DATA, 6, fitted=drawn)).arrays["image"]

    first = draw(lambda: DATA.train)
    assert first.shape == (6, 8, 8, 1) and len(told) == 1 and ("4 components" in told[0]) == counted
    assert [path.name for path in (tmp_path / "samplers").iterdir()] == [f"{sampler}{'4' * counted}-step3.npz"]

    def never() -> Dataset:
        raise AssertionError("the fit is there")

    assert np.array_equal(draw(never), first) and len(told) == 1
    assert np.array_equal(draw(lambda: DATA.train, "of other data"), first) and len(told) == 2, "a fit is for one data set"
    with pytest.raises(AssertionError, match="the fit is there"):
        draw(never)
    [file] = (tmp_path / "samplers").glob("*.npz")
    whole = file.read_bytes()
    for damaged in (
        b"",
        whole[: len(whole) // 2],
        b"PK" + whole[3:],
        bytes([whole[0] ^ 1]) + whole[1:],
        whole[:90] + b"?" + whole[91:],
    ):
        file.write_bytes(damaged)
        assert np.array_equal(draw(lambda: DATA.train, "of other data"), first)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("sampler", ["gaussian", "flow"])
def test_codes_are_drawn_at_the_temperature_that_is_asked_for(tmp_path: Path, sampler: str) -> None:
    """At 0 all codes of one Gaussian are its mean, and all those of a class where noise ends."""
    ours = trained(tmp_path, "bottleneck, latent: 3")
    drawn = samplers.fitted(tmp_path / "samplers", ours, "of this data", sampler, None, lambda: DATA.train, print)
    cold, warm = (prior(Given(ours, lambda: DATA, 6, SampleRequest(temperature=t), drawn)).arrays["image"] for t in (0.0, 1.0))
    assert (cold[3:] == cold[:3]).all() and (warm[3:] != warm[:3]).any()
    assert sampler == "flow" or (cold == cold[0]).all()


def test_what_a_model_cannot_do_names_what_would_work(tmp_path: Path) -> None:
    model = experiment("variant: bottleneck, latent: 3").model
    with pytest.raises(UsageError) as caught:
        check_mode(model, "prior")
    assert "--sampler gaussian or gmm" in str(caught.value.render()) and "vae" in caught.value.render()
    with pytest.raises(UsageError, match="lacks the ability 'infers'"):
        samplers.check(model, "vamp")
    with pytest.raises(UsageError) as caught:
        samplers.check(model, "gmn")
    assert "gmm" in caught.value.render()
    assert samplers.fits(experiment("variant: autoregressive").model) == ()


def test_codes_too_long_for_a_covariance_are_refused(tmp_path: Path) -> None:
    ours = trained(tmp_path, "sparse, units: 600")
    for fit_ in (samplers.fit_gaussian, samplers.fit_gmm, samplers.fit_flow):
        with pytest.raises(UsageError, match="too long"):
            fit_(ours, DATA.train, 1, 0)
    with pytest.raises(UsageError, match="200 components for 120 codes"):
        samplers.fit_gmm(trained(tmp_path, "bottleneck, latent: 3"), DATA.train, 200, 0)


@pytest.mark.parametrize("fit", [samplers.fit_gaussian, samplers.fit_gmm, samplers.fit_flow])
def test_the_code_of_one_image_is_no_distribution(tmp_path: Path, fit: Any) -> None:
    with pytest.raises(UsageError, match="one train image"):
        fit(trained(tmp_path, "bottleneck, latent: 3"), DATA.train.part(0, 1), 1, 0)


@pytest.mark.usefixtures("short")
def test_modes_that_show_new_images_show_those_of_a_sampler(tmp_path: Path) -> None:
    """Of a model with neither a distribution nor classes of its own; a flow tells classes apart, a Gaussian does not."""
    ours = trained(tmp_path, "bottleneck, latent: 3")

    def given(sampler: str, data: Dataset = DATA) -> Given:
        folder = tmp_path / f"{data.fingerprint}"
        fitted = samplers.fitted(folder, ours, data.fingerprint, sampler, None, lambda: data.train, lambda line: None)
        return Given(ours, lambda: data, 4, fitted=fitted)

    shown = by_class(given("flow")).arrays
    assert shown["image"].shape == (12, 8, 8, 1) and shown["label"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert prior(given("flow")).arrays["label"].tolist() == [0, 1, 2, 0] and "label" not in prior(given("gaussian")).arrays
    assert np.array_equal(neighbours(given("gaussian")).arrays["image"], prior(given("gaussian")).arrays["image"])
    unlabelled = dataclasses.replace(DATA, train=LabelledRows(DATA.train, np.full(120, -1, np.int32)), fingerprint="unlabelled")
    assert prior(given("flow", unlabelled)).arrays["image"].shape == (4, 8, 8, 1)
    with pytest.raises(UsageError, match="none of the train images has a label"):
        by_class(given("flow", unlabelled))


def test_a_class_that_cannot_be_drawn_is_refused_beforehand() -> None:
    plain, conditional = (experiment(f"variant: {m}").model for m in ("bottleneck", "vae, conditional: true"))
    check_drawn(plain, "class", "flow", DATA.spec)
    check_drawn(conditional, "class", "gaussian", DATA.spec)
    check_drawn(plain, "neighbours", "gmm", DATA.spec)
    with pytest.raises(UsageError, match="knows of no classes") as caught:
        check_drawn(plain, "class", "gmm", DATA.spec)
    assert caught.value.help == "--sampler flow"
    with pytest.raises(UsageError, match="no labels"):
        check_drawn(plain, "class", "flow", DATA.spec._replace(classes=0))
    with pytest.raises(UsageError, match="shows images"):
        check_drawn(plain, "neighbours", "flow", Spec(1, 8, 1, 3, "vector"))
    with pytest.raises(UsageError, match="it is for --mode prior, class, neighbours"):
        check_request(SampleRequest("reconstruct", "flow"))
    for request in (SampleRequest(components=3), SampleRequest(sampler="flow", components=3)):
        with pytest.raises(UsageError, match="--components is for --sampler gmm, vamp"):
            check_request(request)


def test_a_flow_draws_of_the_classes_that_it_has_seen_alone(tmp_path: Path) -> None:
    ours = trained(tmp_path, "bottleneck, latent: 3")
    images, labels = DATA.train.all()
    of_one = ArrayRows(np.asarray(images)[labels == 1], np.asarray(labels)[labels == 1])
    fitted = samplers.fitted(tmp_path / "samplers", ours, "of this data", "flow", None, lambda: of_one, lambda line: None)
    given = Given(ours, lambda: DATA, 7, fitted=fitted)
    assert ours.spec.classes > 1 and fitted.classes == given.classes == (1,)
    assert MODES["prior"].show(given).arrays["label"].tolist() == [1] * 7


def test_a_conditional_model_draws_of_the_classes_that_it_was_trained_on(tmp_path: Path) -> None:
    e = experiment("variant: vae, hidden: [8], latent: 2, conditional: true", "steps: 3", "batch_size: 16, classes: [1]")
    ours = load(fit(tmp_path, e, DATA)[0], "last", lambda line: None)
    assert ours.spec.classes > 1 and ours.classes == (1,)
    assert MODES["prior"].show(Given(ours, lambda: DATA, 4)).arrays["label"].tolist() == [1] * 4
    assert len(MODES["class"].show(Given(ours, lambda: DATA, 4)).arrays["label"]) == 4
