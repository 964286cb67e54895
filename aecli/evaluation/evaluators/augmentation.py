"""What a conditional model's draws are worth as training data: the accuracy on real images of classifiers that saw them.

The classifier is the judge of `generation`, of random weights, trained anew with as many steps on each: on $n$ draws of each
class (`--per-class`), on $n$ train images of each class, and on both. Numbers are means over three such classifiers; a seed
has draws and train images of its own and is the same for all three, and the standard error is that over seeds and images of
the split together. Images without a label are left out.

A gain says what draws add to these few images. The model itself was trained on all of them and on their labels, so that it is
no gain over all that is there.

Metrics
-------
- `draws_accuracy` (share, higher): trained on draws alone: the classification accuracy score of Ravuri & Vinyals 2019,
  "Classification accuracy score for conditional generative models", who draw as many as there are train images.
- `real_accuracy` (share): on as many train images alone, the same for all models; the baseline of `draws_accuracy` and
  `augmented_accuracy`.
- `augmented_accuracy` (share, higher): on both together, their naive augmentation score.
- `augmentation_gain` (share, higher): what that is more than `real_accuracy`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from aecli.evaluation import draws
from aecli.evaluation.judges import classifier
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, over_seeds

SEEDS = 3
"""Classifiers of each kind; each is trained on draws and train images of its own."""


class Examples(NamedTuple):
    """`image` [n, H, W, C] float32 and `label` [n] int32."""

    image: Any
    label: Any


def cannot(subject: Subject) -> str | None:
    """Why no classifiers can be trained on as many images of each class, or tested."""
    if not subject.model.is_conditional:
        return "the model is not conditional on the label (conditional: true), so its draws are of no class"
    if not (subject.labels >= 0).any():
        return f"no {subject.spec.kind} of the split has a label"
    classes, counts = _classes(subject)
    if len(classes) < 2:
        return f"the train images are of {len(classes)} class{'es' * (len(classes) != 1)}: there is nothing to classify"
    n, fewest = subject.request.per_class, int(counts.argmin())
    if counts[fewest] < n:
        names = subject.dataset.class_names
        called = repr(names[classes[fewest]]) if names else int(classes[fewest])
        has = f"class {called} has {counts[fewest]:,} train images"
        return f"{has}, and {n:,} of each class are asked for; --per-class {counts[fewest]} is the most"
    return None


def flop(subject: Subject) -> float:
    """Of the draws, and of training all classifiers, those on real images alone included, which are kept once they are made."""
    classes, _ = _classes(subject)
    batches = -(-len(classes) * subject.request.per_class // draws.batch_size(subject.spec))
    steps = 3 * _steps(subject, len(classes))
    return SEEDS * (batches * draws.flop_of_batch(subject) + steps * classifier.step_flop(subject.spec))


def measure(subject: Subject) -> Findings:
    """For models of images given their label."""
    classes, _ = _classes(subject)
    n, steps = subject.request.per_class, _steps(subject, len(classes))
    train = _Trainer(subject, steps)
    real = _train_images(subject, classes)
    drawn = [_draws(subject, classes, seed) for seed in range(SEEDS)]
    both = [Examples(*map(np.concatenate, zip(*pair, strict=True))) for pair in zip(real, drawn, strict=True)]
    kept_as = f"augmentation-real-{n}-{SEEDS}-{steps}"
    right = {
        "real_accuracy": subject.shared(kept_as, lambda: {"right": train("real", real)})["right"],
        "draws_accuracy": train("draws", drawn),
        "augmented_accuracy": train("augmented", both),
    }
    right["augmentation_gain"] = right["augmented_accuracy"] - right["real_accuracy"].astype(float)
    protocol = {"per_class": n, "classifiers": SEEDS, "classifier_steps": steps}
    found = {name: over_seeds(name, values, "higher", "share", protocol=protocol) for name, values in right.items()}
    baselines = {"real alone": float(right["real_accuracy"].mean())}
    for name in ("draws_accuracy", "augmented_accuracy"):
        gain = over_seeds(name, right[name] - right["real_accuracy"].astype(float))
        errors = {} if gain.standard_error is None else dict.fromkeys(baselines, gain.standard_error)
        found[name] = found[name]._replace(baselines=baselines, difference_errors=errors)
    found["real_accuracy"] = found["real_accuracy"]._replace(better=None)  # it is no merit of the model
    return Findings(found, {name: values.mean(axis=0) for name, values in right.items()})


def _classes(subject: Subject) -> tuple[Any, Any]:
    """The classes that train images are of, rising, and how many are of each."""
    seen = np.asarray(subject.dataset.train.labels)
    return np.unique(seen[seen >= 0], return_counts=True)


def _steps(subject: Subject, classes: int) -> int:
    """As many as the recipe takes for draws and real images together, of all kinds of examples alike: with more of one, what
    is measured would be the length of the training."""
    return classifier.steps_for(2 * classes * subject.request.per_class)


def _train_images(subject: Subject, classes: Any) -> list[Examples]:
    """Those of each seed: n of each class, without any of them twice. They do not depend on the run's seed."""
    labels = np.asarray(subject.dataset.train.labels)
    n = subject.request.per_class
    chosen: list[Any] = []
    for seed in range(SEEDS):
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(labels))
        chosen.append(np.concatenate([order[labels[order] == name][:n] for name in classes]))
    every = np.unique(np.concatenate(chosen))
    images = subject.chosen("train", every).reshape(-1, *subject.spec.shape)
    return [Examples(images[np.searchsorted(every, index)], labels[index]) for index in chosen]


def _draws(subject: Subject, classes: Any, seed: int) -> Examples:
    """n of each class."""
    label = np.repeat(classes, subject.request.per_class).astype(np.int32)
    batches = -(-len(label) // draws.batch_size(subject.spec))
    return Examples(draws.drawn(subject, label, "augmentation-drawn", seed * batches), label)


class _Trainer:
    """Trains a classifier a seed on examples of each, and tells which images of the split they read rightly."""

    def __init__(self, subject: Subject, steps: int) -> None:
        self._subject, self._steps = subject, steps
        self._labelled = np.flatnonzero(subject.labels >= 0)

    def __call__(self, of: str, examples: list[Examples]) -> Any:
        """[seeds, n] bool, of the n images of the split that have a label."""
        keep = self._subject.journal.kept
        return np.stack([keep(f"augmentation-{of}-{seed}", self._of(seed, each))["right"] for seed, each in enumerate(examples)])

    def _of(self, seed: int, examples: Examples) -> Callable[[], dict[str, Any]]:
        subject = self._subject

        def tell(done: int, total: int) -> None:
            subject.tell(seed * total + done, SEEDS * total)

        def make() -> dict[str, Any]:
            params = classifier.fit(*examples, subject.spec, seed, self._steps, subject.poll, tell)
            pieces = dataclasses.replace(subject, tell=_quiet).pieces(classifier.PIECE)
            said = [classifier.classes(params, piece.reshape(-1, *subject.spec.shape)) for piece in pieces]
            return {"right": (np.concatenate(said) == subject.labels)[self._labelled]}

        return make


def _quiet(done: int, total: int) -> None:
    return None
