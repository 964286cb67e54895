"""How well labels can be read off frozen features, by readers whose strength is chosen on images held out from their training."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aecli.measures import multinomial
from aecli.measures.neighbours import Known
from aecli.measures.side_by_side import SideBySide

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularization of the logistic regression, of which the best on validation is taken."""
COMPARED, FITTED = 1e-4, 1e-6
"""The share of the objective up to which a strength's optimum is found to compare it, and the chosen one's."""
NEIGHBOURS = (1, 3, 5, 10, 20)
MOST_VOTING = 2_000
"""Held-out images that a number of neighbours is chosen by: to look for the neighbours of 10,000 takes as long as to measure."""
MOST_FITTED = 60_000
"""Labelled images that a probe is fitted to, of each class its share."""
MOST_CHOOSING = 10_000
"""Of these, those on which a strength is tried; and the held-out ones that a choice is made by."""


class Labelled(NamedTuple):
    """`features` [n, d] float32, `label` [n] int32."""

    features: Any
    label: Any


class Reading(NamedTuple):
    """`right` [n] bool, whether each held-out label was read; `choice`, the strength or the number of neighbours."""

    right: Any
    choice: float


def some_of(of: Labelled, most: int) -> Labelled:
    """At most so many images, of each class a share, whatever order they are in, which they keep; at least one of each class,
    where `most` is not less than the classes."""
    n = len(of.label)
    if n <= most:
        return of
    shuffled = np.random.Generator(np.random.Philox(0)).permutation(n)
    firsts = np.unique(of.label[shuffled], return_index=True)[1]  # of each class
    order = np.concatenate([np.sort(firsts), np.setdiff1d(np.arange(n), firsts)])
    chosen = np.sort(shuffled[order[:most]])
    return Labelled(of.features[chosen], of.label[chosen])


def scaled(train: Labelled, *others: Labelled) -> list[Labelled]:
    """Centred, and divided by one number, the root of the mean variance, of `train`: strengths then mean the same for all
    features, and their geometry is kept."""
    centre = train.features.mean(0)
    least = max(1e-12, 1e-6 * float(np.abs(centre).max()))  # below, features differ by rounding alone
    scale = max(least, float(np.sqrt(train.features.var(0).mean())))
    return [Labelled((part.features - centre) / scale, part.label) for part in (train, *others)]


def logistic(train: Labelled, validation: Labelled, held_out: Labelled) -> Reading:
    """Multinomial logistic regression. Strengths are tried from the least on, until one reads fewer of the validation labels
    than the best by more than the standard error of that: features that are not regularized enough take the longest."""
    train, validation, held_out = scaled(train, validation, held_out)
    known, label = np.unique(train.label, return_inverse=True)
    with SideBySide() as side_by_side:
        whole = multinomial.rotated(train.features, len(known), side_by_side)
        index = some_of(Labelled(np.arange(len(label)), train.label), MOST_CHOOSING).features
        few = whole._replace(features=whole.features[index])
        # A strength suits a number of images: with fewer, as much regularization in all is a larger share of it.
        share = len(label) / len(index)

        def right(weights: multinomial.Weights, of: Labelled) -> Any:
            return known[weights.logits(of.features).argmax(1)] == of.label

        weights = start = None
        best, most = STRENGTHS[0], -1.0
        for strength in STRENGTHS:
            weights = multinomial.fit(few, label[index], len(known), strength, side_by_side, COMPARED, weights)
            score = float(right(weights, validation).mean())
            if score > most:
                best, most, start = strength, score, weights
            elif score < most - np.sqrt(most * (1 - most) / len(validation.label)):
                break
        fitted = multinomial.fit(whole, label, len(known), best / share, side_by_side, FITTED, start)
        return Reading(right(fitted, held_out), best)


def ridge(train: Labelled, held_out: Labelled) -> Any:
    """Whether each held-out label is the largest of the affine least-squares predictions of the classes, [n] bool."""
    x, y = train.features.astype(np.float64), np.eye(int(train.label.max()) + 1)[train.label]
    centre, mean = x.mean(0), y.mean(0)
    x = x - centre
    covariance = x.T @ x / len(x)
    # A tiny share of the variance, so that features that never change do no harm.
    penalty = 1e-4 * np.trace(covariance) / len(covariance) + 1e-12
    weights = np.linalg.solve(covariance + penalty * np.eye(len(covariance)), x.T @ (y - mean) / len(x))
    return ((held_out.features - centre) @ weights + mean).argmax(1) == held_out.label


def nearest(train: Labelled, validation: Labelled, held_out: Labelled) -> Reading:
    """k nearest neighbours by Euclidean distance, a vote each; ties go to the class of the nearest."""
    known = Labelled(np.concatenate([train.features, validation.features]), np.concatenate([train.label, validation.label]))
    choosing = some_of(validation, MOST_VOTING)
    accuracy = {k: (vote == choosing.label).mean() for k, vote in _votes(train, choosing.features).items()}
    best = max(accuracy, key=lambda k: accuracy[k])
    return Reading(_votes(known, held_out.features)[best] == held_out.label, best)


def _votes(known: Labelled, features: Any) -> dict[int, Any]:
    """For each number of neighbours the class with the most of them, [n]."""
    ks = [k for k in NEIGHBOURS if k <= len(known.label)] or [1]
    with SideBySide() as side_by_side:
        index = Known(known.features).nearest(features, ks[-1], side_by_side)[0]
    label = known.label[index]
    counts = np.zeros((len(label), int(known.label.max()) + 1))
    found: dict[int, Any] = {}
    for rank in range(ks[-1]):
        # The nearer neighbour decides between equal counts: less than half a vote in all, falling with the rank.
        counts[np.arange(len(label)), label[:, rank]] += 1 + 0.5 ** (rank + 2)
        if rank + 1 in ks:
            found[rank + 1] = counts.argmax(1)
    return found
