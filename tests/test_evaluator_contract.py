"""What must be true of every evaluator, whatever it measures, and of the names under which their numbers are kept."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import generate
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit, subject
from flax import nnx

from aecli.core.abilities import abilities
from aecli.core.contract import ContractError
from aecli.core.learner import Learner
from aecli.core.model import Batch, SingleLoss, Spec, Values
from aecli.data.dataset import Dataset
from aecli.evaluation import registry
from aecli.evaluation.evaluators import objective, translation
from aecli.evaluation.judges import classifier
from aecli.evaluation.registry import EVALUATORS, Evaluator, covers, evaluate, quick, registered
from aecli.evaluation.request import EvalRequest
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric, average, unit_of
from aecli.runs.state import init
from aecli.runs.trained import load
from aecli.system.placement import placement
from aecli.verbs.evaluate import evaluate_run

MODELS = {
    "objective": "variant: bottleneck, hidden: [12], latent: 3",
    "reconstruction": "variant: bottleneck, net: linear, latent: 3",
    "likelihood": "variant: vae, hidden: [12], latent: 3, likelihood: gaussian",
    "completion": "variant: autoregressive, net: made, hidden: [12], levels: 16",
    "sparsity": "variant: sparse, units: 30, k: 4",
    "pursuit": "variant: sparse, units: 30, k: 4",
    "codebook": "variant: vq, hidden: [4], codes: 8, dimension: 2, prior_width: 8, prior_layers: 1",
    "representation": "variant: bottleneck, hidden: [12], latent: 3",
    "clustering": "variant: denoising, hidden: [4, 6]",
    "denoising": "variant: bottleneck, hidden: [12], latent: 3",
    "classification": "variant: vae, hidden: [12], latent: 3, likelihood: gaussian, conditional: true",
    "translation": "variant: vae, hidden: [12], latent: 3, given: {name: downsample, factor: 2}",
    "generation": "variant: vae, hidden: [12], latent: 3",
    "augmentation": "variant: vae, hidden: [12], latent: 3, conditional: true",
}
"""For each evaluator a model that it can measure."""
FEW = {"samples": 5, "draws": 256, "per_class": 30}


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset(train=300, held_out=270)


@pytest.fixture(scope="module")
def few_steps() -> Iterator[None]:
    """Of classifiers that are trained to measure by them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "LEAST_STEPS", 20)
        yield


@pytest.fixture(scope="module", params=EVALUATORS)
def measured(request: pytest.FixtureRequest, data: Dataset, few_steps: None) -> tuple[str, Subject, Findings]:
    e = experiment(MODELS[request.param])
    ours = subject(e.model, init(e, data.spec, len(data.train), placement(16)), data, **FEW)
    assert EVALUATORS[request.param].cannot(ours) is None
    return request.param, ours, EVALUATORS[request.param].measure(ours)


def sizes(ours: Subject) -> tuple[int, ...]:
    """Of how many images a number may be."""
    return len(ours.rows), ours.request.draws, translation.IMAGES


UNPAIRED = {"xz"}
"""Baselines without a value for each image of the split."""
OTHER_IMAGES = {"train images"}
"""Baselines that are measured on images of their own: their error counts where the model's number has one."""
WITHOUT_VALUES = {"clustering"}
"""Evaluators whose numbers are no means over images, or not over the same ones."""
WITHOUT_SPREAD = ("diversity",)
"""A metric of draws, of which what restores an image has one alone."""


def test_every_evaluator_is_here() -> None:
    assert set(MODELS) == set(EVALUATORS)


def test_an_evaluator_measures_what_it_declares_and_all_numbers_are_finite(measured: tuple[str, Subject, Findings]) -> None:
    name, ours, found = measured
    assert found.metrics
    for key, metric in found.metrics.items():
        assert name == registry.OBJECTIVE or any(covers(declared, key) for declared in EVALUATORS[name].metrics), key
        assert np.isfinite(metric.value) and metric.n in sizes(ours) and metric.unit, key
        assert metric.standard_error is None or metric.standard_error >= 0, key
        assert all(np.isfinite(value) for value in metric.baselines.values()), key
        assert not metric.baselines or metric.better is not None, f"{key}: a baseline is better or worse"
        without = UNPAIRED if metric.standard_error is not None else UNPAIRED | OTHER_IMAGES
        paired = metric.baselines.keys() - without if name not in WITHOUT_VALUES and not key.startswith(WITHOUT_SPREAD) else set()
        assert metric.difference_errors.keys() == paired and all(error >= 0 for error in metric.difference_errors.values()), key
        json.dumps(metric.as_json(), allow_nan=False)


def test_the_text_of_an_evaluator_has_the_unit_and_the_direction_of_each_metric(measured: tuple[str, Subject, Findings]) -> None:
    name, _, found = measured
    told = generate.metrics_told(generate.docstring(inspect.getmodule(EVALUATORS[name].measure)))
    for key, metric in found.metrics.items():
        declared = next((each for each in EVALUATORS[name].metrics if covers(each, key)), None)
        same = told.get(key) or next((told[each] for each in told if declared and covers(declared, each)), None)
        if name != registry.OBJECTIVE or same:
            assert same == (metric.unit.partition(",")[0], metric.better), key


def test_values_are_one_for_each_image(measured: tuple[str, Subject, Findings]) -> None:
    _, ours, found = measured
    for key, values in found.values.items():
        assert len(values) in sizes(ours) and np.isfinite(values).all(), key


def test_measured_again_an_evaluator_finds_the_same(measured: tuple[str, Subject, Findings], data: Dataset) -> None:
    name, ours, found = measured
    again = EVALUATORS[name].measure(subject(ours.model, ours.state, data, **FEW))
    assert again.metrics == found.metrics and again.notes == found.notes


def test_names_are_unique_over_evaluators() -> None:
    registered(EVALUATORS)

    def measures(*names: str) -> Evaluator:
        return Evaluator("", objective.measure, names)

    for clash in ("psnr_db", "density_0.5", "dens*", "psnr_db (*"):
        with pytest.raises(ValueError, match="both measure"):
            registered({**EVALUATORS, "other": measures(clash)})
    registered({**EVALUATORS, "other": measures("psnr_dbx", "mmd", "total_*")})


def test_a_number_that_is_not_declared_is_refused(monkeypatch: pytest.MonkeyPatch, data: Dataset) -> None:
    rogue = Evaluator("", lambda _: Findings({"psnr_db": Metric(1.0, None, 1, "dB")}), ("mmd",))
    monkeypatch.setattr(registry, "EVALUATORS", {"rogue": rogue})
    e = experiment(MODELS["objective"])
    with pytest.raises(ValueError, match="'rogue' does not declare psnr_db"):
        evaluate(subject(e.model, None, data), ["rogue"])


def test_the_objective_yields_a_name_to_the_evaluator_that_measures_it(tmp_path: Path) -> None:
    data = dataset(train=60, held_out=30)
    run, _ = fit(tmp_path, experiment("variant: bottleneck, hidden: [12], latent: 3"), data)
    trained = load(run, "last", print)
    both = evaluate_run(run, trained, data, EvalRequest(only=("objective", "reconstruction"))).metrics
    assert both["loss"].evaluator == "objective" and both["mse"].evaluator == "reconstruction"
    again = evaluate_run(run, trained, data, EvalRequest(only=("objective",))).metrics
    assert again == both


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("rate_nats", "nats"),
        ("psnr_db", "dB"),
        ("mse", "intensity^2"),
        ("bits_per_dim", "bits"),
        ("angle_deg", "degrees"),
        ("x", "1"),
    ],
)
def test_a_unit_comes_from_the_name_unless_it_is_given(name: str, unit: str) -> None:
    assert unit_of(name) == unit == average(name, [1.0, 2.0]).unit and average(name, [1.0], unit="m").unit == "m"


class Net(nnx.Module):
    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.encoder, self.decoder = nnx.Linear(spec.size, 2, rngs=rngs), nnx.Linear(2, spec.size, rngs=rngs)


class OverASet(SingleLoss):
    """An autoencoder whose objective holds a distance of all codes from a normal distribution: here the square of their mean."""

    scale: float = 100.0

    def build(self, spec: Spec, rngs: nnx.Rngs) -> Net:
        return Net(spec, rngs=rngs)

    def loss(self, net: Net, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        x = batch.image.reshape(len(batch.image), -1)
        code = net.encoder(x)
        error = ((net.decoder(code) - x) ** 2).mean(axis=1)
        whole = 0.0 if step is None else self.scale * distance(code)
        return {"loss": error + whole, "mse": error}

    def encode(self, state: Learner[Net], batch: Batch) -> jax.Array:
        return state.net.encoder(batch.image.reshape(len(batch.image), -1))

    def measure_codes(self, codes: jax.Array, key: jax.Array) -> Values:
        return {"loss": self.scale * distance(codes), "distance": distance(codes)}


def distance(codes: jax.Array) -> jax.Array:
    return (codes.mean(axis=0) ** 2).sum()


def of_a_set(data: Dataset, **more: Any) -> Subject:
    e = experiment(MODELS["objective"]).model_copy(update={"model": OverASet(**more)})
    return subject(e.model, init(e, data.spec, len(data.train), placement(16)), data)


def test_an_objective_over_a_set_is_measured_of_the_whole_split_without_padding(data: Dataset) -> None:
    ours = of_a_set(data)
    assert len(ours.rows) == 270, "the second batch is padded, and a mean over batches would weigh its images more"
    x = jnp.asarray(data.test.all()[0].reshape(270, -1) / np.float32(255))
    net = ours.state.net
    expected = float(distance(net.encoder(x)))
    error = float(((net.decoder(net.encoder(x)) - x) ** 2).mean())
    found = objective.measure(ours).metrics
    assert found["distance"].value == pytest.approx(expected, rel=1e-4) and found["distance"].n == 270
    assert found["loss"].value == pytest.approx(error + 100 * expected, rel=1e-4) and found["loss"].standard_error is None
    assert found["mse"].value == pytest.approx(error, rel=1e-4) and found["mse"].standard_error is not None
    assert quick(ours)["loss"] == found["loss"], "the validations of a training see it too"
    assert "measures_codes" in abilities(ours.model)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda codes: {"distance": codes.mean(axis=0)}, "distance: an array of shape"),
        (lambda codes: {"loss": 0.0}, "loss: float"),
        (lambda codes: None, "measure_codes returned nothing"),
        (lambda codes: {"mse": codes.mean()}, "measure_codes and evaluate both return mse"),
    ],
)
def test_what_is_no_number_of_a_set_is_refused(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, returned: Any, message: str
) -> None:
    monkeypatch.setattr(OverASet, "measure_codes", lambda self, codes, key: returned(codes))
    with pytest.raises(ContractError, match=message):
        objective.measure(of_a_set(data, scale=2.0 + len(message)))  # another model, so that nothing compiled is taken
