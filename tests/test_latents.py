"""Distributions fitted to codes, and images drawn through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from fit import dataset, experiment, fit

from aecli.data.dataset import Dataset
from aecli.errors import UsageError
from aecli.runs.trained import Trained, load
from aecli.sampling import samplers
from aecli.sampling.draws import from_sampler
from aecli.sampling.given import Given
from aecli.sampling.modes import check_mode
from aecli.sampling.request import SampleRequest

DATA = dataset(train=120)


def trained(folder: Path, model: str) -> Trained:
    run, _ = fit(folder, experiment(f"variant: {model}", "steps: 3"), DATA)
    return load(run, "last", lambda line: None)


def test_a_gaussian_has_the_moments_of_what_it_was_fitted_to(tmp_path: Path) -> None:
    ours = trained(tmp_path, "bottleneck, latent: 3")
    arrays = samplers.fit_gaussian(ours, DATA.train, 1, 0)
    codes = samplers._codes(ours, DATA.train, 0)
    assert np.allclose(arrays["means"][0], codes.mean(0), atol=1e-5)
    assert np.allclose(arrays["scale"][0] @ arrays["scale"][0].T, np.cov(codes, rowvar=False), atol=1e-4)
    drawn = np.asarray(samplers.draw_mixture(arrays, jax.random.key(0), 20_000, 1.0))
    assert np.allclose(drawn.mean(0), codes.mean(0), atol=0.05 * codes.std() + 0.01)
    assert np.allclose(np.cov(drawn, rowvar=False), np.cov(codes, rowvar=False), atol=0.05 * codes.var() + 0.01)


def test_a_mixture_draws_from_every_component_as_often_as_it_weighs() -> None:
    arrays = {
        "weights": np.array([0.25, 0.75], np.float32),
        "means": np.array([[-100.0, 0.0], [100.0, 1.0]], np.float32),
        "scale": np.stack([np.eye(2), 2 * np.eye(2)]).astype(np.float32),
    }
    drawn = np.asarray(samplers.draw_mixture(arrays, jax.random.key(0), 8000, 1.0))
    left = drawn[:, 0] < 0
    assert abs(left.mean() - 0.25) < 0.02
    assert abs(drawn[left].std(0) - 1).max() < 0.1 and abs(drawn[~left].std(0) - 2).max() < 0.1


@pytest.mark.parametrize(("model", "sampler"), [("bottleneck, latent: 3", "gmm"), ("vae, latent: 3, hidden: [8]", "vamp")])
def test_a_fit_is_kept_with_the_run_and_used_again(tmp_path: Path, model: str, sampler: str) -> None:
    ours = trained(tmp_path, model)
    told: list[str] = []

    def draw(train: Any, fingerprint: str = "of this data") -> Any:
        drawn = samplers.fitted(tmp_path / "samplers", ours, fingerprint, sampler, 4, train, told.append)
        return from_sampler(Given(ours, lambda: DATA, 6), drawn).arrays["image"]

    first = draw(lambda: DATA.train)
    assert first.shape == (6, 8, 8, 1) and len(told) == 1 and "4 components" in told[0]
    assert [path.name for path in (tmp_path / "samplers").iterdir()] == [f"{sampler}4-step3.npz"]

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


def test_codes_are_drawn_at_the_temperature_that_is_asked_for(tmp_path: Path) -> None:
    """At 0 all codes of one Gaussian are its mean."""
    ours = trained(tmp_path, "bottleneck, latent: 3")
    draw = samplers.fitted(tmp_path / "samplers", ours, "of this data", "gaussian", None, lambda: DATA.train, print)
    cold, warm = (
        from_sampler(Given(ours, lambda: DATA, 6, SampleRequest(temperature=t)), draw).arrays["image"] for t in (0.0, 1.0)
    )
    assert (cold == cold[0]).all() and (warm != warm[0]).any()


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
    with pytest.raises(UsageError, match="too long"):
        samplers.fit_gaussian(ours, DATA.train, 1, 0)
    with pytest.raises(UsageError, match="200 components for 120 codes"):
        samplers.fit_gmm(trained(tmp_path, "bottleneck, latent: 3"), DATA.train, 200, 0)


@pytest.mark.parametrize("fit", [samplers.fit_gaussian, samplers.fit_gmm])
def test_the_code_of_one_image_is_no_distribution(tmp_path: Path, fit: Any) -> None:
    with pytest.raises(UsageError, match="one train image"):
        fit(trained(tmp_path, "bottleneck, latent: 3"), DATA.train.part(0, 1), 1, 0)
