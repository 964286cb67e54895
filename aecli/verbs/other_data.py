"""Other data than a run's for an evaluation of it, in the place of a held-out split or against it.

What is fitted to a train split, the plain methods beside the model and the probes on its codes, is fitted to the run's own, as
the model was: both are then held against images of which neither has seen any.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aecli.config import yamlfile
from aecli.config.load import load as load_config
from aecli.config.schema import Data
from aecli.data import duplicates
from aecli.data.dataset import Dataset, open_dataset
from aecli.data.rows import LabelledRows, Rows, remade
from aecli.data.scaling import ScaledRows
from aecli.data.sources.registry import check_name
from aecli.data.sources.told import some
from aecli.data.sources.vectors import READERS
from aecli.data.whole import as_classes
from aecli.errors import DataError, UsageError, printable
from aecli.evaluation import registry
from aecli.evaluation.request import EvalRequest
from aecli.runs.directory import Run
from aecli.runs.trained import Trained
from aecli.system.progress import say, warn
from aecli.verbs import apply
from aecli.verbs.apply_files import check_form


class Other(NamedTuple):
    """What numbers on other data say of it."""

    name: str
    fingerprint: str

    def stem(self, split: str) -> str:
        """What the numbers are kept as, beside those on the run's own data."""
        return f"{split}-{self.fingerprint[:12]}"

    def protocol(self) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint, "data": self.name, "fitted_to": "the run's own train split"}


class Anomalies(NamedTuple):
    """What numbers say of the data that a run's own was held against, whose images are the split of this name of `dataset`."""

    name: str
    fingerprint: str
    dataset: Dataset

    def stem(self, split: str) -> str:
        """What the numbers are kept as, beside those on the run's own data."""
        return f"{split}-against-{self.fingerprint[:12]}"

    def protocol(self) -> dict[str, Any]:
        return {"against": self.name, "against_fingerprint": self.fingerprint}


def open_anomalies(run: Run, trained: Trained, own: Dataset, request: EvalRequest, path: Path) -> Anomalies:
    """The anomalies that a config, or a file with a block `data` alone, describes: see `open_other`, but for their classes, which
    are expected to be others. Raises UsageError if they are the run's own data, or the model gives no image a score."""
    if not registry.fits(trained.model, among=registry.SCORES):
        needed = ", ".join(dict.fromkeys(each for score in registry.SCORES.values() for each in score.abilities))
        raise UsageError(
            f"variant '{trained.model.variant}' gives no score by which anomalies could be told", f"it has none of {needed}"
        )
    dataset, other = open_other(run, trained, own, request, path, labels_matter=trained.model.is_conditional)
    if other is None:
        raise UsageError("these are no anomalies: their scores are those of the images beside them", "give other data")
    split = request.split
    if both := duplicates.equal(own.intensity(split), dataset.intensity(split)):
        kind = own.spec.kind
        warn(f"{both:,} of the {len(dataset.split(split)):,} anomalies are equal to {kind}s of the run's own {split} split")
    if trained.model.is_conditional:
        unseen = np.setdiff1d(dataset.split(split).labels, own.train.labels)
        if (new := unseen[unseen >= 0]).size:
            classes = some([run.info().data.classes[label] for label in new])
            warn(f"the model is told the class of each image, and has trained on none of {classes}: its scores are of chance")
    return Anomalies(other.name, other.fingerprint, dataset)


def open_other(
    run: Run, trained: Trained, own: Dataset, request: EvalRequest, path: Path, labels_matter: bool = True
) -> tuple[Dataset, Other | None]:
    """The `own` data of a run with a held-out split of the data that a config, or a file with a block `data` alone, describes;
    and what that is, None if it is the run's own. Images reach the model as those of the run do: binarized and scaled as they
    were. Labels are those of the run's classes, by their names; where the classes are others there are none, which is told if
    labels matter.

    Raises ConfigError if the file is wrong, DataError if the images are not of the run's form, or its model needs labels and
    there are none, UsageError if there is no such split."""
    _check_is_config(path, trained)
    resolved = yamlfile.parse(run.resolved_config(), "config.resolved.yaml").data
    config = load_config(path, (), check_name, resolved)
    with config.locating():
        other = open_dataset(_as_the_run(trained.experiment.data, config.experiment.data), say)
    data = config.experiment.data
    name = (
        data.called if data.classes is None else f"{data.called} of {some([str(one) for one in sorted(data.classes, key=str)])}"
    )
    if other.fingerprint == own.fingerprint:
        say(f"{name} is the run's own data")
        return own, None
    check_form(run, other.spec, name, "data.{}: {}")
    model = trained.model
    apply.check_pairs((*model.corruptions, *model.given_corruptions), other.spec.paired, name)
    split = request.split
    rows = other.split(split)
    if not len(rows):
        raise UsageError(f"{name} has no {split} split: data.validation is 0", "use --split test")
    if trained.scaling is not None:
        rows = ScaledRows(rows, trained.scaling)
    known = run.info().data.classes
    theirs = other.class_names or tuple(map(str, range(other.spec.classes)))
    labels = as_classes(rows.labels, theirs, known)
    if labels is None:
        not_ours = f"the classes of {name}, {some(theirs)}, are not those of the run, {some(known) or 'which has none'}"
        why = not_ours if theirs else f"{name} has no labels"
        if trained.model.is_conditional:
            raise DataError(f"{why}, and the model is conditional on the label", "give data of the run's classes")
        if labels_matter:
            say(f"note: {why}: what needs labels is left out")
    joined = _joined(own, other, split, rows, labels)
    duplicates.tell(joined, warn)
    return joined, Other(name, other.fingerprint)


def _check_is_config(path: Path, trained: Trained) -> None:
    """Raises UsageError if a path is of data themselves."""
    if path.is_dir():
        name = "folder"
    elif path.suffix.lower() in READERS:
        name = "vectors" if trained.spec.kind == "vector" else "npz"
    else:
        return
    raise UsageError(
        f"{path} is no config: other data are described by a YAML file with a block data",
        f"write the line `data: {{name: {name}, path: {printable(json.dumps(str(path)))}}}` into other.yaml; --data other.yaml",
    )


def _as_the_run(own: Data, data: Data) -> Data:
    """How other data is opened for a model."""
    if own.binarize != data.binarize and data.changed("binarize"):
        say(f"data.binarize is {own.binarize}, as of the run, and not {data.binarize}")
    if own.binarize == "fixed" and data.dtype == "float32":
        raise UsageError("a frozen draw is made from images of 8 bit (the run's data.binarize: fixed)", "leave data.dtype out")
    return data.model_copy(update={"binarize": own.binarize, "standardize": "none", "batch_size": 1})


def _joined(own: Dataset, other: Dataset, split: str, rows: Rows, labels: Any) -> Dataset:
    spec = own.spec if labels is not None else own.spec._replace(classes=0)
    known = np.full(len(rows), -1, np.int32) if labels is None else labels
    rows = remade(rows, lambda kept: LabelledRows(kept, known))
    both = hashlib.sha256(f"{own.fingerprint} {other.fingerprint} {split}".encode()).hexdigest()
    return dataclasses.replace(
        own,
        spec=spec,
        validation=rows if split == "validation" else own.validation,
        test=rows if split == "test" else own.test,
        fingerprint=both,
        drawn_from={**own.drawn_from, split: other.intensity(split)} if own.drawn_from else {},
        of_train=own.fingerprint,
        blocks={name: blocks for name, blocks in other.blocks.items() if name == split},
    )
