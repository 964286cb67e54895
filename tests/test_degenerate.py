"""Where there is no true number there is none, and a note says why; what can be measured is measured all the same."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit, subject
from process import SOAK, called

from aecli.config.schema import Data
from aecli.core.model import Batch, Spec
from aecli.data.dataset import Dataset, open_dataset, subset
from aecli.data.rows import ArrayRows
from aecli.data.sources import factors
from aecli.evaluation import registry
from aecli.evaluation.codes import features_without_labels
from aecli.evaluation.evaluators import classification, generation
from aecli.evaluation.registry import EVALUATORS, evaluate
from aecli.evaluation.request import EvalRequest
from aecli.measures import disentanglement
from aecli.measures.metric import CAP_DB, EXACT, VERSION, Metric, Recorded, average, psnr_db, psnr_per_image_db, version_of
from aecli.measures.probes import Labelled, logistic, nearest
from aecli.models.bottleneck import Bottleneck
from aecli.runs import numbers
from aecli.runs.directory import Run
from aecli.runs.state import init
from aecli.runs.trained import load
from aecli.sampling.request import SampleRequest
from aecli.system.placement import placement
from aecli.verbs.evaluate import evaluate_run
from aecli.verbs.sample import sample_run

RNG = np.random.default_rng(0)


def with_images(images: Any) -> Dataset:
    """The same images in every split."""
    rows = ArrayRows(images, RNG.integers(0, 3, len(images)).astype(np.int32))
    return Dataset(Spec(*images.shape[1:], 3), rows, rows, rows, "device", f"images {images.sum()} {len(images)}")


CONSTANT = with_images(np.full((40, 8, 8, 1), 77, np.uint8))
RANDOM = with_images(RNG.integers(0, 256, (40, 8, 8, 1), np.uint8))


class Makes(Bottleneck):
    """Makes of an image itself, brighter by `off`."""

    off: float = 0.0

    def reconstruct(self, state: Any, batch: Batch) -> jax.Array:
        return batch.image + self.off


class Gray(Bottleneck):
    """Makes the same of every image."""

    def reconstruct(self, state: Any, batch: Batch) -> jax.Array:
        return jnp.full_like(batch.image, 0.25)


def of(model: Any, data: Dataset, name: str = "reconstruction") -> dict[str, Metric]:
    """Finite numbers of one evaluator, as they would be written; those without a value say why."""
    e = experiment("variant: bottleneck, net: linear, latent: 3")
    found = evaluate(subject(model, init(e, data.spec, 40, placement(16)), data), [name])[name]
    json.dumps({key: metric.as_json() for key, metric in found.metrics.items()}, allow_nan=False)
    for key, metric in found.metrics.items():
        assert (metric.value is None) == (metric.note is not None)
        assert metric.value is not None or any(key in note for note in found.notes), key
    return dict(found.metrics)


def test_a_perfect_copy_has_no_ratio_to_its_error() -> None:
    found = of(Makes(net="linear", latent=3), RANDOM)
    assert found["mse"].value == found["mae"].value == 0 and found["explained_variance"].value == 1
    assert found["ssim"].value == pytest.approx(1, abs=1e-5)
    for name in ("psnr_db", "psnr_per_image_db"):
        assert found[name].value is None and found[name].note == EXACT and found[name].protocol["cap_db"] == CAP_DB


def test_what_no_picture_would_show_costs_nothing() -> None:
    white = with_images(np.where(RNG.uniform(size=(40, 8, 8, 1)) < 0.5, 255, 254).astype(np.uint8))
    found = of(Makes(net="linear", latent=3, off=0.5), white)
    assert found["mse"].value == pytest.approx((white.test.all()[0] == 254).mean() / 255**2, rel=1e-3)


def test_images_that_are_all_alike_have_no_variance_to_explain() -> None:
    found = of(Gray(net="linear", latent=3), CONSTANT)
    assert found["mse"].value == pytest.approx((77 / 255 - 0.25) ** 2, rel=1e-4) and "psnr_db" in found
    assert found["explained_variance"].value is None and "alike" in str(found["explained_variance"].note)
    assert found["psnr_db"].baselines["mean image"] == CAP_DB, "which is the better one"
    assert of(Gray(net="linear", latent=3), RANDOM)["explained_variance"].value < 0.1


def test_a_linear_model_of_images_that_are_all_alike_has_no_gap_and_no_angle() -> None:
    found = of(experiment("variant: bottleneck, net: linear, latent: 3").model, CONSTANT)
    for name in ("pca_gap", "principal_angle_deg", "explained_variance"):
        assert found[name].value is None, name
    assert "exactly" in str(found["pca_gap"].note) and "directions" in str(found["principal_angle_deg"].note)
    line = with_images(np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8))
    found = of(experiment("variant: bottleneck, net: linear, latent: 3").model, line)
    assert found["principal_angle_deg"].value is None and found["explained_variance"].value is not None


@pytest.mark.parametrize("data", [CONSTANT, RANDOM], ids=["constant", "random"])
def test_restored_images_that_are_met_exactly_have_no_ratio(data: Dataset) -> None:
    class Known(Bottleneck):
        def reconstruct(self, state: Any, batch: Batch) -> jax.Array:
            return jnp.full_like(batch.image, 77 / 255)

    found = of(Known(net="linear", latent=3), data, "denoising")
    ratios = {key: metric for key, metric in found.items() if "psnr_db" in key}
    assert ratios and all((metric.value is None) == (data is CONSTANT) for metric in ratios.values())


def test_ratios_have_one_cap() -> None:
    exact, tiny, small = (psnr_db(Metric(mse, 0.0, 9, "", "lower", {"PCA": 0.0})) for mse in (0.0, 1e-13, 1e-9))
    assert exact.value is tiny.value is None and exact.note == tiny.note == EXACT and small.value == pytest.approx(90)
    assert small.baselines == {"PCA": CAP_DB}
    assert psnr_per_image_db(np.full(3, CAP_DB)).value is None and psnr_per_image_db([CAP_DB, 20.0]).value == 60


def test_a_number_that_is_not_finite_is_none() -> None:
    for value in (np.nan, np.inf, -np.inf):
        metric = Metric(float(value), 1.0, 3, "1", None, {"a": 0.5, "b": float(value)}, {"of": float(value)}).finite()
        assert (
            metric.value is metric.standard_error is None and metric.baselines == {"a": 0.5} and metric.protocol == {"of": None}
        )
        assert "not finite" in str(metric.note)
    assert average("x", [1.0, np.inf]).finite().value is None
    assert Metric(1.0, float("inf"), 3, "1").finite() == Metric(1.0, None, 3, "1")


def test_a_number_without_a_value_is_kept_as_it_is() -> None:
    metric = Metric(None, None, 3, "dB", "higher", {"PCA": 20.0}, {}, "why")
    assert Recorded.from_json(json.loads(json.dumps(Recorded(metric, "x").as_json()))) == Recorded(metric, "x")
    whole = Recorded(metric._replace(value=1.0, note=None), "x")
    assert "note" not in whole.as_json() and Recorded.from_json(whole.as_json()) == whole, "as older versions wrote it"


def compared(real: Any, drawn: Any) -> dict[str, Metric]:
    return {name: each.metric for name, each in generation._compare(real, drawn).items()}


def test_draws_that_are_all_alike_are_compared_with_nothing() -> None:
    real, two = RNG.standard_normal((300, 8)).astype(np.float32), np.repeat(RNG.standard_normal((2, 8)), 150, axis=0)
    for sets in ((real, np.repeat(real[:1], 300, axis=0)), (np.repeat(real[:1], 300, axis=0), real)):
        assert {metric.value for metric in compared(*sets).values()} == {None}
        assert all("alike" in str(metric.note) for metric in compared(*sets).values())
    found = compared(real, two.astype(np.float32))
    assert found["recall"].value is None and "no radius" in str(found["recall"].note)
    assert found["precision"].value is not None and found["frechet_distance"].value is not None
    found = compared(two.astype(np.float32), real)
    assert [found[name].value for name in ("precision", "density", "coverage")] == [None] * 3 and found[
        "recall"
    ].value is not None
    assert None not in {metric.value for metric in compared(real, RNG.standard_normal((300, 8))).values()}


LABELS = {
    "one member": lambda n: np.arange(n) == n - 1,
    "one class": lambda n: np.zeros(n),
    "none": lambda n: np.full(n, -1),
    "some hidden": lambda n: np.arange(n) % 4 - 1,
    "sorted": lambda n: np.sort(np.arange(n) % 3),
}
ACCURACIES = ("linear_probe_accuracy", "knn_accuracy", "ridge_accuracy")


def labelled(train: Any, validation: Any, test: Any) -> Dataset:
    data = dataset(train=len(train), held_out=len(test))
    rows = (
        ArrayRows(part.all()[0][: len(label)], np.asarray(label).astype(np.int32))
        for part, label in zip((data.train, data.validation, data.test), (train, validation, test), strict=True)
    )
    name = f"labels {[*map(int, train)]} {[*map(int, validation)]} {[*map(int, test)]}"
    return Dataset(data.spec, *rows, "device", name)


def read(data: Dataset) -> tuple[dict[str, Metric], tuple[str, ...]]:
    e = experiment("variant: bottleneck, net: linear, latent: 3")
    ours = subject(e.model, init(e, data.spec, 40, placement(16)), data)
    found = evaluate(ours, ["representation", "clustering"])
    metrics = {**found["representation"].metrics, **found["clustering"].metrics}
    for metric in metrics.values():
        assert (metric.value is None) == (metric.note is not None) and (metric.value is None or -1 <= metric.value <= 1)
    return metrics, found["representation"].notes


@pytest.mark.parametrize(
    ("of_train", "of_test"),
    [(a, b) for i, a in enumerate(LABELS) for j, b in enumerate(LABELS) if SOAK or (j - i) % len(LABELS) in (0, 1)],
)
def test_probes_survive_whatever_labels_there_are(of_train: str, of_test: str) -> None:
    metrics, _ = read(labelled(LABELS[of_train](48), LABELS["one member"](8), LABELS[of_test](16)))
    readable = of_train not in ("one class", "none") and of_test != "none"
    assert all((metrics[name].value is not None) == readable for name in ACCURACIES)
    assert (metrics["nmi"].value is not None) == (of_test not in ("one class", "none"))


def test_classes_of_one_image_are_read_without_a_word_of_a_library() -> None:
    features = RNG.standard_normal((30, 3)).astype(np.float32)
    part = Labelled(features, np.minimum(np.arange(30), 19))
    assert logistic(part, part, part).right.shape == nearest(part, part, part).right.shape == (30,)


def test_a_class_that_occurs_in_test_alone_counts_as_wrong_and_is_told() -> None:
    metrics, notes = read(labelled(np.arange(48) % 2, np.arange(8) % 2, np.full(16, 2)))
    assert [metrics[name].value for name in ACCURACIES] == [0, 0, 0]
    assert any("16 of the 16 images" in note for note in notes)


def test_a_probe_without_a_validation_split_is_chosen_on_a_tenth_of_train_in_any_order() -> None:
    metrics, notes = read(labelled(LABELS["sorted"](48), [], np.arange(16) % 3))
    assert metrics["ridge_accuracy"].protocol["train_images"] == 44 and not notes
    metrics, _ = read(labelled([0, 1, 1], [], np.arange(16) % 3))
    assert metrics["knn_accuracy"].value is not None, "fewer images than neighbours"


def test_images_without_a_label_are_classified_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled(np.arange(48) % 4 - 1, np.arange(8) % 2, np.arange(16) % 4 - 1)
    monkeypatch.setattr(classification, "_log_prob", lambda m, s, b, k, y, n: jnp.where(b.label == y, 0.0, -50.0))
    model = experiment("variant: vae, hidden: [8], latent: 2, conditional: true").model
    found = classification.measure(subject(model, None, data))
    assert found.metrics["bayes_accuracy"].value == 1 and found.metrics["bayes_accuracy"].n == 12 and not found.notes


def test_images_of_classes_that_were_kept_from_the_model_are_classified_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of other data that has them, in which all classes of train are told from each other."""
    data = dataclasses.replace(labelled(np.arange(48) % 2, np.arange(8) % 2, np.arange(16) % 4), kept=(0, 1))
    monkeypatch.setattr(classification, "_log_prob", lambda m, s, b, k, y, n: jnp.where(b.label == y, 0.0, -50.0))
    model = experiment("variant: vae, hidden: [8], latent: 2, conditional: true").model
    found = classification.measure(subject(model, None, data))
    number = found.metrics["label_nll_nats"]
    assert number.n == 8 and number.value == pytest.approx(0)
    assert number.baselines == {"class frequencies": pytest.approx(np.log(2))}
    assert any("8 images of classes" in note for note in found.notes)
    none = dataclasses.replace(data, test=labelled([0, 1], [0], np.full(16, 3)).test)
    assert "no class that the model" in str(classification.cannot(subject(model, None, none)))


def test_constant_codes_are_clustered_without_a_word_of_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    e = experiment("variant: bottleneck, net: linear, latent: 3")
    data = dataset(train=60, held_out=30)
    state = jax.tree.map(jnp.zeros_like, init(e, data.spec, 40, placement(16)))
    found = evaluate(subject(e.model, state, data), ["clustering", "representation"])
    assert found["clustering"].metrics["nmi"].value == found["clustering"].metrics["ari"].value == 0
    assert any("1 of 3 clusters" in note for note in found["clustering"].notes)
    assert all(0.1 < found["representation"].metrics[name].value < 0.6 for name in ACCURACIES)


def test_factors_that_do_not_vary_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images of one shape, and of one image many times."""
    monkeypatch.setattr(disentanglement, "TREES", 5)
    data = subset(open_dataset(Data(name="shapes", classes=("ellipse",))), 200, 100)
    train, held_out = factors.of(data.train), factors.of(data.test)
    assert train is not None and held_out is not None
    assert list(disentanglement.varying(train)) == list(disentanglement.varying(held_out)) == [False, True, True, True]
    e = experiment("variant: bottleneck, net: linear, latent: 3")
    of = subject(e.model, init(e, data.spec, 40, placement(16)), data)
    found = evaluate(of, ["clustering"])["clustering"].metrics
    code = [features_without_labels(of, split) for split in ("train", "test")]
    assert found["mig"].value == disentanglement.mutual_information_gap(code[1], held_out[:, 1:])
    read = disentanglement.dci(code[0], train[:, 1:], code[1], held_out[:, 1:])
    assert [found[f"dci_{name}"].value for name in read._fields] == list(read)
    assert all(found[name].protocol["factors"] == ["scale", "x", "y"] for name in ("mig", "dci_completeness"))
    same = dataclasses.replace(data, test=ArrayRows(*data.test.take(np.zeros(5, int))))
    one = evaluate(subject(e.model, of.state, same), ["clustering"])["clustering"].metrics
    assert one["mig"].value is one["dci_completeness"].value is None and "no factor varies" in (one["mig"].note or "")


def test_codes_that_tell_nothing_are_not_disentangled() -> None:
    varied = np.stack([np.arange(60) % 3, np.arange(60) % 2], axis=1)
    flat = disentanglement.dci(np.zeros((60, 2)), varied, np.zeros((60, 2)), varied)
    assert flat.disentanglement is flat.completeness is None and 0 < flat.informativeness < 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Dataset]:
    data = dataset(train=60, held_out=30)
    run, _ = fit(tmp_path_factory.mktemp("runs"), experiment("variant: bottleneck, hidden: [12], latent: 3"), data)
    return run, load(run, "last", print), data


def test_what_is_measured_is_what_the_picture_shows(trained: tuple[Any, Any, Dataset]) -> None:
    run, model, data = trained
    measured = evaluate_run(run, model, data, EvalRequest(only=("reconstruction",))).metrics
    files = sample_run(run, model, lambda: data, SampleRequest("reconstruct", n=30))
    with np.load(next(file for file in files if file.suffix == ".npz")) as shown:
        image, made = (shown[name].astype(np.float64) / 255 for name in ("image", "reconstruction"))
    assert measured["mse"].metric.value == pytest.approx(((image - made) ** 2).mean(), rel=1e-3)
    assert measured["mae"].metric.value == pytest.approx(np.abs(image - made).mean(), rel=1e-3)
    last = [row for row in run.rows() if row.split == "validation"][-1]
    alone = evaluate_run(run, model, data, EvalRequest("validation", only=("objective",))).metrics
    assert "loss" in alone and "mse" not in alone, "of one name there is one number"
    own = evaluate_run(run, model, data, EvalRequest("validation", only=("reconstruction",))).metrics
    assert last.values["mse"] == pytest.approx(own["mse"].metric.value, rel=1e-5)


def test_one_evaluators_failure_costs_its_own_numbers_alone(
    trained: tuple[Any, Any, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, model, data = trained
    asked = EvalRequest(only=("reconstruction", "clustering", "objective"))
    before = evaluate_run(run, model, data, asked)
    assert "nmi" in before.metrics and not before.failed

    def broken(_: Any) -> Any:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(registry, "EVALUATORS", {**EVALUATORS, "clustering": EVALUATORS["clustering"]._replace(measure=broken)})
    after = evaluate_run(run, model, data, asked)
    assert [*after.failed] == ["clustering"] and isinstance(after.failed["clustering"], ZeroDivisionError)
    assert after.metrics == {key: metric for key, metric in before.metrics.items() if metric.evaluator != "clustering"}
    stored = json.loads((run.path / "eval" / "test.json").read_text())
    assert stored.keys() == after.metrics.keys(), "numbers of before do not stand as if they were measured now"
    for kind in (KeyboardInterrupt, OSError(28, "no space left on device")):

        def stop(_: Any, kind: Any = kind) -> Any:
            raise kind

        monkeypatch.setattr(registry, "EVALUATORS", {**EVALUATORS, "clustering": EVALUATORS["clustering"]._replace(measure=stop)})
        with pytest.raises((KeyboardInterrupt, OSError)):
            evaluate_run(run, model, data, asked)


def test_numbers_of_an_older_version_are_told(trained: tuple[Any, Any, Dataset], tmp_path: Path) -> None:
    run, model, data = trained
    run = Run(shutil.copytree(run.path, tmp_path / run.id))
    info = json.loads((run.path / "run.json").read_text())
    del info["experiment"]
    (run.path / "run.json").write_text(json.dumps(info))
    file = run.path / "eval" / "validation.json"
    measured = evaluate_run(run, model, data, EvalRequest("validation", only=("objective",)))
    old = {"psnr_db": measured.metrics["loss"].as_json() | {"evaluator": "reconstruction"}}
    old["psnr_db"]["protocol"] = old["psnr_db"]["protocol"] | {"version": VERSION - 1}
    file.write_text(json.dumps(old))
    (file.parent / ".validation.seal.json").unlink()  # older versions wrote no seals
    again = evaluate_run(run, model, data, EvalRequest("validation", only=("objective",)))
    assert "psnr_db" not in again.metrics and any(f"version {VERSION - 1} of the metrics" in note for note in again.notes)
    assert version_of(metric["protocol"] for metric in old.values()) == VERSION - 1
    assert version_of([]) is version_of([{"a": 3}, {"version": "2"}]) is None


def test_numbers_that_somebody_edited_go(trained: tuple[Any, Any, Dataset], capsys: pytest.CaptureFixture[str]) -> None:
    run, model, data = trained
    file = run.path / "eval" / "validation.json"
    whole = evaluate_run(run, model, data, EvalRequest("validation", only=("objective", "reconstruction"))).metrics
    assert numbers.read(file.parent, "validation", run.info().identity, values=True).values.keys() >= {"reconstruction/mse"}
    edited = json.loads(file.read_text())
    edited["ssim"]["value"] = 0.999
    file.write_text(json.dumps(edited))
    assert numbers.read(file.parent, "validation", run.info().identity).wrong is not None
    again = evaluate_run(run, model, data, EvalRequest("validation", only=("objective",))).metrics
    assert "ssim" in whole and "ssim" not in again
    assert "they are not what aecli wrote of this run; set aside as validation.json.damaged" in capsys.readouterr().err
    assert json.loads(file.with_name("validation.json.damaged").read_text()) == edited


def test_a_failed_evaluator_is_named_in_a_line_and_the_verb_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(__file__).parent / "old_runs", tmp_path, dirs_exist_ok=True)
    [run] = [path.name for path in (tmp_path / "runs").glob("folder-*")]

    def broken(_: Any) -> Any:
        raise ZeroDivisionError("float division by zero\nand more")

    failing = EVALUATORS["clustering"]._replace(measure=broken, cannot=lambda _: None)
    monkeypatch.setattr(registry, "EVALUATORS", {**EVALUATORS, "clustering": failing})
    done = called("eval", run, "--only", "objective,clustering", "--json", cwd=tmp_path)
    assert done.returncode == 1 and set(json.loads(done.stdout)) == {"loss"}
    assert "error: evaluator 'clustering' failed: ZeroDivisionError: float division by zero\n" in done.stderr
    assert "Traceback" not in done.stderr and "--skip clustering" in done.stderr
    alone = called("eval", run, "--only", "clustering", cwd=tmp_path)
    assert alone.returncode == 1 and "loss" in alone.stdout, "what was measured before stands"
