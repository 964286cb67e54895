"""Which evaluators there are, which of them fit a model, and how they are run one after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aecli.core.abilities import lacking
from aecli.core.model import Model
from aecli.errors import UsageError, did_you_mean
from aecli.evaluation import codes
from aecli.evaluation.evaluators import (
    classification,
    clustering,
    codebook,
    denoising,
    generation,
    likelihood,
    objective,
    reconstruction,
    representation,
    sparsity,
)
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric


def _anything(_: Subject) -> str | None:
    return None


class Evaluator(NamedTuple):
    """`abilities`: a model needs one of them, if any are named. `cannot(subject)` says why an able model cannot be measured so
    on such data, or None. `quick`: cheap enough for the validations of a training."""

    help: str
    measure: Callable[[Subject], Findings]
    abilities: tuple[str, ...] = ()
    cannot: Callable[[Subject], str | None] = _anything
    quick: bool = False


EVALUATORS: Mapping[str, Evaluator] = {
    "objective": Evaluator("the loss and its terms", objective.measure, quick=True),
    "reconstruction": Evaluator(
        "mse, mae, psnr, ssim, explained variance, beside PCA", reconstruction.measure, ("reconstructs",), quick=True
    ),
    "likelihood": Evaluator(
        "NLL, by importance sampling or exact; bits per dimension; collapse", likelihood.measure, ("scores", "weighs")
    ),
    "sparsity": Evaluator("active and dead units", sparsity.measure, ("activates",), quick=True),
    "codebook": Evaluator("usage of a finite set of codes", codebook.measure, ("quantizes",), quick=True),
    "representation": Evaluator("probes and nearest neighbours on the codes", representation.measure, ("encodes",), codes.cannot),
    "clustering": Evaluator("k-means on the codes; MIG and DCI", clustering.measure, ("encodes",), clustering.cannot),
    "denoising": Evaluator("restoration of corruptions, beside filters", denoising.measure, ("reconstructs",)),
    "classification": Evaluator("classes by Bayes' rule", classification.measure, ("scores", "weighs"), classification.cannot),
    "generation": Evaluator(
        "distances between draws and images, by features", generation.measure, ("samples",), generation.cannot
    ),
}


def fits(model: Model | type[Model]) -> tuple[str, ...]:
    """The evaluators that a model, or every model of a class, has one of the abilities for."""
    return tuple(
        name
        for name, evaluator in EVALUATORS.items()
        if not evaluator.abilities or len(lacking(model, evaluator.abilities)) < len(evaluator.abilities)
    )


def chosen(subject: Subject, only: Sequence[str], skip: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the evaluators to run, and notes on those that would fit but for the data. Raises UsageError if a
    name is unknown, or one asked for by `only` does not fit."""
    for name in (*only, *skip):
        if name not in EVALUATORS:
            raise UsageError(
                f"there is no evaluator '{name}'", did_you_mean(name, EVALUATORS) or "evaluators: " + ", ".join(EVALUATORS)
            )
    able = fits(subject.model)
    for name in only:
        if name not in able:
            needed = " or ".join(EVALUATORS[name].abilities)
            raise UsageError(
                f"variant '{subject.model.variant}' cannot be measured by '{name}': it lacks the ability {needed}",
                "it has: " + ", ".join(able),
            )
    names: list[str] = []
    notes: list[str] = []
    for name in only or able:
        if name in skip:
            continue
        why = EVALUATORS[name].cannot(subject)
        if why is None:
            names.append(name)
        elif only:
            raise UsageError(f"no {name} of this run: {why}")
        else:
            notes.append(f"no {name}: {why}")
    return tuple(names), tuple(notes)


def quick(subject: Subject) -> dict[str, Metric]:
    """What training measures on its validation split: name -> metric."""
    metrics: dict[str, Metric] = {}
    for name in fits(subject.model):
        if EVALUATORS[name].quick:
            metrics |= EVALUATORS[name].measure(subject).metrics
    return metrics


def evaluate(subject: Subject, names: Iterable[str], begin: Callable[[str], None] = lambda name: None) -> dict[str, Findings]:
    """The findings of each evaluator, from the journal where it has them. `begin(name)` is called before each."""
    found: dict[str, Findings] = {}
    for name in names:
        begin(name)
        kept = subject.journal.kept(f"found-{name}", lambda name=name: _pack(EVALUATORS[name].measure(subject)))
        found[name] = _unpack(kept)
    return found


def _pack(findings: Findings) -> dict[str, Any]:
    about = {"metrics": {name: metric.as_json() for name, metric in findings.metrics.items()}, "notes": findings.notes}
    return {"about": np.asarray(json.dumps(about)), **findings.values}


def _unpack(arrays: dict[str, Any]) -> Findings:
    about = json.loads(str(arrays.pop("about")))
    return Findings({name: Metric(**metric) for name, metric in about["metrics"].items()}, arrays, tuple(about["notes"]))
