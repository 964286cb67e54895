"""Measures a trained run and keeps the numbers with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aecli.data.dataset import Dataset
from aecli.data.eval_batches import BATCH
from aecli.errors import DataError, UsageError
from aecli.evaluation.journal import Journal
from aecli.evaluation.judges.inception import Inception
from aecli.evaluation.registry import chosen, evaluate
from aecli.evaluation.subject import Subject
from aecli.measures.metric import VERSION
from aecli.runs.directory import Run
from aecli.runs.trained import Trained
from aecli.system.files import exclusive, read_json, write_arrays, write_json


class Request(NamedTuple):
    """`only` and `skip` name evaluators; without `only`, all that fit. `samples`: importance samples per image. `draws`:
    images to draw. `inception`: the features of published Frechet distances."""

    split: str = "test"
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    samples: int = 500
    draws: int = 10_000
    inception: Inception | None = None


class Watch(NamedTuple):
    """What is told of a measurement that goes on: `begin(evaluator)`, then `tell(done, total)`."""

    begin: Callable[[str], None] = lambda name: None
    tell: Callable[[int, int], None] = lambda done, total: None


class Measured(NamedTuple):
    """`metrics`: name -> all of a `Metric`, `evaluator` and `protocol`."""

    metrics: dict[str, Any]
    notes: tuple[str, ...]


def evaluate_run(run: Run, trained: Trained, dataset: Dataset, request: Request, watch: Watch) -> Measured:
    """Measures a trained model on a split. Writes `eval/<split>.json`, which is returned, and the per-image values to
    `eval/<split>-values.npz`; numbers of other evaluators of the same checkpoint stay in them. What an interrupted evaluation
    has done is found again.

    Raises DataError where the data is not what the run was trained on, UsageError for an empty split or evaluators that do not
    fit."""
    experiment, split = trained.experiment, request.split
    if dataset.fingerprint != run.info()["data"]["fingerprint"]:
        raise DataError(f"the data is not what run {run.id} was trained on: its fingerprint differs", "restore the data")
    if not len(dataset.split(split)):
        raise UsageError(f"run {run.id} has no {split} split: data.validation is 0", "use --split test")
    protocol = {
        "version": VERSION,
        "split": split,
        "step": trained.step,
        "binarize": experiment.data.binarize,
        "seed": experiment.seed,
        "batch": BATCH,
        "fingerprint": dataset.fingerprint,
    }
    folder = run.path / "eval"
    with exclusive(folder / ".lock"):
        journal = Journal(folder / f".{split}.unfinished", _stamp(protocol, request))
        subject = Subject(
            model=trained.model,
            state=trained.state,
            dataset=dataset,
            split=split,
            binarize=experiment.data.binarize,
            seed=experiment.seed,
            place=trained.place,
            samples=request.samples,
            draws=request.draws,
            inception=request.inception,
            journal=journal,
            tell=watch.tell,
        )
        names, notes = chosen(subject, request.only, request.skip)
        found = evaluate(subject, names, watch.begin)
        metrics = _kept(folder / f"{split}.json", protocol, names)
        values = _kept_values(folder / f"{split}-values.npz", metrics)
        for name, findings in found.items():
            for key, metric in findings.metrics.items():
                metrics.pop(key, None)  # a name that the objective has too stands where the later evaluator is
                metrics[key] = {**metric.as_json(), "evaluator": name, "protocol": {**protocol, **metric.protocol}}
            values |= {f"{name}/{key}": np.asarray(value, np.float32) for key, value in findings.values.items()}
            notes += findings.notes
        write_arrays(folder / f"{split}-values.npz", values)
        write_json(folder / f"{split}.json", metrics)
        journal.close()
    return Measured(metrics, notes)


def _stamp(protocol: dict[str, Any], request: Request) -> dict[str, Any]:
    """What unfinished work must agree with to be gone on with."""
    judge = None if request.inception is None else request.inception.hash
    return {**protocol, "samples": request.samples, "draws": request.draws, "inception": judge, "jax": jax.__version__}


def _kept(path: Path, protocol: dict[str, Any], replaced: Sequence[str]) -> dict[str, Any]:
    """What earlier evaluations of the same checkpoint on the same images found, but for the evaluators that have run again."""
    old = read_json(path)
    if not isinstance(old, dict):
        return {}
    return {
        name: metric
        for name, metric in old.items()
        if metric.get("evaluator") not in replaced and protocol.items() <= metric.get("protocol", {}).items()
    }


def _kept_values(path: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    kept = {metric["evaluator"] for metric in metrics.values()}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if name.split("/")[0] in kept}
    except (OSError, ValueError):
        return {}
