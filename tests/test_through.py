"""Draws through a sampler, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit
from process import called

from aecli.core.abilities import ABILITIES
from aecli.evaluation.request import check_measured, options_of
from aecli.runs.trained import load
from aecli.sampling import samplers
from aecli.sampling.through import through

DIGITS = """\
data: {name: digits, batch_size: 32}
model: {variant: bottleneck, hidden: [16], latent: 3}
train: {steps: 40}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("through")
    (folder / "digits.yaml").write_text(DIGITS)
    trained = called("train", "digits.yaml", "--name", "plain", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    return folder


def numbers(place: Path, name: str) -> dict[str, Any]:
    (path,) = (place / "runs").glob(f"*/eval/{name}.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", ["gmm", "flow"])
def test_a_plain_autoencoder_draws_through_what_was_fitted_to_its_codes(tmp_path: Path, name: str) -> None:
    data = dataset(train=120)
    run, _ = fit(tmp_path, experiment("variant: bottleneck, latent: 3", "steps: 3"), data)
    trained: Any = load(run, "last", lambda line: None)
    fitted = samplers.fitted_of(run, trained, name, None, lambda: data.train, lambda line: None)
    model, state = through(trained.model, trained.state, fitted, is_image=True)
    assert [ability for ability, protocol in ABILITIES.items() if isinstance(model, protocol)] == ["samples"]
    assert model.is_conditional == (name == "flow")
    label = jnp.asarray(np.resize(fitted.classes or (0,), 20))
    drawn = np.asarray(model.sample(state, jax.random.key(3), label))
    code = fitted.draw(jax.random.key(3), label, 1.0)
    assert np.allclose(drawn, np.clip(trained.model.decode(trained.state, code, label), 0, 1), atol=1e-5)
    assert drawn.min() >= 0 and drawn.max() <= 1 and drawn.std(0).max() > 0


def test_numbers_of_a_sampler_stand_apart_from_those_of_another_and_are_compared(place: Path) -> None:
    for components in ("2", "3"):
        done = called("eval", "last", "--sampler", "gmm", "--components", components, "--skip", "augmentation", cwd=place)
        assert done.returncode == 0, done.stderr
    two, three = numbers(place, "test-by-gmm2"), numbers(place, "test-by-gmm3")
    assert two["frechet_distance"]["value"] != three["frechet_distance"]["value"]
    assert {metric["evaluator"] for metric in two.values()} == {"generation"}
    assert two["frechet_distance"]["protocol"]["sampler"] == "gmm2"
    assert two["frechet_distance"]["baselines"] == three["frechet_distance"]["baselines"], "of the same train images"
    again = called("eval", "last", "--sampler", "gmm", "--components", "2", "--skip", "augmentation", cwd=place)
    assert again.returncode == 0 and numbers(place, "test-by-gmm2") == two
    shown = called("compare", "last", "--split", "test-by-gmm2", cwd=place)
    assert shown.returncode == 0 and "frechet_distance" in shown.stdout
    asked = called("compare", "last", "--split", "test-by-gmm7", cwd=place)
    assert "--sampler gmm --components 7" in asked.stdout + asked.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sampler", "gm"), "did you mean 'gmm'"),
        (("--sampler", "vamp"), "cannot use --sampler vamp"),
        (("--components", "3"), "--components is for --sampler"),
        (("--sampler", "flow", "--components", "3"), "--components is for --sampler gmm"),
        (("--sampler", "gmm", "--only", "reconstruction"), "evaluators of draws: generation, augmentation"),
        (("--sampler", "gmm", "--only", "augmentation"), "not conditional"),
        (("--sampler", "gmm", "--data", "digits.yaml"), "do not go together"),
        (("--sampler", "gmm", "--against", "digits.yaml"), "do not go together"),
    ],
)
def test_what_no_sampler_can_be_asked_for_is_told(place: Path, words: tuple[str, ...], said: str) -> None:
    done = called("eval", "last", *words, cwd=place)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_what_numbers_of_draws_are_kept_as_says_how_they_are_measured() -> None:
    for name, words in {
        "test-by-flow": ["--sampler", "flow"],
        "validation-by-gmm12": ["--split", "validation", "--sampler", "gmm", "--components", "12"],
    }.items():
        check_measured(name)
        assert options_of(name) == words
