"""No number may see what it is to predict: of noise with random labels nothing can be read but chance."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES
from compiled import first_state
from fit import experiment, fit, subject

from aecli.config import variants
from aecli.core.abilities import lacking
from aecli.core.learner import Recipe
from aecli.core.model import Spec
from aecli.core.optimizer import Optimizer
from aecli.data.dataset import Dataset
from aecli.data.rows import ArrayRows
from aecli.evaluation import codes
from aecli.evaluation.evaluators import clustering, representation
from aecli.evaluation.evaluators.representation import READERS

CONDITIONAL = [name for name, cls in variants.load_all().sound.items() if "conditional" in cls.model_fields]


ENCODING = [name for name in CONDITIONAL if not lacking(variants.load(name), ("encodes",))]
TINY = {
    "autoregressive": "net: made, hidden: [30], levels: 16",
    "hvae": "hidden: 24, latent: 6, likelihood: discretized_logistic",
    "vae": "hidden: [24], latent: 6",
    "vq": "hidden: [4], codes: 16, dimension: 2, prior_width: 4, prior_layers: 0",
}
"""Settings of those whose defaults take long; a variant that is not here is trained with its own."""


def trained() -> list[str]:
    return [f"variant: {name}, {TINY.get(name, '')}".strip(", ") for name in ENCODING]


def started() -> list[object]:
    """Every other setting of theirs that the suite knows."""
    cases = [case for case in CASES if case.text.split(",")[0].removeprefix("variant: ") in ENCODING and "-" in case.name]
    return [pytest.param(case.text.replace(", conditional: true", ""), id=case.name) for case in cases]


@pytest.fixture(scope="module")
def noise() -> Dataset:
    def rows(n: int, seed: int) -> ArrayRows:
        rng = np.random.default_rng(seed)
        return ArrayRows(rng.integers(0, 256, (n, 8, 8, 1), np.uint8), rng.integers(0, 3, n).astype(np.int32))

    return Dataset(Spec(8, 8, 1, 3), rows(300, 0), rows(60, 1), rows(300, 2), "device", "noise with random labels")


def test_every_conditional_variant_is_found() -> None:
    assert {"vae", "hvae", "vq", "autoregressive", "gan"} <= set(CONDITIONAL) and {*ENCODING, "gan"} >= set(CONDITIONAL)


def is_at_chance(model: Any, state: Any, noise: Dataset) -> None:
    ours = subject(model, state, noise, baselines=False)
    error = 3 * np.sqrt(1 / 3 * 2 / 3 / 300)
    read = representation.measure(ours).metrics
    for reader in READERS:
        metric = read[f"{reader}_accuracy"]
        assert metric.value == pytest.approx(1 / 3, abs=error), reader
        assert metric.protocol["codes"] == "label hidden"
    found = clustering.measure(ours).metrics
    assert abs(found["ari"].value or 0) < 0.03 and found["nmi"].value < 0.03 and found["nmi"].protocol["codes"] == "label hidden"


@pytest.mark.parametrize("text", trained(), ids=ENCODING)
def test_of_noise_with_random_labels_nothing_but_chance_is_read(tmp_path: Path, text: str, noise: Dataset) -> None:
    e = experiment(f"{text}, conditional: true", "steps: 40, eval_every: 1000", "batch_size: 60, validation: 60")
    _, training = fit(tmp_path, e, noise)
    is_at_chance(e.model, training.state, noise)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_no_reader_has_seen_what_it_is_measured_on(split: str, noise: Dataset) -> None:
    same = dataclasses.replace(noise, validation=noise.test)
    e = experiment("variant: bottleneck, net: linear, latent: 8")
    ours = subject(e.model, first_state(e.model, noise.spec, Recipe(Optimizer(), 100)), same, split=split, baselines=False)
    read = representation.measure(ours).metrics
    if split == "test":  # the same images, as others: readers that learn from validation know them by heart
        assert read["knn_accuracy"].value > 0.5
        return
    for reader in READERS:
        assert read[f"{reader}_accuracy"].value == pytest.approx(1 / 3, abs=3 * np.sqrt(1 / 3 * 2 / 3 / 300)), reader


@pytest.mark.parametrize("text", started())
def test_whatever_the_network_features_that_are_held_against_labels_are_made_without_them(text: str, noise: Dataset) -> None:
    """To the bit: other labels, equal codes."""
    model: Any = experiment(f"{text}, conditional: true").model
    state = first_state(model, noise.spec, Recipe(Optimizer(), 100))
    few = dataclasses.replace(noise, test=noise.test.part(0, 12))
    images, labels = few.test.all()
    other = dataclasses.replace(few, test=ArrayRows(images, (labels + 1) % 3))
    ours, theirs = (codes.features_without_labels(subject(model, state, data)) for data in (few, other))
    assert np.array_equal(ours, theirs)


def test_a_label_reaches_the_code_where_it_is_not_hidden(tmp_path: Path, noise: Dataset) -> None:
    """Or the test above could not fail."""
    e = experiment("variant: vae, hidden: [16], latent: 3, conditional: true", "steps: 1", "batch_size: 60, validation: 60")
    _, training = fit(tmp_path, e, noise)
    ours = subject(e.model, training.state, noise)
    other = dataclasses.replace(noise, test=ArrayRows(noise.test.all()[0], (noise.test.all()[1] + 1) % 3))
    theirs = subject(e.model, training.state, other)
    assert not np.allclose(codes.codes_of_split(ours), codes.codes_of_split(theirs))
    assert np.array_equal(codes.features_without_labels(ours), codes.features_without_labels(theirs))
