"""What draws are worth as training data, of models of which it is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import experiment, subject

from aecli.core.model import Spec
from aecli.data.dataset import Dataset
from aecli.data.rows import ArrayRows
from aecli.errors import UsageError
from aecli.evaluation import cost, draws
from aecli.evaluation.evaluators import augmentation
from aecli.evaluation.journal import Journal
from aecli.evaluation.judges import classifier
from aecli.evaluation.registry import chosen
from aecli.evaluation.request import OF_SAMPLES, PER_CLASS, EvalRequest
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, average, over_seeds

CLASSES, SHAPE, N = 3, (6, 6, 1), 20


@dataclasses.dataclass(frozen=True)
class Echo:
    """Draws images that its state holds, [classes, m, H, W, C]: of the class that is asked for, of the next one, or of any."""

    shows: str = "right"
    is_conditional: bool = True
    variant: str = "echo"
    given_corruptions: ClassVar[tuple[Any, ...]] = ()
    withheld: ClassVar[dict[str, str]] = {}

    def sample(self, state: jax.Array, key: jax.Array, label: jax.Array, temperature: Any = 1.0) -> jax.Array:
        which = jax.random.randint(key, label.shape, 0, state.shape[1])
        other = jax.random.randint(jax.random.fold_in(key, 1), label.shape, 0, CLASSES)
        shown = {"right": label, "next": (label + 1) % CLASSES, "any": other}[self.shows]
        return state[shown, which]


def noisy(n: int, seed: int) -> ArrayRows:
    """A pattern a class below so much noise that some images cannot be told apart."""
    patterns = np.random.default_rng(0).uniform(60, 195, (CLASSES, *SHAPE))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % CLASSES).astype(np.int32)
    images = patterns[labels] + rng.normal(0, 150, (n, *SHAPE))
    return ArrayRows(images.clip(0, 255).astype(np.uint8), labels)


def data_of(train: ArrayRows, test: ArrayRows, **more: Any) -> Dataset:
    return Dataset(Spec(*SHAPE, CLASSES), train, test, test, "device", f"made on the spot {len(train)} {len(test)}", **more)


DATA = data_of(noisy(240, 1), noisy(150, 2))


def of(shows: str = "right", data: Dataset = DATA, per_class: int = N, **more: Any) -> Subject:
    """A model that knows all train images."""
    images, labels = DATA.train.all()
    state = jnp.stack([jnp.asarray(images[labels == name] / np.float32(255)) for name in range(CLASSES)])
    return subject(Echo(shows), state, data, per_class=per_class, **more)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Short trainings, and nothing kept from another test."""
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(classifier, "LEAST_STEPS", 80)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """The number of images, the seed and the steps of every classifier that is trained."""
    asked: list[tuple[int, int, int]] = []
    fit = classifier.fit

    def counted(image: Any, label: Any, spec: Any, seed: int, total: int, *more: Any) -> Any:
        asked.append((len(image), seed, total))
        return fit(image, label, spec, seed, total, *more)

    monkeypatch.setattr(classifier, "fit", counted)
    return asked


def value(found: Findings, name: str) -> float:
    number = found.metrics[name].value
    assert number is not None
    return number


def test_train_images_as_draws_are_worth_what_train_images_are() -> None:
    found = augmentation.measure(of())
    real, drawn = found.metrics["real_accuracy"], found.metrics["draws_accuracy"]
    assert 0.6 < value(found, "real_accuracy") < 0.99, "something is left to gain"
    assert drawn.standard_error is not None and real.standard_error is not None
    assert abs(value(found, "draws_accuracy") - value(found, "real_accuracy")) < 3 * drawn.standard_error
    assert value(found, "augmentation_gain") > 0, "twice as many images"
    assert drawn.baselines == {"real alone": pytest.approx(value(found, "real_accuracy"))}
    assert drawn.n == 150 and drawn.protocol == {"per_class": N, "classifiers": 3, "classifier_steps": 80}


def test_draws_of_any_class_teach_nothing_and_spoil_what_real_images_teach() -> None:
    found = augmentation.measure(of("any"))
    assert value(found, "draws_accuracy") == pytest.approx(1 / CLASSES, abs=0.12)
    gain = found.metrics["augmentation_gain"]
    assert gain.standard_error is not None and value(found, "augmentation_gain") < -2 * gain.standard_error
    assert value(found, "augmented_accuracy") > 1 / CLASSES


def test_draws_of_the_next_class_are_read_as_that() -> None:
    found = augmentation.measure(of("next"))
    assert value(found, "draws_accuracy") < 0.25 < value(found, "real_accuracy")


def test_the_gain_is_of_the_same_images_by_the_same_seeds() -> None:
    found = augmentation.measure(of("any"))
    difference = value(found, "augmented_accuracy") - value(found, "real_accuracy")
    assert value(found, "augmentation_gain") == pytest.approx(difference)
    error = found.metrics["augmentation_gain"].standard_error
    assert found.metrics["augmented_accuracy"].difference_errors == {"real alone": error}, "it is told apart as the gain from 0"
    for name, metric in found.metrics.items():
        assert metric.value == pytest.approx(found.values[name].mean()), "two runs are compared image by image"


def test_all_classifiers_take_as_many_steps_and_a_seed_has_images_of_its_own(trained: list[tuple[int, int, int]]) -> None:
    ours = of()
    augmentation.measure(ours)
    alone, both = ([(n, seed, 80) for seed in range(3)] for n in (CLASSES * N, 2 * CLASSES * N))
    assert sorted(trained) == sorted([*alone, *alone, *both])
    classes, _ = augmentation._classes(ours)
    for examples in (
        augmentation._train_images(ours, classes),
        [augmentation._draws(ours, classes, seed) for seed in range(3)],
    ):
        for image, label in examples:
            assert (np.bincount(label) == N).all() and image.shape == (CLASSES * N, *SHAPE)
        assert len({each.image.tobytes() for each in examples}) == 3
    for image, _ in augmentation._train_images(ours, classes):
        assert len(np.unique(image.reshape(len(image), -1), axis=0)) == CLASSES * N, "none of them twice"


def test_the_same_seed_gives_the_same_and_what_is_of_the_data_alone_is_kept(trained: list[tuple[int, int, int]]) -> None:
    first = augmentation.measure(of())
    assert len(trained) == 9
    again, other = augmentation.measure(of()), augmentation.measure(of(seed=1))
    assert len(trained) == 9 + 6 + 6, "classifiers of real images are those of before"
    assert again.metrics == first.metrics
    assert other.metrics["real_accuracy"] == first.metrics["real_accuracy"]
    assert other.metrics["draws_accuracy"] != first.metrics["draws_accuracy"]
    augmentation.measure(of(per_class=N - 1))
    assert len(trained) == 30, "of another number of images there are others"


def test_an_interrupted_one_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[tuple[int, int, int]]
) -> None:
    whole = augmentation.measure(of())
    trained.clear()
    ours = of(journal=Journal(tmp_path / "journal", {"of": "this"}))
    counted = classifier.fit

    def stopped(*given: Any) -> Any:
        if len(trained) == 4:
            raise KeyboardInterrupt
        return counted(*given)

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "fit", stopped)
        with pytest.raises(KeyboardInterrupt):
            augmentation.measure(ours)
    assert ours.journal.holds_part_of("augmentation")
    assert augmentation.measure(ours).metrics == whole.metrics and len(trained) == 6


def test_images_of_the_split_without_a_label_are_left_out() -> None:
    images, labels = DATA.test.all()
    few = ArrayRows(images, np.where(np.arange(150) < 100, labels, -1).astype(np.int32))
    first = data_of(DATA.train, ArrayRows(images[:100], labels[:100]))
    found, expected = (augmentation.measure(of(data=data)).metrics for data in (data_of(DATA.train, few), first))
    assert found["draws_accuracy"] == expected["draws_accuracy"] and found["draws_accuracy"].n == 100


def relabelled(labels: Any) -> Dataset:
    return data_of(ArrayRows(DATA.train.all()[0], np.asarray(labels, np.int32)), ArrayRows(*DATA.test.all()))


TRAIN = DATA.train.labels


UNLABELLED = ArrayRows(DATA.test.all()[0], np.full(150, -1, np.int32))
NAMED = dataclasses.replace(DATA, class_names=("ant", "bee", "cat"))
VECTORS = dataclasses.replace(DATA, spec=Spec(1, 36, 1, CLASSES, "vector"))


@pytest.mark.parametrize(
    ("data", "per_class", "why"),
    [
        (DATA, 81, "class 0 has 80 train images, and 81 of each class are asked for; --per-class 80 is the most"),
        (NAMED, 100, "class 'ant' has 80 train images"),
        (relabelled(np.where(np.arange(240) < 9, 2, np.arange(240) % 2)), 10, "class 2 has 9 train images"),
        (relabelled(np.zeros(240)), 10, "the train images are of 1 class: there is nothing to classify"),
        (relabelled(np.full(240, -1)), 10, "the train images are of 0 classes"),
        (data_of(DATA.train, UNLABELLED), 10, "no image of the split has a label"),
        (VECTORS, 10, "it is about images, and these are vectors"),
    ],
)
def test_what_cannot_be_trained_on_is_told_with_the_number(data: Dataset, per_class: int, why: str) -> None:
    ours = subject(Echo(), None, data, per_class=per_class, only=("augmentation",))
    with pytest.raises(UsageError, match=f"no augmentation of this run: .*{why}"):
        chosen(ours)


def test_a_model_whose_draws_are_of_no_class_is_refused() -> None:
    with pytest.raises(UsageError, match="the model is not conditional on the label"):
        chosen(subject(Echo(is_conditional=False), None, DATA, only=("augmentation",)))


def test_one_that_draws_nothing_lacks_the_ability() -> None:
    model = experiment("variant: bottleneck, hidden: [12], latent: 3").model
    with pytest.raises(UsageError, match="it lacks the ability 'samples'"):
        chosen(subject(model, None, DATA, only=("augmentation",)))


def test_a_class_that_train_has_none_of_is_not_drawn() -> None:
    two = relabelled(np.where(TRAIN == 1, -1, TRAIN))
    classes, counts = augmentation._classes(of(data=two))
    assert classes.tolist() == [0, 2] and counts.tolist() == [80, 80]
    assert set(augmentation._draws(of(data=two), classes, 0).label) == {0, 2}


def test_it_runs_unasked_if_it_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = of()
    step = 128 * (2 * 36 * 64 * 2 + 2 * 64 * 3 * 3)  # forward and back; of the first layer no gradient of the image is asked for
    assert augmentation.flop(ours) == 9 * 80 * step
    assert "augmentation" in chosen(ours).names
    monkeypatch.setattr(cost, "LARGEST_FLOP", 9 * 80 * step - 1.0)
    assert "augmentation" in chosen(ours).left_out
    asked = ours.request.with_numbers(per_class=N)
    assert "augmentation" in chosen(dataclasses.replace(ours, request=asked)).names


def test_who_says_a_number_wants_what_takes_it() -> None:
    assert EvalRequest().with_numbers() == EvalRequest()
    both = EvalRequest().with_numbers(samples=7, per_class=9)
    assert (both.samples, both.per_class, both.also) == (7, 9, (*OF_SAMPLES, *PER_CLASS))
    assert EvalRequest().with_numbers(per_class=9).also == PER_CLASS
    for wrong in (0, 10**6, True, 2.5):
        with pytest.raises(UsageError, match="--per-class"):
            EvalRequest(per_class=wrong).check()  # type: ignore[arg-type]


def test_draws_are_of_the_classes_that_are_asked_for_in_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "DRAW_BATCH", 8)
    images, labels = DATA.train.all()
    label_of = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    asked = np.arange(21, dtype=np.int32) % CLASSES
    made = draws.drawn(of(), asked, "made")
    shown = [label_of[np.round(image * 255).astype(np.uint8).tobytes()] for image in made]
    assert shown == asked.tolist()
    later = draws.drawn(of(), asked[8:], "made", first=1)
    assert np.array_equal(later, made[8:]), "the keys of a batch are those of its number"


def test_a_classifier_is_the_same_in_calls_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = DATA.train.all()
    told: list[tuple[int, int]] = []

    def fit(seed: int = 0) -> Any:
        told.clear()
        return classifier.fit(images / np.float32(255), labels, DATA.spec, seed, 50, lambda: None, lambda *at: told.append(at))

    whole = fit()
    assert told == [(0, 50)]
    monkeypatch.setattr(classifier, "CALL_VALUES", 128 * 36 * 20)
    parts = fit()
    assert told == [(0, 50), (20, 50), (40, 50)]
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    other = fit(seed=1)
    assert not np.allclose(whole["hidden"]["kernel"], other["hidden"]["kernel"], atol=0.1)


@pytest.mark.parametrize(("n", "steps"), [(1, 80), (100, 80), (128, 80), (1280, 100), (128 * 500, 5000), (10**7, 10_000)])
def test_more_images_are_trained_on_for_longer_within_limits(n: int, steps: int) -> None:
    assert classifier.steps_for(n) == steps


def test_the_error_is_that_of_seeds_and_of_images() -> None:
    rng = np.random.default_rng(0)
    image, seed = rng.normal(0, 1, 400), np.array([-0.3, 0.1, 0.2])
    same = over_seeds("accuracy", np.tile(image, (3, 1)))
    assert same.standard_error == pytest.approx(average("accuracy", image).standard_error)
    level = over_seeds("accuracy", np.tile(seed[:, None], (1, 400)))
    assert level.standard_error == pytest.approx(seed.std(ddof=1) / np.sqrt(3))
    both = over_seeds("accuracy", image[None, :] + seed[:, None])
    assert both.standard_error == pytest.approx(np.hypot(same.standard_error, level.standard_error))
    assert over_seeds("accuracy", image[None, :]) == average("accuracy", image), "of one seed nothing is known of others"


def test_the_error_is_what_other_seeds_and_images_would_spread_by() -> None:
    rng = np.random.default_rng(0)

    def drawn() -> Any:
        return rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 1, (1, 100)) + rng.normal(0, 1, (3, 100))

    found = [over_seeds("accuracy", drawn()) for _ in range(2000)]
    spread = np.std([metric.value for metric in found])
    told = np.sqrt(np.mean([metric.standard_error**2 for metric in found if metric.standard_error is not None]))
    assert told == pytest.approx(spread, rel=0.1)
