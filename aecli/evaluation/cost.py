"""What an evaluator's passes of the model cost, counted before they are made: the largest are left to who asks for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from aecli.core.abilities import Scores, WeighsTop, features_of
from aecli.core.flop import products
from aecli.core.model import Batch
from aecli.data.eval_batches import eval_batch
from aecli.data.sources import factors as known
from aecli.evaluation.importance import CHUNK
from aecli.evaluation.subject import Subject
from aecli.system.untraced import computed

LARGEST_FLOP = 1e12
"""Operations of the network above which an evaluator runs on a CPU only if it is asked for: some ten seconds of two cores."""
ACCELERATED = 100
"""How many times as much a GPU or TPU may be asked for."""


def is_large(flop: float) -> bool:
    """Whether so many operations are left to who asks for them."""
    return flop > LARGEST_FLOP * (1 if jax.default_backend() == "cpu" else ACCELERATED)


def nothing(_: Subject) -> float:
    """Of an evaluator that is always worth its time."""
    return 0.0


def of_features(subject: Subject) -> float:
    """Of encoding every image that a probe is fitted to, chosen by, or held against."""
    batches = sum(_batches(subject, split) for split in {"train", "validation", subject.split})
    return batches * _of_batch("features", subject, features_of(subject.model))


def of_clustering(subject: Subject) -> float:
    """Of encoding the split, and train where the factors of the images are known."""
    splits = {subject.split} if known.of(subject.dataset.intensity(subject.split)) is None else {"train", subject.split}
    return sum(_batches(subject, split) for split in splits) * _of_batch("features", subject, features_of(subject.model))


def of_likelihood(subject: Subject) -> float:
    """Of scoring every image of the split, or of weighing so many codes of each."""
    model = subject.model
    if not isinstance(model, Scores) and model.support() == 2 and not subject.is_binary:
        return 0.0  # there is no likelihood to estimate
    return _batches(subject, subject.split) * _of_scores(subject, subject.request.samples)


def of_classification(subject: Subject) -> float:
    """The same for every class, with a tenth of the codes."""
    each = _of_scores(subject, max(1, subject.request.samples // 10))
    return _batches(subject, subject.split) * subject.spec.classes * each


def of_both_likelihoods(subject: Subject) -> float:
    """Of the likelihoods of the split and of the anomalies, and of the bounds that they are held against."""
    assert subject.against is not None
    return (2 if isinstance(subject.model, WeighsTop) else 1) * (of_likelihood(subject) + of_likelihood(subject.against))


def of_both_features(subject: Subject) -> float:
    """Of encoding train, the split and the anomalies."""
    assert subject.against is not None
    batches = _batches(subject, "train") + _batches(subject, subject.split) + _batches(subject.against, subject.split)
    return batches * _of_batch("features", subject, features_of(subject.model))


def _of_scores(subject: Subject, samples: int) -> float:
    model = subject.model
    if isinstance(model, Scores):
        return _of_batch("likelihood", subject, model.log_prob)
    weigh = partial(model.log_weights, key=subject.root, n=CHUNK)
    return -(-samples // CHUNK) * _of_batch("importance weights", subject, weigh)


def _batches(subject: Subject, split: str) -> int:
    return -(-len(subject.dataset.split(split)) // eval_batch(subject.spec.size))


def _of_batch(what: str, subject: Subject, function: Callable[[Any, Batch], Any]) -> float:
    """Operations of `function(state, batch)` of a whole batch: what does not depend on the images, as a prior's components, is
    computed for each anew."""

    def count() -> float:
        batch = subject.model.abstract_batch(eval_batch(subject.spec.size), subject.spec)
        return products(jax.make_jaxpr(function)(subject.state, batch))

    return computed(f"operations of {what}", (subject.model, subject.spec), count)
