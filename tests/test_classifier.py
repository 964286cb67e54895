"""The features that draws are compared by: what comes with the package, and what is trained for other data."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_fashion
from fit import dataset, experiment, fit, subject

from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
from aecli.errors import DataError
from aecli.evaluation.evaluators import generation
from aecli.evaluation.judges import classifier
from aecli.evaluation.registry import EVALUATORS
from aecli.measures import distances
from aecli.measures.metric import Metric


def check(name: str, least: float) -> None:
    data = open_dataset(Data(name=name, validation=0))
    judge = classifier.shipped(data.fingerprint)
    assert judge is not None and judge.accuracy > least
    assert classifier.accuracy(judge.params, data.test) == pytest.approx(judge.accuracy, abs=2e-3)
    images = data.test.take(np.arange(200))[0] / np.float32(255)
    features = judge.features(images)
    assert features.shape == (200, classifier.FEATURES) and distances.frechet(features, features) == pytest.approx(0, abs=1e-5)


def test_the_features_of_digits_come_with_the_package(data_dir: Path) -> None:
    check("digits", 0.96)


@needs_fashion
def test_the_features_of_fashion_mnist_come_with_the_package(data_dir: Path) -> None:
    check("fashion_mnist", 0.9)


def test_train_images_in_the_place_of_draws_have_an_error_of_their_own() -> None:
    mine = generation._Compared(Metric(1.0, 0.3, 9, "1"), 0.3, np.zeros(9))
    theirs = generation._Compared(Metric(2.0, None, 9, "1"), 0.4, np.zeros(9))
    both = generation._beside(mine, theirs)
    assert both.baselines == {"train images": 2.0} and both.difference_errors == {"train images": pytest.approx(0.5)}
    assert generation._beside(mine, theirs._replace(metric=Metric(None, None, 9, "1"))) == mine.metric
    unknown = float("nan")
    for found in (mine, theirs._replace(draws_error=unknown)), (mine._replace(draws_error=unknown), theirs):
        told = generation._beside(*found)
        assert told.baselines == {"train images": 2.0} and not told.difference_errors
    # What the images of the split add is in both, and only where it differs it is in the difference.
    rest = np.arange(9) - 4.0
    assert generation._beside(mine._replace(of_images=rest), theirs._replace(of_images=rest)) == both
    apart = generation._beside(mine._replace(of_images=rest), theirs).difference_errors["train images"]
    assert apart == pytest.approx(np.sqrt(0.25 + rest.var(ddof=1) / 9))


def test_errors_of_draws_are_how_far_their_numbers_vary() -> None:
    """Of images, draws that are unlike them and train images, anew a hundred times."""
    rng = np.random.default_rng(0)
    names = ("frechet_distance", "density")
    values, told, apart, apart_told = (dict[str, list[float]]((name, []) for name in names) for _ in range(4))
    for _ in range(100):
        real, train, drawn = rng.normal(size=(300, 4)), rng.normal(size=(300, 4)), 1.3 * rng.normal(size=(300, 4)) + 0.5
        mine, theirs = generation._compare(real, drawn), generation._compare(real, train)
        for name in names:
            beside = generation._beside(mine[name], theirs[name])
            values[name].append(beside.value or 0)
            told[name].append(beside.standard_error or 0)
            apart[name].append((beside.value or 0) - beside.baselines["train images"])
            apart_told[name].append(beside.difference_errors["train images"])
    for name in names:
        assert np.mean(told[name]) == pytest.approx(np.std(values[name]), rel=0.2), name
        assert np.mean(apart_told[name]) == pytest.approx(np.std(apart[name]), rel=0.2), name


def test_a_judge_of_bits_says_how_many_of_the_bits_it_reads(tmp_path: Path) -> None:
    """And not how many of the gray images that it was trained on."""
    data = dataset(train=600, held_out=300)
    e = experiment("variant: vae, hidden: [12], latent: 3", "steps: 2", "batch_size: 16, validation: 300")
    _, training = fit(tmp_path, e, data)
    ours = subject(e.model, training.state, data, draws=300)
    judge = generation.judge_of(ours)
    assert generation._accuracy(judge, ours) == judge.accuracy
    bits = dataclasses.replace(ours, binarize="dynamic")
    images = np.concatenate(list(bits.images())).reshape(-1, *data.spec.shape)
    right = classifier.classes(judge.params, images) == data.test.labels
    assert generation._accuracy(judge, bits) == right.mean() < judge.accuracy
    assert EVALUATORS["generation"].measure(bits).metrics["kid"].protocol["classifier_accuracy"] == right.mean()


def test_all_weights_together_are_small_and_a_damaged_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [resources.files("aecli.evaluation.judges") / "weights" / name for name, _ in classifier.SHIPPED.values()]
    assert len(files) == 2 and sum(len(file.read_bytes()) for file in files) < 1e6
    (fingerprint, (name, _)), *_ = classifier.SHIPPED.items()
    monkeypatch.setattr(classifier, "SHIPPED", {fingerprint: (name, "0" * 64)})
    with pytest.raises(DataError, match="checksum"):
        classifier.shipped(fingerprint)
    assert classifier.shipped("other data") is None


def test_other_data_gets_a_classifier_of_its_own_and_copies_are_found(tmp_path: Path) -> None:
    data = dataset(train=600, held_out=300)
    e = experiment("variant: vae, hidden: [12], latent: 3", "steps: 2", "batch_size: 16, validation: 300")
    _, training = fit(tmp_path, e, data)
    ours = subject(e.model, training.state, data, draws=300)
    evaluator = EVALUATORS["generation"]
    assert evaluator.cannot(ours) is None
    found = evaluator.measure(ours)
    distance = found.metrics["frechet_distance"]
    assert distance.value > distance.baselines["train images"], "a model after two steps draws nothing"
    assert evaluator.measure(ours).metrics == found.metrics and distance.n == 300 and len(distance.protocol["features"]) == 16


def test_training_has_a_most_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "MOST_STEPS", 5)
    told: list[tuple[int, int]] = []
    classifier.train(dataset(), tell=lambda done, total: told.append((done, total)))
    assert told == [(step, 5) for step in range(5)]
