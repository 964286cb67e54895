r"""How much draws look like the data, whether they miss some of it, and whether they are copies.

By the features $\phi$ of a small classifier of the same data, whose hash stands in the protocol: it comes with aecli
(Fashion-MNIST, the embedded digits) or is trained once for other labelled data. Draws are held against the split; beside them
as many train images are. Classes of a conditional model are drawn as often as they occur in the train split. With mean $m$
and covariance $C$ of the features of images ($r$) and draws ($g$),

$$\lVert m_r - m_g \rVert^2 + \operatorname{tr}\bigl(C_r + C_g - 2 (C_r C_g)^{1/2}\bigr)$$

is the Frechet distance (Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6). A ball of an image
or draw reaches to its third nearest neighbour of the same kind, of density and coverage to its fifth.

It is no FID: features of another classifier give another number, and of other data another one again. Numbers of unequal
counts of draws are not comparable: the distance is biased by the count. `--inception FILE` adds the distances that papers
report, for those who have the weights.

Metrics
-------
- `frechet_distance` (feature^2, lower): the distance above; its error is that of the delta method (Rippl, Munk & Sturm 2016,
  "Limit laws of the empirical Wasserstein distance: Gaussian distributions"), in trials a tenth too large where draws are
  unlike images, and a sixth to two thirds where they are as good.
- `kid` (MMD^2, lower): the unbiased squared MMD with the kernel $(\phi(x)^\top \phi(y) / d + 1)^3$, the mean over blocks of
  1,000 chosen at random (Binkowski et al. 2018, "Demystifying MMD GANs", section 4.1).
- `precision` (share, higher): of the draws that lie in the ball of an image (Kynkäänniemi et al. 2019, "Improved precision
  and recall metric", equation 2).
- `recall` (share, higher): of the images that lie in the ball of a draw: what is missed lowers it.
- `density` (1, higher): in how many balls of images a draw lies, over 5 (Naeem et al. 2020, "Reliable fidelity and diversity
  metrics", equation 2).
- `coverage` (share, higher): of the images whose ball holds a draw (the same, equation 3).
- `copying` (chance): that a draw is nearer to its nearest train image than an image of the split to its own; 0.5 is that of
  new images, 1 of copies (Meehan et al. 2020, "A non-parametric test to detect data-copying", section 2).
- `inception_frechet_distance` (feature^2, lower): by the features of Inception, with `--inception FILE`.
- `inception_kid` (MMD^2, lower): the same of `kid`.
"""

from __future__ import annotations

from math import hypot, isfinite
from typing import Any, NamedTuple

import numpy as np

from aecli.evaluation import draws
from aecli.evaluation.judges import classifier, inception
from aecli.evaluation.judges.classifier import FEATURES, Classifier
from aecli.evaluation.judges.inception import Inception
from aecli.evaluation.subject import Subject
from aecli.measures import distances
from aecli.measures.metric import Findings, Metric, average, standard_error

LEAST = 4 * FEATURES
"""Fewer images do not tell a covariance of so many features."""
TRAIN = "train images"
"""The baseline that is called so: what they measure in the place of draws."""
UNITS = {
    "frechet_distance": "feature^2",
    "kid": "MMD^2",
    "precision": "share",
    "recall": "share",
    "density": "1",
    "coverage": "share",
}


def cannot(subject: Subject) -> str | None:
    if subject.spec.classes < 2:
        return "the data has no labels to train a classifier's features on"
    seen = np.asarray(subject.dataset.train.labels)
    if len(np.unique(seen[seen >= 0])) < 2:
        return "the train images are of fewer than two classes: no classifier's features can be trained on them"
    if min(subject.request.draws, len(subject.rows)) < LEAST:
        n = min(subject.request.draws, len(subject.rows))
        return f"{n} images are too few for covariances of {FEATURES} features, which need {LEAST}"
    return None


def measure(subject: Subject) -> Findings:
    """For models that sample. The nearest train image of each draw is kept beside the per-image values."""
    judge = judge_of(subject)
    real, train = (_kept_features(judge, subject, split) for split in (subject.split, "train"))
    n = min(subject.request.draws, len(real))
    subject.begin("draws")  # of a model that draws value by value they take longer than all the rest
    images = _drawn(subject, n)
    subject.begin("generation")
    drawn = judge.features(images)
    mine, theirs = _compare(real, drawn), _train_images(judge, subject, real, train, n)
    protocol = {"draws": n, "features": judge.hash[:16], "classifier_accuracy": _accuracy(judge, subject)}
    better = {"frechet_distance": "lower", "kid": "lower"}
    metrics = {
        name: _beside(each, theirs[name])._replace(
            better=better.get(name, "higher"), protocol={**protocol, **each.metric.protocol}
        )
        for name, each in mine.items()
    }
    index, near = distances.nearest(drawn, train)
    copying = Metric(None, None, n, "chance", None, {}, protocol)
    notes: tuple[str, ...] = ()
    if (why := constant(real, drawn)) is not None:
        metrics["copying"] = copying.none(why)
    else:
        chance = distances.copying(near, _new_images(judge, subject, real, train))
        metrics["copying"] = copying._replace(value=chance)
        notes = ("draws are nearer to train images than new images are: copies?",) if chance > 0.75 else ()
    if subject.inception is not None and n <= inception.FEATURES:
        notes += (f"no Inception distance: {n:,} draws are too few for covariances of {inception.FEATURES:,} features",)
    elif subject.inception is not None:
        metrics |= _by_inception(subject, subject.inception, images)
    return Findings(metrics, {"nearest_train_image": index, "nearest_train_distance": near}, notes)


class _Compared(NamedTuple):
    """A number of draws, and what the error of its difference is made of: `draws_error` of the draws, as other ones might be, NaN
    where it is not known, and `of_images` [N] what each image of the split adds, as it does to the number of other draws; zeros
    where that is left out."""

    metric: Metric
    draws_error: float
    of_images: Any


def _beside(mine: _Compared, theirs: _Compared) -> Metric:
    """With what train images measure in the place of draws. These are other images, so that the errors of both count; the images
    of the split are the same."""
    value = theirs.metric.value
    if value is None:
        return mine.metric
    of_split = standard_error(mine.of_images - theirs.of_images) or 0.0
    error = hypot(mine.draws_error, theirs.draws_error, of_split)
    return mine.metric._replace(baselines={TRAIN: value}, difference_errors={TRAIN: error} if isfinite(error) else {})


def _by_inception(subject: Subject, judge: Inception, images: Any) -> dict[str, Metric]:
    """`inception_frechet_distance` and `inception_kid` of drawn images [n, H, W, C]: what papers report, where n is as theirs."""
    real, drawn = _features(judge, subject, subject.split), judge.features(images)
    protocol = {"draws": len(drawn), "features": judge.hash[:16]}
    distance = Metric(None, None, len(drawn), UNITS["frechet_distance"], "lower", {}, protocol)
    kid = Metric(None, None, len(drawn), UNITS["kid"], "lower", {}, protocol)
    if (note := constant(real, drawn)) is not None:
        distance, kid = distance.none(note), kid.none(note)
    else:
        distance = distance._replace(value=distances.frechet(real, drawn))
        kid = _kid(real, drawn)
        kid = kid._replace(better="lower", protocol={**protocol, **kid.protocol})
    return {"inception_frechet_distance": distance, "inception_kid": kid}


def _kid(real: Any, drawn: Any) -> Metric:
    """Over the blocks, with the error that their spread tells where there are several. The protocol says how they are chosen, as
    they were once in the order of the images."""
    blocks = distances.kid(real, drawn)
    error = float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else None
    return Metric(float(np.mean(blocks)), error, len(drawn), UNITS["kid"], protocol={"blocks": "random"})


def judge_of(subject: Subject) -> Classifier:
    """The features to compare by: shipped, or trained for such data and kept."""
    found = classifier.shipped(subject.dataset.of_train or subject.dataset.fingerprint)
    if found is not None:
        return found

    def make() -> dict[str, Any]:
        params = classifier.train(subject.dataset, subject.poll, subject.tell)
        return classifier.pack(params, classifier.accuracy(params, subject.dataset.test))

    return classifier.unpack(subject.shared("classifier", make))


def _features(judge: Classifier | Inception, subject: Subject, split: str) -> Any:
    """Those of a whole split, [n, features] float32."""
    pieces = subject.pieces(judge.piece, split)
    return np.concatenate([judge.features(images.reshape(-1, *subject.spec.shape)) for images in pieces])


def _kept_features(judge: Classifier, subject: Subject, split: str) -> Any:
    """The same, made once for all runs on such data."""
    name = f"features-{split}-{judge.hash[:16]}"
    return subject.shared(name, lambda: {"features": _features(judge, subject, split)})["features"]


def _accuracy(judge: Classifier, subject: Subject) -> float:
    """How often the judge reads the class of images as it is shown them here: it was trained on gray ones, of which it knows its
    accuracy, and reads fewer of their bits. NaN where no image has a label."""
    if subject.binarize == "none":
        return judge.accuracy

    def make() -> dict[str, Any]:
        pieces = subject.pieces(judge.piece)
        said = np.concatenate([classifier.classes(judge.params, x.reshape(-1, *subject.spec.shape)) for x in pieces])
        labelled = subject.labels >= 0
        right = said[labelled] == subject.labels[labelled]
        return {"accuracy": right.mean() if len(right) else np.float64("nan")}

    return float(subject.shared(f"read-{judge.hash[:16]}", make)["accuracy"])


def _train_images(judge: Classifier, subject: Subject, real: Any, train: Any, n: int) -> dict[str, _Compared]:
    """What n train images, chosen by the seed, measure in the place of draws."""

    def make() -> dict[str, Any]:
        few = np.random.Generator(np.random.Philox(subject.seed)).permutation(len(train))[:n]
        kept: dict[str, Any] = {}
        for name, each in _compare(real, train[few]).items():
            value = float("nan") if each.metric.value is None else each.metric.value
            kept |= {name: np.float64(value), f"{name} error": np.float64(each.draws_error), f"{name} images": each.of_images}
        return kept

    kept = subject.shared(f"train-images-{n}-{subject.seed}-in-parts-random-blocks-{judge.hash[:16]}", make)
    return {
        name: _Compared(
            Metric(value if isfinite(value := float(kept[name])) else None, None, n, unit),
            float(kept[f"{name} error"]),
            kept[f"{name} images"],
        )
        for name, unit in UNITS.items()
    }


def _new_images(judge: Classifier, subject: Subject, real: Any, train: Any) -> Any:
    """How far each image of the split is from the nearest of train, [n]."""
    name = f"new-images-{judge.hash[:16]}"
    return subject.shared(name, lambda: {"distance": distances.nearest(real, train)[1]})["distance"]


def _drawn(subject: Subject, n: int) -> Any:
    """[n, H, W, C], of the classes of train images; the last batch is one of such classes to its end."""
    size = draws.batch_size(subject.spec)
    seen = np.asarray(subject.dataset.train.labels)
    labels = np.random.Generator(np.random.Philox(subject.seed)).choice(seen, -(-n // size) * size)
    return draws.drawn(subject, labels, "draws")[:n]


def _compare(real: Any, drawn: Any) -> dict[str, _Compared]:
    """None of a set that is one point, which no distribution is fitted to, and of balls whose neighbours are all their centre.
    The density is a mean over draws of what is a mean over balls, so that its error is of both. The error of its
    difference from that of train images leaves the balls out: in trials that is up to a quarter too small, and with the balls up
    to three quarters too large."""
    n = len(drawn)
    note = constant(real, drawn)
    if note is not None:
        return {name: _alone(Metric(None, None, n, unit, note=note), real) for name, unit in UNITS.items()}
    reach_real = distances.reaches(real, (distances.PRECISION_K, distances.DENSITY_K))
    reach_drawn = distances.reaches(drawn, (distances.PRECISION_K,))
    found = distances.overlap(real, drawn, reach_real, reach_drawn)
    of_real, of_drawn = distances.frechet_influences(real, drawn)
    distance = Metric(distances.frechet(real, drawn), None, n, UNITS["frechet_distance"])
    density = average("density", found.density, unit=UNITS["density"])
    metrics = {
        "frechet_distance": _of_both(distance, standard_error(of_drawn), of_real),
        "kid": _alone(_kid(real, drawn), real),
        "precision": _alone(average("precision", found.precise, unit=UNITS["precision"]), real),
        "recall": _alone(average("recall", found.recalled, unit=UNITS["recall"]), real),
        "density": _of_both(density, density.standard_error, found.held)._replace(of_images=np.zeros(len(real))),
        "coverage": _alone(average("coverage", found.covered, unit=UNITS["coverage"]), real),
    }
    for of, reach, k, names in (
        ("images", reach_real, distances.PRECISION_K, ("precision",)),
        ("draws", reach_drawn, distances.PRECISION_K, ("recall",)),
        ("images", reach_real, distances.DENSITY_K, ("density", "coverage")),
    ):
        if not distances.has_radius(reach[k]):
            flat = f"most of the {of} are equal to their {k} nearest ones: the balls around them have no radius"
            metrics |= {name: _alone(metrics[name].metric.none(flat), real) for name in names}
    return metrics


def _alone(metric: Metric, real: Any) -> _Compared:
    """Of a number whose whole error is taken for that of the draws."""
    error = metric.standard_error
    return _Compared(metric, float("nan") if error is None else error, np.zeros(len(real)))


def _of_both(metric: Metric, draws_error: float | None, of_images: Any) -> _Compared:
    """Of a number whose error is that of the draws and of the images of the split, which add so much each."""
    error = standard_error(of_images)
    if draws_error is None or error is None:
        return _alone(metric._replace(standard_error=None), of_images)
    return _Compared(metric._replace(standard_error=hypot(draws_error, error)), draws_error, of_images)


def constant(real: Any, drawn: Any) -> str | None:
    """Why sets of features cannot be compared; None if they can be."""
    for of, features in (("draws", drawn), ("images of the split", real)):
        if distances.is_constant(features):
            return f"the {of} are all alike by these features: no distribution to compare"
    return None
