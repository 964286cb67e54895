"""Anomalies told from a run's own images: by each score, beside plain methods, and where the likelihood alone fails."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit, new_run, started, subject
from process import TINY, called

import aecli
from aecli.api import TrainedRun
from aecli.core.gaussian import Gaussian
from aecli.data.dataset import Dataset
from aecli.data.rows import ArrayRows
from aecli.errors import UsageError
from aecli.evaluation import cost, registry
from aecli.evaluation.evaluators import likelihood
from aecli.evaluation.importance import importance_bounds, top_bound
from aecli.evaluation.registry import SCORES, chosen, covers, evaluate, fits
from aecli.evaluation.request import OF_SAMPLES, EvalRequest
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric
from aecli.models.hvae import HvaeNet
from aecli.runs.state import init
from aecli.runs.trained import Trained, load
from aecli.system.placement import placement
from aecli.verbs.evaluate import evaluate_run
from aecli.verbs.other_data import Anomalies, open_anomalies

HVAE = "variant: hvae, hidden: 12, latent: 3, likelihood: discretized_logistic"


def shuffled(data: Dataset) -> Dataset:
    """The same pixels of each test image in another order."""
    images, labels = data.test.all()
    rng = np.random.default_rng(0)
    others = rng.permuted(images.reshape(len(images), -1), axis=1).reshape(images.shape)
    return dataclasses.replace(data, test=ArrayRows(others, labels), fingerprint="f" * 64)


def pair(model: str, data: Dataset, others: Dataset, **more: Any) -> Subject:
    e, state = started(model, data)
    against = subject(e.model, state, others, **more)
    return dataclasses.replace(subject(e.model, state, data, **more), against=against)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return dataset(train=300, held_out=40)


@pytest.mark.parametrize(
    ("model", "scores"),
    [
        (HVAE, {"objective", "likelihood", "reconstruction", "latent_distance"}),
        ("variant: autoregressive, net: made, hidden: [16], levels: 4", {"likelihood", "latent_distance"}),
        ("variant: bottleneck, hidden: [12], latent: 3", {"reconstruction", "latent_distance"}),
        ("variant: gan, latent: 3", set()),
    ],
    ids=["hvae", "autoregressive", "bottleneck", "gan"],
)
def test_a_model_is_measured_by_the_scores_that_it_is_able_to_give(model: str, scores: set[str], data: Dataset) -> None:
    ours = pair(model, data, dataset(train=300, held_out=25), samples=5)
    assert set(fits(ours.model, among=SCORES)) == scores and set(chosen(ours).names) == scores
    found, again = evaluate(ours, scores), evaluate(ours, scores)
    for score, findings in found.items():
        assert findings.metrics and findings.metrics == again[score].metrics, "two evaluations are equal"
        for name, metric in findings.metrics.items():
            assert any(covers(declared, name) for declared in SCORES[score].metrics)
            assert metric.value is not None and 0 <= metric.value <= 1 and metric.n == 65 and metric.better == "higher"
            assert metric.protocol["anomalous_share"] == 25 / 65 and all(0 <= each <= 1 for each in metric.baselines.values())
            assert "mean image" in metric.baselines and (metric.standard_error is not None) == name.endswith("auroc")
            assert metric.difference_errors.keys() == (metric.baselines.keys() if name.endswith("auroc") else set())
        for name, values in findings.values.items():
            assert len(values) == (25 if name.startswith("anomalous_") else 40) and np.isfinite(values).all()
    if "likelihood" in scores:
        assert ("likelihood_ratio_auroc" in found["likelihood"].metrics) == (model == HVAE)
        assert "length as PNG" in found["likelihood"].metrics["nll_less_complexity_auroc"].baselines


def test_gray_images_have_no_likelihood_under_a_bernoulli_one(data: Dataset) -> None:
    black = dataclasses.replace(data, test=ArrayRows(np.zeros((40, 8, 8, 1), np.uint8), np.zeros(40, np.int32)))
    for normal, anomalous, why in ((data, data, "set data.binarize"), (black, data, "of the anomalies the images are gray")):
        asked = chosen(pair("variant: vae, hidden: [12], latent: 3", normal, anomalous))
        assert asked.names == ("objective", "reconstruction", "latent_distance") and why in asked.notes[0]


def test_with_the_prior_for_a_posterior_the_ratio_is_none(monkeypatch: pytest.MonkeyPatch, data: Dataset) -> None:
    ours = pair(HVAE, data, data, samples=1)
    batch, key, _ = next(ours.batches())

    def gap() -> Any:
        whole = importance_bounds(ours.model, ours.state, batch, key, jnp.int32(1))["elbo_nats"]
        return -whole - top_bound(ours.model, ours.state, batch, key, jnp.int32(1))

    assert np.abs(gap()).max() > 0.1
    monkeypatch.setattr(HvaeNet, "posterior_z1", lambda self, seen, z2, dropout=None: self.prior_z1(z2))
    np.testing.assert_allclose(gap(), 0, atol=1e-3)


def test_the_top_bound_does_not_infer_the_lower_codes(monkeypatch: pytest.MonkeyPatch, data: Dataset) -> None:
    ours = pair(HVAE, data, data)
    batch, key, _ = next(ours.batches())
    bound = top_bound(ours.model, ours.state, batch, key, jnp.int32(3))
    unlike = Gaussian(jnp.full((256, 3), 5.0), jnp.zeros((256, 3)))
    monkeypatch.setattr(HvaeNet, "posterior_z1", lambda self, seen, z2, dropout=None: unlike)
    np.testing.assert_array_equal(top_bound(ours.model, ours.state, batch, key, jnp.int32(3)), bound)


def test_the_latent_distance_is_mahalanobis(data: Dataset) -> None:
    ours = pair("variant: bottleneck, hidden: [12], latent: 3", data, shuffled(data))
    found = evaluate(ours, ["latent_distance"])["latent_distance"]
    train, code = (registry.codes.features_without_labels(ours, split).astype(np.float64) for split in ("train", "test"))
    apart, covariance = code - train.mean(0), np.cov(train.T, bias=True)
    covariance += 1e-3 * np.diag(covariance).mean() * np.eye(3)
    expected = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(covariance), apart)
    np.testing.assert_allclose(found.values["latent_distance"], expected, rtol=1e-6)


def test_features_that_are_all_alike_have_a_distance(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = pair("variant: bottleneck, hidden: [12], latent: 3", data, data)
    monkeypatch.setattr(registry.codes, "features_without_labels", lambda each, split=None: np.ones((40, 3), np.float32))
    found = evaluate(ours, ["latent_distance"])["latent_distance"]
    assert found.metrics["latent_distance_auroc"].value == 0.5 and not found.values["latent_distance"].any()


def test_scores_that_are_no_numbers_have_no_area(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = pair("variant: autoregressive, net: made, hidden: [16], levels: 4", data, data)
    monkeypatch.setattr(likelihood, "values_of", lambda each: {"nll_nats": np.full(40, np.nan)})
    found = evaluate(ours, ["likelihood"])["likelihood"]
    assert found.metrics["nll_auroc"].value is None and "no numbers" in found.notes[0]


def test_what_costs_too_much_is_left_to_who_asks_for_it(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LARGEST_FLOP", 1.0)
    ours = pair(HVAE, data, data)
    assert set(chosen(ours).left_out) == {"likelihood", "latent_distance"}
    once = chosen(dataclasses.replace(ours, against=None)).left_out["likelihood"]
    assert chosen(ours).left_out["likelihood"] == 4 * once, "of two sets of images two bounds"
    asked = chosen(dataclasses.replace(ours, request=EvalRequest(also=OF_SAMPLES)))
    assert "likelihood" in asked.names and set(asked.left_out) == {"latent_distance"}


def textures(n: int, noise: float, seed: int) -> ArrayRows:
    """Images of one gray each with so much noise."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(90, 160, (n, 1, 1, 1)) + rng.normal(0, noise, (n, 8, 8, 1))
    return ArrayRows(images.round().clip(0, 255).astype(np.uint8), np.zeros(n, np.int32))


def test_simpler_images_are_likelier_and_their_complexity_tells_them(tmp_path: Path, data: Dataset) -> None:
    """The known failure: to a model of noisy textures smooth ones of the same grays are more probable than its own, once it has
    been trained. So is what the correction owes to complexity alone: its plain method is as good."""
    noisy = dataclasses.replace(data, train=textures(1000, 30, 0), validation=textures(50, 30, 1), test=textures(100, 30, 2))
    smooth = dataclasses.replace(noisy, test=textures(100, 4, 3))
    e = experiment("variant: autoregressive, net: made, hidden: [32], levels: 32", "steps: 100", "batch_size: 64")
    _, training = fit(tmp_path, e, noisy)
    first = init(e, noisy.spec, len(noisy.train), placement(64))

    def told(state: Any) -> Findings:
        ours, theirs = (subject(e.model, state, each) for each in (noisy, smooth))
        return evaluate(dataclasses.replace(ours, against=theirs), ["likelihood"])["likelihood"]

    found, untrained = told(training.state), told(first)
    nll, anomalous = found.values["nll_nats"], found.values["anomalous_nll_nats"]
    assert anomalous.mean() < nll.mean() - 10 and found.metrics["nll_auroc"].value < 0.1
    assert 0.3 < untrained.metrics["nll_auroc"].value < 0.7, "it is what the model has learned"
    corrected = found.metrics["nll_less_complexity_auroc"]
    assert corrected.value > 0.9 and corrected.baselines["shortness as PNG"] == 1 - corrected.baselines["length as PNG"] > 0.9


def test_an_interrupted_evaluation_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(held_out=300)
    run, _ = fit(tmp_path, experiment("variant: vae, hidden: [12], latent: 3, likelihood: gaussian", "steps: 2"), data)
    trained, others = load(run, "last", print), shuffled(data)
    anomalies = Anomalies("other", others.fingerprint, others)
    request = EvalRequest(only=("likelihood",), samples=5)
    whole = evaluate_run(run, trained, data, request, other=anomalies)
    made: list[int] = []
    original = likelihood.importance_sampled

    def counted(*arguments: Any) -> Any:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(len(made))
        return original(*arguments)

    monkeypatch.setattr(likelihood, "importance_sampled", counted)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, trained, data, request, other=anomalies)
    assert "the same command goes on" in capsys.readouterr().err
    unfinished = run.path / "eval" / f".test-against-{'f' * 12}.unfinished"
    assert (unfinished / "likelihood-1.npz").exists() and (unfinished / "anomalies" / "likelihood-0.npz").exists()
    made[:] = [0, 0]
    assert evaluate_run(run, trained, data, request, other=anomalies).metrics == whole.metrics, "one batch was left to make"
    assert len(made) == 3 and not unfinished.exists()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.yaml").write_text(TINY.replace("latent: 3", "latent: 3, likelihood: gaussian"))
    run = aecli.train(folder / "tiny.yaml", {"optimizer.learning_rate": 1e-2}, runs_dir=folder / "runs", name="plain")
    images, _ = run.data()
    rng = np.random.default_rng(0)
    apart = rng.permuted(images.reshape(297, 64), axis=1)[:200].reshape(-1, 8, 8)
    np.savez(folder / "shuffled.npz", image=images[:9], test_image=apart)
    np.savez(folder / "large.npz", image=np.zeros((20, 16, 16), np.uint8))
    np.save(folder / "x.npy", rng.normal(size=(200, 64)).astype(np.float32))
    (folder / "shuffled.yaml").write_text("data: {name: npz, path: shuffled.npz}\n")
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> TrainedRun:
    return aecli.load("plain", runs_dir=place / "runs")


def test_digits_of_shuffled_pixels_are_told_from_digits(place: Path, run: TrainedRun) -> None:
    words = ("eval", run.id, "--against", "shuffled.yaml", "--importance-samples", "10")
    done = called(*words, "--json", cwd=place)
    assert done.returncode == 0 and "are not those of the run" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert all(found[f"{score}_auroc"]["value"] > 0.95 for score in ("loss", "nll", "squared_error"))
    about = found["nll_auroc"]["protocol"]
    assert about["against"] == "shuffled.npz" and about["samples"] == 10 and about["split"] == "test"
    assert about["fingerprint"] != about["against_fingerprint"] and about["anomalous_share"] == pytest.approx(200 / 497)
    name = f"test-against-{about['against_fingerprint'][:12]}"
    assert json.loads((run.path / "eval" / f"{name}.json").read_text()) == found and f"{name}.json" in done.stderr
    assert float(run.numbers(name)["nll_auroc"]) == found["nll_auroc"]["value"]
    with np.load(run.path / "eval" / f"{name}-values.npz") as values:
        nll, anomalous = values["likelihood/nll_nats"], values["likelihood/anomalous_nll_nats"]
    np.testing.assert_allclose(nll, run.score(run.data().images, samples=10), rtol=1e-6)
    assert len(anomalous) == 200 and not (run.path / "eval" / "test.json").exists()
    again = run.evaluate(against=place / "shuffled.yaml", only="reconstruction")
    assert {name: number.value for name, number in again.items()} == {name: each["value"] for name, each in found.items()}
    told = called("show", run.id, cwd=place).stdout
    assert f"against shuffled.npz {about['against_fingerprint'][:12]}" in told


@pytest.mark.parametrize(
    ("text", "words", "code", "said"),
    [
        ("data: {name: npz, path: large.npz}", (), 3, "data.size: [8,8] resizes them"),
        ("data: {name: vectors, path: x.npy}", (), 3, "vectors"),
        ("data: {name: digits}", (), 2, "these are no anomalies"),
        ("data: {name: npz, path: nowhere.npz}", (), 3, "nowhere.npz"),
        ("data: [", (), 2, "wrong.yaml"),
        ("data: {name: npz, path: shuffled.npz}", ("--only", "nll"), 2, "there is no score of anomalies 'nll'"),
        ("data: {name: npz, path: shuffled.npz}", ("--data", "wrong.yaml"), 2, "--data and --against do not go together"),
        ("data: {name: npz, path: shuffled.npz, validation: 0}", ("--split", "validation"), 2, "has no validation split"),
    ],
)
def test_what_cannot_be_held_against_a_run_is_told(
    place: Path, run: TrainedRun, text: str, words: tuple[str, ...], code: int, said: str
) -> None:
    (place / "wrong.yaml").write_text(text + "\n")
    done = called("eval", run.id, "--against", "wrong.yaml", *words, cwd=place)
    assert done.returncode == code and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_anomalies_that_are_among_the_normal_images_are_told(place: Path, run: TrainedRun) -> None:
    (place / "again.yaml").write_text("data: {name: digits, classes: [3, 4]}\n")
    done = called("eval", run.id, "--against", "again.yaml", "--only", "reconstruction", cwd=place)
    n = int(np.isin(run.data().labels, (3, 4)).sum())
    assert f"{n} of the {n} anomalies are equal to images of the run's own test split" in done.stderr, done.stderr
    assert f"297 test examples and {n} anomalies, against digits of 3, 4" in done.stdout


def test_a_model_that_is_told_classes_it_has_not_seen_warns(place: Path) -> None:
    text = TINY.replace("latent: 3", "latent: 3, conditional: true").replace("batch_size: 32", "batch_size: 32, classes: [0, 1]")
    (place / "conditional.yaml").write_text(text)
    (place / "others.yaml").write_text("data: {name: digits, classes: [1, 2]}\n")
    other = aecli.train(place / "conditional.yaml", runs_dir=place / "runs")
    done = called("eval", other.id, "--against", "others.yaml", "--only", "reconstruction", cwd=place)
    assert done.returncode == 0 and "has trained on none of 2: its scores are of chance" in done.stderr, done.stderr


def test_areas_of_two_runs_stand_side_by_side(place: Path, run: TrainedRun) -> None:
    text = (place / "tiny.yaml").read_text().replace("latent: 3", "latent: 2")
    (place / "small.yaml").write_text(text)
    (place / "copy.npz").write_bytes((place / "shuffled.npz").read_bytes())
    (place / "copy.yaml").write_text("data: {name: npz, path: copy.npz}\n")
    other = aecli.train(place / "small.yaml", runs_dir=place / "runs")
    run.evaluate(against=place / "shuffled.yaml", only="objective,reconstruction")
    found = other.evaluate(against=place / "copy.yaml", only="objective")["loss_auroc"]
    name = f"test-against-{found.protocol['against_fingerprint'][:12]}"
    done = called("compare", run.id, other.id, "--split", name, "--format", "json", cwd=place)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    loss = next(metric for metric in told["metrics"] if metric["name"] == "loss_auroc")
    assert loss["better"] == "higher" and loss["groups"][1]["mean"] == float(found)
    assert "--against OTHER.yaml --only" in json.dumps(told["missing"])
    table = called("compare", run.id, other.id, "--split", name, cwd=place).stdout
    assert f"{name} of digits" in table and "the objective is each model's own" not in table


def test_a_model_that_gives_no_score_is_told(tmp_path: Path, data: Dataset) -> None:
    e, state = started("variant: gan, latent: 3", data)
    run = new_run(tmp_path, e, data)
    trained = Trained(e, data.spec, state, 0, placement(16))
    with pytest.raises(UsageError, match="'gan' gives no score"):
        open_anomalies(run, trained, data, EvalRequest(), tmp_path / "other.yaml")


def test_vectors_are_told_apart_by_what_is_about_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(2, 6))
    np.save(tmp_path / "x.npy", (rng.normal(size=(300, 2)) @ plane).astype(np.float32))
    np.save(tmp_path / "other.npy", rng.normal(size=(300, 6)).astype(np.float32))
    config = {"data": {"name": "vectors", "path": tmp_path / "x.npy", "batch_size": 32}, "train": {"steps": 100}}
    config |= {"model": {"variant": "vae", "likelihood": "gaussian", "latent": 2, "hidden": [16]}}
    (tmp_path / "other.yaml").write_text("data: {name: vectors, path: other.npy}\n")
    found = aecli.train(config, runs_dir=tmp_path / "runs").evaluate(against=tmp_path / "other.yaml", samples=10)
    assert "nll_auroc" in found and "nll_less_complexity_auroc" not in found
    assert found["squared_error_auroc"].baselines["PCA 2"] == 1.0 and "mean vector" in found["nll_auroc"].baselines


def test_errors_of_areas_are_over_blocks_of_images_that_are_not_independent(data: Dataset) -> None:
    """Where normal images, anomalies or both have such blocks."""
    ours = pair("variant: bottleneck, hidden: [12], latent: 3", data, dataset(train=300, held_out=25))
    assert ours.against is not None
    blocks, theirs = np.arange(40, dtype=np.int32) // 8, np.arange(25, dtype=np.int32) // 5

    def found(of: Subject) -> Metric:
        return evaluate(of, ["reconstruction"])["reconstruction"].metrics["squared_error_auroc"]

    def blocked(of: Subject, blocks: Any) -> Subject:
        return dataclasses.replace(of, dataset=dataclasses.replace(of.dataset, blocks={"test": blocks}))

    plain, one = found(ours), found(blocked(ours, blocks))
    both = found(dataclasses.replace(blocked(ours, blocks), against=blocked(ours.against, theirs)))
    assert plain.value == one.value == both.value and "error_over_blocks" not in plain.protocol
    assert one.protocol["error_over_blocks"] == 5 and both.protocol["error_over_blocks"] == 10
    assert len({plain.standard_error, one.standard_error, both.standard_error}) == 3
    assert both.difference_errors["PCA 3"] != plain.difference_errors["PCA 3"]
