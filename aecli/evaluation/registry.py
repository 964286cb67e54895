"""Which evaluators there are, which of them fit a model, and how they are run one after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from aecli.core.abilities import lacking, told_lacking
from aecli.core.model import Kind, Model
from aecli.errors import AecliError, StorageError, UsageError, did_you_mean, translate
from aecli.evaluation import codes, cost
from aecli.evaluation.evaluators import (
    anomalies,
    augmentation,
    classification,
    clustering,
    codebook,
    completion,
    denoising,
    generation,
    likelihood,
    objective,
    pursuit,
    reconstruction,
    representation,
    sparsity,
    translation,
)
from aecli.evaluation.request import EvalRequest
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric


def _anything(_: Subject) -> str | None:
    return None


class Evaluator(NamedTuple):
    """`metrics`: the names of all that it measures; one that ends with `*` is the beginning of several. `abilities`: a model
    needs one of them, if any are named. `cannot(subject)` says why an able model cannot be measured so on such data, or None.
    `quick`: cheap enough for the validations of a training. `kinds`: of which kinds of data it measures something.
    `flop(subject)`: the operations that it asks of the network."""

    help: str
    measure: Callable[[Subject], Findings]
    metrics: tuple[str, ...]
    abilities: tuple[str, ...] = ()
    cannot: Callable[[Subject], str | None] = _anything
    quick: bool = False
    kinds: tuple[Kind, ...] = ("image",)
    flop: Callable[[Subject], float] = cost.nothing


ANY: tuple[Kind, ...] = ("image", "vector")
OBJECTIVE = "objective"


def registered(evaluators: Mapping[str, Evaluator]) -> Mapping[str, Evaluator]:
    """The evaluators as they are. Raises ValueError if two measure something of the same name: the second would replace the
    first in `eval/*.json`. The objective is set apart: its names are the variant's own, and a name that an evaluator measures too
    is that evaluator's."""
    owners = [(name, evaluator) for evaluator, each in evaluators.items() for name in each.metrics]
    for number, (name, evaluator) in enumerate(owners):
        for other, another in owners[:number]:
            if covers(name, other.removesuffix("*")) or covers(other, name.removesuffix("*")):
                raise ValueError(f"evaluators '{another}' and '{evaluator}' both measure '{name}' ({other}): rename one")
    return evaluators


def covers(declared: str, name: str) -> bool:
    """Whether a declared name, or the beginning of names, is that of a metric."""
    return name.startswith(declared[:-1]) if declared.endswith("*") else name == declared


def measuring(metric: str, among: Iterable[str] | None = None) -> str | None:
    """The first evaluator, of all or `among` some, that declares a metric; None if none does."""
    names = EVALUATORS if among is None else among
    return next((name for name in names if any(covers(declared, metric) for declared in EVALUATORS[name].metrics)), None)


EVALUATORS: Mapping[str, Evaluator] = registered(
    {
        OBJECTIVE: Evaluator("the loss and its terms", objective.measure, (), quick=True, kinds=ANY),
        "reconstruction": Evaluator(
            "mse, mae, psnr, ssim, explained variance, beside PCA",
            reconstruction.measure,
            (
                *("mse", "mae", "psnr_db", "psnr_per_image_db", "ssim", "explained_variance"),
                *("corrupted_psnr_db", "clipped_psnr_db", "pca_gap", "principal_angle_deg"),
            ),
            ("reconstructs",),
            quick=True,
            kinds=ANY,
        ),
        "likelihood": Evaluator(
            "NLL, by importance sampling or exact; bits per dimension; collapse",
            likelihood.measure,
            (
                *("nll_nats", "elbo_nats", "effective_samples", "floor_nats", "excess_nats", "bits_per_dim"),
                *("active_units", "inactive_fraction"),
            ),
            ("scores", "weighs"),
            kinds=ANY,
            flop=cost.of_likelihood,
        ),
        "completion": Evaluator(
            "the lower half of images given the upper one",
            completion.measure,
            ("completion_nats",),
            ("continues",),
            completion.cannot,
            flop=cost.of_likelihood,
        ),
        "sparsity": Evaluator(
            "active and dead units",
            sparsity.measure,
            ("l0", "dead_fraction", "mean_activation", "density_*"),
            ("activates",),
            quick=True,
            kinds=ANY,
        ),
        "pursuit": Evaluator(
            "what a sparse code's dictionary could explain",
            pursuit.measure,
            ("explained_variance_omp", "explained_variance_lstsq", "amortization_gap"),
            ("activates",),
            pursuit.cannot,
            kinds=ANY,
            flop=pursuit.flop,
        ),
        "codebook": Evaluator(
            "usage of a finite set of codes", codebook.measure, ("code_usage", "code_perplexity"), ("quantizes",), quick=True
        ),
        "representation": Evaluator(
            "probes and nearest neighbours on the codes",
            representation.measure,
            ("linear_probe_accuracy", "knn_accuracy", "ridge_accuracy"),
            ("encodes",),
            codes.cannot,
            kinds=ANY,
            flop=cost.of_features,
        ),
        "clustering": Evaluator(
            "k-means on the codes; MIG and DCI",
            clustering.measure,
            ("nmi", "ari", "mig", "dci_*"),
            ("encodes",),
            clustering.cannot,
            kinds=ANY,
            flop=cost.of_clustering,
        ),
        "denoising": Evaluator(
            "restoration of corruptions, beside filters",
            denoising.measure,
            ("psnr_db (*", "ssim (*", "hidden_psnr_db (*"),
            ("reconstructs",),
        ),
        "classification": Evaluator(
            "classes by Bayes' rule",
            classification.measure,
            ("bayes_accuracy", "label_nll_nats", "calibration_error", "nll_given_label_nats"),
            ("scores", "weighs"),
            classification.cannot,
            kinds=ANY,
            flop=cost.of_classification,
        ),
        "translation": Evaluator(
            "draws given what a corruption leaves: nearness, agreement, variety",
            translation.measure,
            ("draw_psnr_db", "best_draw_psnr_db", "mean_draw_psnr_db", "given_mse", "given_mse_floor", "diversity"),
            ("translates",),
        ),
        "generation": Evaluator(
            "distances between draws and images, by features",
            generation.measure,
            (
                *("frechet_distance", "kid", "precision", "recall", "density", "coverage", "copying"),
                *("inception_frechet_distance", "inception_kid"),
            ),
            ("samples",),
            generation.cannot,
        ),
        "augmentation": Evaluator(
            "classifiers trained on draws, on real images, on both",
            augmentation.measure,
            ("draws_accuracy", "real_accuracy", "augmented_accuracy", "augmentation_gain"),
            ("samples",),
            augmentation.cannot,
            flop=augmentation.flop,
        ),
    }
)


SCORES: Mapping[str, Evaluator] = registered(
    {
        OBJECTIVE: Evaluator("the objective", anomalies.of_objective, anomalies.names("loss"), ("weighs",), kinds=ANY),
        "likelihood": Evaluator(
            "-log p(x), less the image's complexity; of layers of codes a ratio of bounds",
            anomalies.of_likelihood,
            anomalies.names("nll_nats", "nll_less_complexity_nats", "likelihood_ratio_nats"),
            ("scores", "weighs"),
            anomalies.no_likelihood,
            kinds=ANY,
            flop=cost.of_both_likelihoods,
        ),
        "reconstruction": Evaluator(
            "the squared error", anomalies.of_reconstruction, anomalies.names("squared_error"), ("reconstructs",), kinds=ANY
        ),
        "latent_distance": Evaluator(
            "the distance from the codes of train",
            anomalies.of_latent_distance,
            anomalies.names("latent_distance"),
            ("encodes",),
            codes.too_long,
            kinds=ANY,
            flop=cost.of_both_features,
        ),
    }
)
"""What scores images to tell anomalies from them, in place of the evaluators."""


OF_DRAWS: Mapping[str, Evaluator] = {name: each for name, each in EVALUATORS.items() if "samples" in each.abilities}
"""Those of a model whose draws alone are measured."""


def of(subject: Subject) -> Mapping[str, Evaluator]:
    """What a subject is measured by: evaluators, or scores where it is held against anomalies."""
    if subject.against is not None:
        return SCORES
    return OF_DRAWS if subject.draws_alone else EVALUATORS


def fits(model: Model | type[Model], kind: Kind | None = None, among: Mapping[str, Evaluator] | None = None) -> tuple[str, ...]:
    """The evaluators that a model, or every model of a class, has one of the abilities for; with `kind` those that measure
    something of such data."""
    return tuple(
        name
        for name, evaluator in (EVALUATORS if among is None else among).items()
        if (not evaluator.abilities or len(lacking(model, evaluator.abilities)) < len(evaluator.abilities))
        and (kind is None or kind in evaluator.kinds)
    )


class Chosen(NamedTuple):
    """`names` are the evaluators to run. `left_out`: those that fit but cost too much to run unasked, and the operations of each.
    `notes`: of others that would fit but for the data."""

    names: tuple[str, ...]
    left_out: Mapping[str, float]
    notes: tuple[str, ...]


def check_names(request: EvalRequest, every: Mapping[str, Evaluator], what: str, of_what: str) -> None:
    """Raises UsageError if a name that is asked for is none of those."""
    for name in (*request.only, *request.skip):
        if name not in every:
            known = f"{what}s{of_what}: {', '.join(every)}"
            raise UsageError(f"there is no {what}{of_what} '{name}'", did_you_mean(name, every) or known)


def chosen(subject: Subject) -> Chosen:
    """What the subject's request asks for. Raises UsageError if a name is unknown, or one asked for alone does not fit."""
    request, every = subject.request, of(subject)
    of_what = " of anomalies" if subject.against is not None else " of draws" if subject.draws_alone else ""
    check_names(request, every, "evaluator" if subject.against is None else "score", of_what)
    able = fits(subject.model, among=every)
    for name in request.only:
        if name not in able:
            why = told_lacking(subject.model, every[name].abilities)
            raise UsageError(
                f"variant '{subject.model.variant}' cannot be measured by '{name}': {why}",
                "it has: " + ", ".join(able),
            )
    names: list[str] = []
    left_out: dict[str, float] = {}
    notes: list[str] = []
    for name in request.only or able:
        if name in request.skip:
            continue
        why = _unfit(name, subject)
        if why is not None and request.only:
            raise UsageError(f"no {name} of this run: {why}")
        if why is not None:
            notes.append(f"no {name}: {why}")
        elif not request.asks_for(name) and cost.is_large(flop := every[name].flop(subject)):
            left_out[name] = flop
        else:
            names.append(name)
    return Chosen(tuple(names), left_out, tuple(notes))


def _unfit(name: str, subject: Subject) -> str | None:
    """Why an able model cannot be measured so on its data."""
    evaluator, kind = of(subject)[name], subject.spec.kind
    if kind not in evaluator.kinds:
        return f"it is about {evaluator.kinds[0]}s, and these are {kind}s"
    return evaluator.cannot(subject)


def quick(subject: Subject) -> dict[str, Metric]:
    """What training measures on its validation split: name -> metric. Values may be NaN, by which a training tells that it has
    diverged, or None."""
    metrics: dict[str, Metric] = {}
    for name in fits(subject.model, subject.spec.kind):
        if EVALUATORS[name].quick:
            metrics |= _measure(name, subject).metrics
    return metrics


def _raise(name: str, error: Exception) -> None:
    raise error


def evaluate(
    subject: Subject,
    names: Iterable[str],
    begin: Callable[[str], None] = lambda name: None,
    failed: Callable[[str, Exception], None] = _raise,
) -> dict[str, Findings]:
    """The findings of each evaluator, from the journal where it has them; every number in them is finite or None. `begin(name)`
    is called before each, `failed(name, error)` after one that raised what concerns itself alone, which the others need not
    suffer for. What the user is to mend first (AecliError), a full disk and a signal end all of them."""
    found: dict[str, Findings] = {}
    for name in names:
        begin(name)
        try:
            kept = subject.journal.kept(f"found-{name}", lambda name=name: _pack(_measure(name, subject)))
            findings = _unpack(kept)
            found[name] = _yield(findings, subject.model) if name == OBJECTIVE else findings
        except Exception as error:
            if isinstance(error, (AecliError, BrokenPipeError)) or isinstance(translate(error), StorageError):
                raise
            failed(name, error)
    return found


def _measure(name: str, subject: Subject) -> Findings:
    """What an evaluator finds. Raises ValueError if it measures what it has not declared, which nothing would keep apart."""
    evaluator = of(subject)[name]
    found = evaluator.measure(subject)
    undeclared = [key for key in found.metrics if not any(covers(declared, key) for declared in evaluator.metrics)]
    if undeclared and name != OBJECTIVE:
        raise ValueError(f"evaluator '{name}' does not declare {', '.join(undeclared)} in aecli/evaluation/registry.py")
    return found._replace(values={**found.values, **subject.kept_blocks}) if found.values else found


def _yield(found: Findings, model: Model) -> Findings:
    """What the objective found, without the names that another quick evaluator measures of the model: of one name there is one
    number, whichever evaluators are asked for. An mse of the objective may be that of an output which no picture would show."""
    others = [of for name in fits(model) if name != OBJECTIVE and EVALUATORS[name].quick for of in EVALUATORS[name].metrics]
    taken = {key for key in found.metrics if any(covers(of, key) for of in others)}

    def own(parts: Mapping[str, Any]) -> dict[str, Any]:
        return {key: part for key, part in parts.items() if key not in taken}

    return found._replace(metrics=own(found.metrics), values=own(found.values))


def _pack(findings: Findings) -> dict[str, Any]:
    metrics = {name: metric.finite() for name, metric in findings.metrics.items()}
    about = {"metrics": {name: metric.as_json() for name, metric in metrics.items()}, "notes": findings.notes + _notes(metrics)}
    return {"about": np.asarray(json.dumps(about)), **findings.values}


def _notes(metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """Why metrics have no value: a line a reason, with the names of all that it holds for."""
    names: dict[str, list[str]] = {}
    for name, metric in metrics.items():
        if metric.value is None:
            names.setdefault(metric.note or "it has no value", []).append(name)
    return tuple(f"no {', '.join(some)}: {note}" for note, some in names.items())


def _unpack(arrays: dict[str, Any]) -> Findings:
    about = json.loads(str(arrays.pop("about")))
    return Findings({name: Metric(**metric) for name, metric in about["metrics"].items()}, arrays, tuple(about["notes"]))
