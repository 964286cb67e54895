"""Each evaluator where the right answer is known, and what an evaluation leaves behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit, started, subject
from test_bounds import probabilistic_pca

from aecli.core.model import Spec
from aecli.data.dataset import Dataset
from aecli.data.eval_batches import EVAL_BATCH
from aecli.data.rows import ArrayRows
from aecli.data.sources.factors import FACTORS, render
from aecli.errors import UsageError
from aecli.evaluation import codes, importance
from aecli.evaluation.evaluators import classification, clustering, likelihood, representation
from aecli.evaluation.journal import Journal
from aecli.evaluation.registry import EVALUATORS, Chosen, chosen, evaluate, fits
from aecli.evaluation.request import EvalRequest
from aecli.measures import probes
from aecli.measures.baselines import pixels
from aecli.measures.calibration import BINS, expected_calibration_error
from aecli.measures.disentanglement import dci, mutual_information_gap
from aecli.measures.metric import Findings, Metric, standard_error
from aecli.measures.probes import Labelled
from aecli.runs.trained import load
from aecli.verbs.evaluate import Watch, evaluate_run

VAE = "variant: vae, hidden: [12], latent: 3"


def binary(data: Dataset) -> Dataset:
    def cut(rows: Any) -> ArrayRows:
        return ArrayRows(np.where(rows.images > 100, 255, 0).astype(np.uint8), rows.labels)

    return dataclasses.replace(data, train=cut(data.train), validation=cut(data.validation), test=cut(data.test))


def test_the_bound_of_a_linear_vae_is_the_marginal_likelihood_within_its_error() -> None:
    model, state, batch, exact = probabilistic_pca(1.5)
    found = importance.importance_sampled(model, state, batch, jax.random.key(0), jnp.int32(5000))
    gap = np.asarray(found["nll_nats"]) + exact
    assert abs(gap.mean()) < 2 * gap.std(ddof=1) / 8 + 1e-3
    assert (found["elbo_nats"] > found["nll_nats"]).all() and (found["effective_samples"] < 5000).all()


def test_samples_that_are_no_multiple_of_a_chunk_are_counted_as_they_are() -> None:
    model, state, batch, exact = probabilistic_pca(1.0)
    for samples in (1, 7, 25):
        found = importance.importance_sampled(model, state, batch, jax.random.key(0), jnp.int32(samples))
        assert np.allclose(found["nll_nats"], -exact, atol=2e-3), "with the exact posterior every weight is p(x)"
        assert np.allclose(found["effective_samples"], samples, rtol=1e-2)


def test_a_likelihood_is_named_by_its_protocol_and_paired_with_the_floor() -> None:
    data = binary(dataset(held_out=40))
    rng = np.random.default_rng(0)
    gray = ArrayRows(rng.integers(0, 256, data.test.images.shape, np.uint8), data.test.labels)
    data = dataclasses.replace(data, drawn_from={"test": gray})
    e, state = started(VAE, data)
    found = likelihood.measure(subject(e.model, state, data, binarize="fixed", samples=20))
    nll, excess = found.metrics["nll_nats"], found.metrics["excess_nats"]
    assert nll.protocol == {"samples": 20, "bound": "importance-weighted", "levels": 2}
    assert nll.n == 40 and len(found.values["nll_nats"]) == 40 and "independent pixels" in nll.baselines
    floor = pixels.bernoulli_entropy(gray.images.reshape(40, -1) / 255).mean()
    assert excess.value == pytest.approx(nll.value - floor, rel=1e-5)
    assert found.metrics["elbo_nats"].value > nll.value


def test_a_bernoulli_likelihood_of_gray_images_is_refused_the_name() -> None:
    data = dataset(held_out=20)
    e, state = started(VAE, data)
    found = likelihood.measure(subject(e.model, state, data))
    assert "nll_nats" not in found.metrics and "BCE" in found.notes[0]
    e, state = started("variant: vae, hidden: [12], latent: 3, likelihood: gaussian", data)
    found = likelihood.measure(subject(e.model, state, data, samples=10))
    assert found.metrics["nll_nats"].unit.startswith("nats, of a density")


def test_an_exact_likelihood_comes_with_bits_and_what_others_need() -> None:
    data = dataset(held_out=20)
    e, state = started("variant: autoregressive, net: made, hidden: [8], levels: 256", data)
    found = likelihood.measure(subject(e.model, state, data))
    bits = found.metrics["bits_per_dim"]
    assert bits.value == pytest.approx(found.metrics["nll_nats"].value / (64 * np.log(2)), rel=1e-5)
    assert set(bits.baselines) == {"pixel histograms", "xz"} and found.metrics["nll_nats"].protocol["exact"] is True


def test_bits_are_counted_per_value_of_an_image_in_colour_too() -> None:
    data = dataset(held_out=20, size=(4, 4, 3))
    e, state = started("variant: autoregressive, net: made, hidden: [8], levels: 256", data)
    found = likelihood.measure(subject(e.model, state, data, baselines=False)).metrics
    assert found["bits_per_dim"].value == pytest.approx(found["nll_nats"].value / (48 * np.log(2)), rel=1e-5)


def test_a_collapsed_posterior_is_reported() -> None:
    data = binary(dataset(held_out=40))
    e, state = started(VAE, data)
    found = likelihood.measure(subject(e.model, state, data, samples=2))
    assert found.metrics["active_units"].value == 3 and not any("inactive" in note or "collapse" in note for note in found.notes)
    flat = jax.tree.map(lambda x: x, state)
    last = flat.params["encoder"]["mlp"]["layers"][1]
    last["kernel"][...] = jnp.zeros_like(last["kernel"][...])
    found = likelihood.measure(subject(e.model, flat, data, samples=2))
    assert found.metrics["active_units"].value == 0 and found.metrics["inactive_fraction"].value == 1
    assert any("posterior collapse" in note for note in found.notes)


def test_probes_read_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 900).astype(np.int32)
    known = (np.eye(3)[label] + 0.1 * rng.standard_normal((900, 3))).astype(np.float32)
    noise = rng.standard_normal((900, 3)).astype(np.float32)

    def parts(x: Any) -> list[Labelled]:
        return [Labelled(x[part], label[part]) for part in (slice(0, 500), slice(500, 700), slice(700, 900))]

    assert probes.logistic(*parts(known)).right.mean() > 0.99 and probes.nearest(*parts(known)).right.mean() > 0.99
    assert probes.ridge(*parts(known)[::2]).mean() > 0.99
    assert 0.15 < probes.logistic(*parts(noise)).right.mean() < 0.52


def test_a_probe_is_chosen_without_the_images_that_it_is_measured_on() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 560).astype(np.int32)
    features = (np.eye(2)[label] @ rng.standard_normal((2, 30)) / 3 + rng.standard_normal((560, 30))).astype(np.float32)
    train, validation, held_out = (Labelled(features[p], label[p]) for p in (slice(60), slice(60, 360), slice(360, 560)))
    right, wrong = (probes.logistic(train, validation, held_out._replace(label=y)) for y in (held_out.label, 1 - held_out.label))
    assert right.choice == wrong.choice and np.array_equal(right.right, ~wrong.right)


def test_a_tie_between_neighbours_goes_to_the_nearest() -> None:
    known = Labelled(np.array([[0.0], [1.0], [2.1], [3.0]], np.float32), np.array([0, 1, 1, 0], np.int32))
    votes = probes._votes(known, np.array([[0.4], [2.6]], np.float32))
    assert votes[1].tolist() == [0, 0] and votes[3].tolist() == [1, 1]


def test_representation_stands_beside_pixels_and_pca() -> None:
    data = dataset(train=120, held_out=30)
    e, state = started("variant: bottleneck, hidden: [12], latent: 3", data)
    ours = subject(e.model, state, data)
    assert codes.cannot(ours) is None
    found = representation.measure(ours)
    for name in ("linear_probe_accuracy", "knn_accuracy", "ridge_accuracy"):
        metric = found.metrics[name]
        assert set(metric.baselines) == {"raw pixels", "PCA 3"} and metric.n == 30 and metric.better == "higher"
    unlabelled = dataclasses.replace(data, spec=data.spec._replace(classes=0))
    assert "no labels" in str(codes.cannot(subject(e.model, state, unlabelled)))


def test_readers_and_clusters_are_of_so_many_images_of_each_class_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset()
    e, state = started(VAE, data)
    of = subject(e.model, state, data)
    monkeypatch.setattr(probes, "MOST_FITTED", 30)
    monkeypatch.setattr(probes, "MOST_CHOOSING", 9)
    monkeypatch.setattr(clustering, "MOST_CLUSTERED", 12)
    fitted: list[Labelled] = []

    def logistic(train: Labelled, validation: Labelled, held_out: Labelled) -> probes.Reading:
        fitted.extend((train, validation, held_out))
        return read(train, validation, held_out)

    read = probes.logistic
    monkeypatch.setattr(probes, "logistic", logistic)
    found = representation.measure(of).metrics["linear_probe_accuracy"]
    assert found.protocol["train_images"] == 30 and found.protocol["labels"] == "of each class its share"
    assert found.n == len(data.test)
    pixels_of = fitted[3]
    whole = np.concatenate(list(of.images("train")))
    assert len(pixels_of.label) == 30 and set(pixels_of.label) == set(data.train.labels)
    where = [int(np.flatnonzero((whole == row).all(1))[0]) for row in pixels_of.features]
    assert where == sorted(where) and (data.train.labels[where] == pixels_of.label).all(), "with the labels that are theirs"
    assert len(fitted[4].label) == min(9, len(data.validation))
    assert clustering.measure(of).metrics["nmi"].n == 12


def test_images_come_in_pieces_of_any_size() -> None:
    data = dataset()
    e, state = started(VAE, data)
    of = subject(e.model, state, data)
    whole = np.concatenate(list(of.images("train")))
    for size in (1, 5, 16, len(whole), 1000):
        pieces = list(of.pieces(size, "train"))
        assert {len(piece) for piece in pieces[:-1]} <= {size} and np.array_equal(np.concatenate(pieces), whole)
    index = np.array([0, 3, len(whole) - 1])
    assert np.array_equal(of.chosen("train", index), whole[index]) and of.chosen("train", index[:0]).shape == (0, whole.shape[1])


def test_a_code_of_the_factors_is_disentangled_and_a_mixed_one_is_not() -> None:
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, n, 1500) for n in (3, 4, 5)], axis=1)
    code = factors + 0.01 * rng.standard_normal(factors.shape)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    assert mutual_information_gap(code, factors) > 0.9 > 0.5 > mutual_information_gap(code @ turn, factors)
    apart = dci(code[:1000], factors[:1000], code[1000:], factors[1000:])
    mixed = dci((code @ turn)[:1000], factors[:1000], (code @ turn)[1000:], factors[1000:])
    assert min(apart) > 0.9 and mixed[0] < 0.5 and mixed[1] < 0.5


def test_units_weigh_by_how_much_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of importances that are given: two units that stand for a factor each, and one that says a little of both."""
    import sklearn.ensemble

    importance = iter([np.array([0.8, 0.0, 0.2]), np.array([0.0, 0.6, 0.4])])

    class Reader:
        def __init__(self, *settings: Any, **more: Any) -> None:
            self.feature_importances_ = next(importance)

        def fit(self, code: Any, factor: Any) -> Any:
            return self

        def score(self, code: Any, factor: Any) -> float:
            return 0.75

    monkeypatch.setattr(sklearn.ensemble, "RandomForestClassifier", Reader)
    factors = np.zeros((4, 2), int)
    disentanglement, completeness, accuracy = dci(np.zeros((4, 3)), factors, np.zeros((4, 3)), factors)
    both = 1 + (np.log2(1 / 3) / 3 + 2 * np.log2(2 / 3) / 3)
    assert disentanglement == pytest.approx(0.4 * 1 + 0.3 * 1 + 0.3 * both)
    entropy = -np.array([0.8 * np.log(0.8) + 0.2 * np.log(0.2), 0.6 * np.log(0.6) + 0.4 * np.log(0.4)]) / np.log(3)
    assert completeness == pytest.approx(1 - entropy.mean()) and accuracy == 0.75


def test_the_factors_of_shapes_are_read_off_the_images() -> None:
    from aecli.data.sources import factors

    rng = np.random.default_rng(0)
    drawn = [[int(rng.integers(n)) for n in FACTORS.values()] for _ in range(20)]
    rows = ArrayRows(np.stack([render(*values) for values in drawn])[..., None], np.zeros(20, np.int32))
    assert factors.of(rows).tolist() == [[v[0], v[1], v[3], v[4]] for v in drawn]
    assert factors.of(dataset().test) is None


def test_corruptions_are_restored_beside_filters() -> None:
    data = dataset(train=60, held_out=20)
    e, state = started(
        "variant: denoising, net: mlp, hidden: [12], corruption: [{name: block, size: 4}, {name: gaussian, sigma: 0.1}]", data
    )
    found = EVALUATORS["denoising"].measure(subject(e.model, state, data))
    name = "block 4 + gaussian 0.1"
    assert set(found.metrics) == {f"{metric} ({name})" for metric in ("psnr_db", "ssim", "hidden_psnr_db")}
    assert set(found.metrics[f"psnr_db ({name})"].baselines) == {"corrupted", "corrupted, clipped", "affine, clipped"}
    assert found.metrics[f"hidden_psnr_db ({name})"].standard_error, "of the few hidden pixels of each image"
    e, state = started("variant: bottleneck, hidden: [12], latent: 3", data)
    found = EVALUATORS["denoising"].measure(subject(e.model, state, data))
    noisy = found.metrics["psnr_db (gaussian 0.25)"].baselines
    assert noisy["corrupted"] == pytest.approx(-20 * np.log10(0.25), abs=0.3)
    assert noisy["Wiener, clipped"] > noisy["corrupted, clipped"] > noisy["corrupted"]
    assert "bicubic" in found.metrics["psnr_db (downsample 2)"].baselines
    assert "mean fill" in found.metrics["hidden_psnr_db (masking 0.5)"].baselines


@pytest.mark.parametrize("text", ["variant: vae, hidden: [16], latent: 2", "variant: hvae, hidden: 16, latent: 2"])
def test_classes_by_bayes_rule_are_right_where_a_model_has_learned_them(tmp_path: Path, text: str) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 400).astype(np.int32)
    images = np.zeros((400, 6, 6, 1), np.uint8)
    for i, y in enumerate(label):
        images[i, 2 * y : 2 * y + 2] = 255 * (rng.uniform(size=(2, 6, 1)) < 0.9)
    rows = ArrayRows(images, label)
    data = Dataset(Spec(6, 6, 1, 3), rows.part(0, 300), rows.part(300, 300), rows.part(300, 400), "device", "stripes")
    e = experiment(f"{text}, conditional: true", "steps: 200", "batch_size: 40, validation: 0, binarize: dynamic")
    _, training = fit(tmp_path, e, data)
    found = EVALUATORS["classification"].measure(subject(e.model, training.state, data, samples=100))
    assert found.metrics["bayes_accuracy"].value > 0.95 > found.metrics["bayes_accuracy"].baselines["commonest class"]
    assert found.metrics["label_nll_nats"].value < 0.3


def test_the_calibration_error_is_the_mean_gap_of_fifteen_bins() -> None:
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.uniform(0.1, 1, 500), [0.0, 1.0, 1 / 15, 0.2]])
    right = rng.random(504) < confidence**2
    total = 0.0
    for b in range(BINS):
        low, high = b / BINS, (b + 1) / BINS
        inside = [(c, r) for c, r in zip(confidence, right, strict=True) if low < c <= high or (b == 0 and c == 0)]
        if inside:
            total += abs(sum(r for _, r in inside) - sum(c for c, _ in inside)) / 504
    assert expected_calibration_error(confidence, right) == pytest.approx(total)
    sure = np.full(1000, 0.8)
    assert expected_calibration_error(sure, np.arange(1000) < 800) == pytest.approx(0)
    assert expected_calibration_error(sure, np.zeros(1000)) == pytest.approx(0.8)


def test_bayes_rule_weighs_classes_as_often_as_they_are_in_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images that say nothing: the commonest class of the train split is read off all of them, however rare it is here."""
    data, counts = dataset(train=40, held_out=20), np.array([30, 9, 1])
    train = ArrayRows(data.train.images, np.repeat([0, 1, 2], counts).astype(np.int32))
    test = ArrayRows(data.test.images, np.repeat([0, 1], [5, 15]).astype(np.int32))
    data = dataclasses.replace(data, train=train, test=test)
    monkeypatch.setattr(classification, "_log_prob", lambda *arguments: jnp.zeros(EVAL_BATCH))
    model = experiment("variant: vae, hidden: [8], latent: 2, conditional: true").model
    found = classification.measure(subject(model, None, data)).metrics
    assert found["bayes_accuracy"].value == 0.25 == found["bayes_accuracy"].baselines["commonest class"]
    surprise = -np.log((counts + 0.5) / (counts + 0.5).sum())
    assert found["label_nll_nats"].value == pytest.approx(surprise @ [0.25, 0.75, 0])


@pytest.mark.parametrize(
    ("of_pixels", "is_binary", "unit"),
    [("bernoulli", False, None), ("bernoulli", True, "nats"), ("gaussian", False, "nats, of a density on [0, 1]")],
)
def test_a_likelihood_given_the_label_is_one_where_there_is_one(of_pixels: str, is_binary: bool, unit: str | None) -> None:
    """Of gray images a Bernoulli likelihood is a cross-entropy; a density is never held against a probability."""
    data = binary(dataset(held_out=20)) if is_binary else dataset(held_out=20)
    e, state = started(f"variant: vae, hidden: [8], latent: 2, conditional: true, likelihood: {of_pixels}", data)
    ours = subject(e.model, state, data, samples=10)
    found = EVALUATORS["classification"].measure(ours)
    nll = found.metrics["nll_given_label_nats"]
    assert np.isfinite(found.metrics["bayes_accuracy"].value)
    if unit is None:
        assert nll.value is None and nll.note and "cross-entropy" in nll.note and "nll_given_label_nats" not in found.values
        return
    assert nll.unit == unit and nll.value == pytest.approx(found.values["nll_given_label_nats"].mean())
    of_images = EVALUATORS["likelihood"].measure(ours).metrics
    assert {of_images["nll_nats"].unit, of_images["elbo_nats"].unit} == {unit} and of_images["effective_samples"].unit == "1"


def test_every_evaluator_is_chosen_by_ability_and_says_why_not() -> None:
    data = dataset()
    e, state = started("variant: gan, hidden: [16]", data)
    assert fits(e.model) == ("objective", "generation", "augmentation")

    def asked(**request: Any) -> Chosen:
        return chosen(subject(e.model, state, data, **request))

    names, left_out, notes = asked()
    assert names == ("objective",) and not left_out and "too few" in notes[0]
    with pytest.raises(UsageError, match="lacks the ability 'encodes'"):
        asked(only=("representation",))
    with pytest.raises(UsageError, match="too few"):
        asked(only=("generation",))
    with pytest.raises(UsageError) as caught:
        asked(skip=("objektive",))
    assert "did you mean 'objective'" in caught.value.render()
    assert asked(skip=("objective",)).names == ()


def test_an_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = binary(dataset(held_out=700))
    e, state = started(VAE, data)
    names, polled = ("objective", "likelihood"), []

    def stop_in_the_middle() -> None:
        polled.append(0)
        if len(polled) == 9:  # three batches each: before the third of the likelihood, which looked for gray pixels first
            raise KeyboardInterrupt

    def ours(poll: Any) -> Any:
        return subject(e.model, state, data, samples=5, journal=Journal(tmp_path / "unfinished", {"samples": 5}), poll=poll)

    with pytest.raises(KeyboardInterrupt):
        evaluate(ours(stop_in_the_middle), names)
    kept = sorted(path.name for path in (tmp_path / "unfinished").glob("*.npz"))
    assert kept == ["found-objective.npz", "likelihood-0.npz", "likelihood-1.npz"]
    again = evaluate(ours(lambda: None), names)
    whole = evaluate(subject(e.model, state, data, samples=5), names)
    assert {name: f.metrics for name, f in again.items()} == {name: f.metrics for name, f in whole.items()}
    Journal(tmp_path / "unfinished", {"samples": 6})
    assert not list((tmp_path / "unfinished").glob("*.npz")), "work under another protocol is of no use"


def test_an_unfinished_evaluation_is_of_no_use_to_one_with_other_settings(tmp_path: Path) -> None:
    data = dataset(held_out=300)
    run, _ = fit(tmp_path, experiment(f"{VAE}, likelihood: gaussian", "steps: 2"), data)
    trained = load(run, "last", print)

    def stop_after_a_batch(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_run(run, trained, data, EvalRequest(only=("likelihood",), samples=5), Watch(tell=stop_after_a_batch))
    assert (run.path / "eval" / ".test.unfinished" / "likelihood-0.npz").exists()
    after, anew = (evaluate_run(run, trained, data, EvalRequest(only=("likelihood",), samples=7)).metrics for _ in range(2))
    assert after == anew and after["nll_nats"].protocol["samples"] == 7


def test_numbers_are_kept_with_the_run_beside_those_of_other_evaluators(tmp_path: Path) -> None:
    data = dataset(train=120, held_out=30)
    run, _ = fit(tmp_path, experiment("variant: bottleneck, hidden: [12], latent: 3"), data)
    trained = load(run, "last", print)
    first = evaluate_run(run, trained, data, EvalRequest(only=("objective", "reconstruction")))
    second = evaluate_run(run, trained, data, EvalRequest(only=("reconstruction",)))
    assert second.metrics == first.metrics
    stored = json.loads((run.path / "eval" / "test.json").read_text())
    assert stored == {name: recorded.as_json() for name, recorded in second.metrics.items()} and set(
        stored["loss"]["protocol"]
    ) >= {"split", "step", "seed", "version", "fingerprint"}
    assert stored["mse"]["baselines"].keys() == {"mean image", "PCA 3"}
    with np.load(run.path / "eval" / "test-values.npz") as values:
        assert values["reconstruction/mse"].mean() == pytest.approx(stored["mse"]["value"], rel=1e-5)
        assert "objective/loss" in values.files
    assert not (run.path / "eval" / ".test.unfinished").exists()


def test_a_sparse_code_is_held_to_as_many_components_as_it_has_active_units() -> None:
    data = dataset(train=120, held_out=30)
    e, state = started("variant: sparse, units: 100, k: 4", data)
    ours = subject(e.model, state, data)
    assert EVALUATORS["sparsity"].measure(ours).metrics["l0"].value == 4
    found = EVALUATORS["reconstruction"].measure(ours).metrics
    assert "PCA 4" in found["mse"].baselines and "pca_gap" not in found


def test_a_linear_autoencoder_is_held_to_pca_by_gap_and_angle() -> None:
    data = dataset(train=120, held_out=30)
    e, state = started("variant: bottleneck, net: linear, latent: 3", data)
    ours = subject(e.model, state, data)
    found = EVALUATORS["reconstruction"].measure(ours).metrics
    assert found["pca_gap"].value > 0.1 and 10 < found["principal_angle_deg"].value <= 90
    pca, params = ours.pca, jax.tree.map(lambda x: x, state.params)
    assert pca is not None
    encoder, decoder = (params[part]["mlp"]["layers"][0] for part in ("encoder", "decoder"))
    encoder["kernel"][...] = jnp.asarray(pca.components[:3].T, jnp.float32)
    encoder["bias"][...] = jnp.asarray(-pca.mean @ pca.components[:3].T, jnp.float32)
    decoder["kernel"][...] = jnp.asarray(pca.components[:3], jnp.float32)
    decoder["bias"][...] = jnp.asarray(pca.mean, jnp.float32)
    at_best = subject(e.model, dataclasses.replace(state, params=params), data)
    found = EVALUATORS["reconstruction"].measure(at_best).metrics
    assert abs(found["pca_gap"].value) < 1e-4 and found["principal_angle_deg"].value < 0.1
    e, state = started("variant: bottleneck, hidden: [12], latent: 3", data)
    assert "pca_gap" not in EVALUATORS["reconstruction"].measure(subject(e.model, state, data)).metrics


def test_the_share_that_is_explained_varies_as_it_does_over_images() -> None:
    """Both its totals do: what is left of the images, and how far they are from their mean."""
    data = dataset(train=60, held_out=300)
    e, state = started("variant: bottleneck, net: linear, latent: 3", data)
    ours = subject(e.model, state, data)
    found = EVALUATORS["reconstruction"].measure(ours)
    share = found.metrics["explained_variance"]
    images, train = (np.concatenate(list(ours.images(split))).astype(np.float64) for split in ("test", "train"))
    left = {"": 64 * found.values["mse"], "mean image": ((images - train.mean(0)) ** 2).sum(1)}

    def explained(rows: Any) -> tuple[float, float]:
        about = ((images[rows] - images[rows].mean(0)) ** 2).sum()
        mine, theirs = (1 - each[rows].sum() / about for each in left.values())
        return mine, mine - theirs

    assert explained(np.arange(300)) == pytest.approx((share.value, share.value - share.baselines["mean image"]), rel=1e-4)
    rng = np.random.default_rng(0)
    drawn = np.std([explained(rng.integers(0, 300, 300)) for _ in range(1000)], axis=0)
    assert share.standard_error == pytest.approx(drawn[0], rel=0.1)
    assert share.difference_errors["mean image"] == pytest.approx(drawn[1], rel=0.1)


def test_the_best_baseline_is_the_one_to_beat() -> None:
    metric = Metric(0.5, 0.1, 9, "1", "lower", {"a": 0.4, "b": 0.3})
    assert metric.best_baseline() == ("b", 0.3)
    assert metric._replace(better="higher").best_baseline() == ("a", 0.4)
    assert metric._replace(better=None).best_baseline() is None
    assert Findings({"x": metric}).notes == ()


def test_errors_of_images_that_are_not_independent_are_by_their_blocks() -> None:
    """The numbers are the same, and the blocks are kept beside the values, by which runs are compared."""
    data = dataset()
    e, state = started("variant: denoising, net: mlp, hidden: [8], latent: 4, corruption: {name: gaussian, sigma: 0.2}", data)
    blocks = np.arange(16, dtype=np.int32) // 4
    holes, filling = started("variant: denoising, net: mlp, hidden: [8], latent: 4, corruption: {name: masking, p: 0.5}", data)
    of_blocks = dataclasses.replace(data, blocks={"test": blocks})
    found = EVALUATORS["denoising"].measure(subject(holes.model, filling, of_blocks))
    pooled = found.metrics["hidden_psnr_db (masking 0.5)"]
    assert pooled.protocol["error_over_blocks"] == 4 and pooled.standard_error and pooled.difference_errors
    for name, metric, value in (
        ("reconstruction", "mse", "mse"),
        ("denoising", "ssim (gaussian 0.2)", "ssim (gaussian 0.2)"),
        ("objective", "loss", "loss"),
        ("representation", "ridge_accuracy", "ridge"),
    ):
        plain, blocked = (
            evaluate(subject(e.model, state, dataclasses.replace(data, blocks=each)), [name])[name]
            for each in ({}, {"test": blocks})
        )
        found = blocked.metrics[metric]
        assert found.value == plain.metrics[metric].value and "blocks" not in plain.values
        assert found.standard_error == pytest.approx(standard_error(plain.values[value], blocks))
        assert found.standard_error != plain.metrics[metric].standard_error
        told = "error_over_blocks"
        assert found.protocol[told] == 4 and told not in plain.metrics[metric].protocol
        assert np.array_equal(blocked.values["blocks"], blocks)
