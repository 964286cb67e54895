"""What a training watches: the validation split, measured in between, and whether the monitor is among what that gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from aecli.config.schema import Experiment
from aecli.core.model import Batch, Spec, check_values
from aecli.data.dataset import Dataset
from aecli.data.eval_batches import EVAL_BATCH
from aecli.errors import SettingError, did_you_mean
from aecli.evaluation.registry import EVALUATORS, fits, measuring, quick
from aecli.evaluation.request import EvalRequest
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Metric
from aecli.system.placement import Placement
from aecli.system.untraced import computed


def check_monitor(experiment: Experiment, spec: Spec, validation: int, template: Any) -> tuple[str, ...]:
    """The names of what the model reports of a validation split of so many examples; `template` is the form of its state. Raises
    SettingError for a monitor that is not among them, or for patience that nothing feeds."""
    model, train = experiment.model, experiment.train
    if train.patience is not None and not validation:
        message = "patience watches the validation split, and data.validation is 0"
        raise SettingError(("train", "patience"), "unsuitable", message, help="set data.validation, or leave patience out")

    def reported() -> tuple[str, ...]:
        values = jax.eval_shape(model.evaluate, template, Batch.abstract(EVAL_BATCH, spec), jax.random.key(experiment.seed))
        return (*check_values(model, "evaluate", values, EVAL_BATCH),)

    names = computed("what is reported", (model, spec, experiment.train.precision), reported)
    if train.monitor not in names:
        message = f"'{train.monitor}' is no metric of variant '{model.variant}'"
        if measuring(train.monitor, [name for name in fits(model, spec.kind) if EVALUATORS[name].quick]) is not None:
            message = f"'{train.monitor}' is measured at validations, but not by variant '{model.variant}' itself"
            message += ": a monitor is one of its own values, of which lower is better"
        raise SettingError(
            ("train", "monitor"), "unknown-metric", message, did_you_mean(train.monitor, names), "metrics: " + ", ".join(names)
        )
    return names


def _never() -> None:
    pass


def validate(
    experiment: Experiment, dataset: Dataset, state: Any, place: Placement, poll: Callable[[], None] = _never
) -> dict[str, Metric]:
    """Measures the validation split; `poll()` is called before each batch and may raise."""
    return quick(
        Subject(
            model=experiment.model,
            state=state,
            dataset=dataset,
            request=EvalRequest("validation"),
            binarize=experiment.data.binarize,
            seed=experiment.seed,
            place=place,
            baselines=False,
            poll=poll,
        )
    )
