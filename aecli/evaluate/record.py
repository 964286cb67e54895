"""Measures a trained run and keeps the numbers with it."""

from __future__ import annotations

from typing import Any

import jax

from aecli.data.dataset import Dataset
from aecli.errors import DataError, UsageError
from aecli.evaluate.batches import BATCH
from aecli.evaluate.run import evaluate
from aecli.files import write_json
from aecli.restored import Trained
from aecli.runs import Run


def evaluate_run(run: Run, trained: Trained, split: str, dataset: Dataset) -> dict[str, Any]:
    """Measures a trained model on a split and writes `eval/<split>.json`, which is returned: name -> value, standard_error, n,
    unit and protocol. Raises DataError where the data is not what the run was trained on, UsageError for an empty split."""
    experiment = trained.experiment
    if dataset.fingerprint != run.info()["data"]["fingerprint"]:
        raise DataError(f"the data is not what run {run.id} was trained on: its fingerprint differs", "restore the data")
    rows = dataset.split(split)
    if not len(rows):
        raise UsageError(f"run {run.id} has no {split} split: data.validation is 0", "use --split test")
    root = jax.random.key(experiment.seed)
    metrics = evaluate(trained.model, trained.state, rows, experiment.data.binarize, root, trained.place)
    protocol = {
        "split": split,
        "step": trained.step,
        "binarize": experiment.data.binarize,
        "seed": experiment.seed,
        "batch": BATCH,
        "fingerprint": dataset.fingerprint,
    }
    result = {name: {**metric.as_json(), "protocol": protocol} for name, metric in metrics.items()}
    write_json(run.path / "eval" / f"{split}.json", result)
    return result
