"""Holds the cells of a sweep against their data before anything is trained. Done in a worker: to ask JAX for a device takes all
of its memory, which the workers need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aecli.config.schema import Experiment
from aecli.core.model import Spec
from aecli.data.dataset import Dataset, open_dataset
from aecli.errors import SettingError, UsageError, did_you_mean, translate
from aecli.evaluation.registry import EVALUATORS, OBJECTIVE, fits, measuring
from aecli.runs.state import state_template
from aecli.sweeps.draft import rebuilt
from aecli.system import threads
from aecli.system.placement import placement
from aecli.system.progress import say
from aecli.training.monitor import check_monitor
from aecli.verbs import budget


class Held(NamedTuple):
    """The fingerprint of a cell's data, and the evaluator of the metric that is to be selected by; or what is wrong: the parts of
    a SettingError, or the code, message and help of another error, and the flag that made it if no setting did."""

    fingerprint: str = ""
    evaluator: str | None = None
    setting: tuple[Any, ...] | None = None
    other: tuple[int, str, str | None, str] | None = None


def hold(
    text: str, name: str, folder: Path, each: Sequence[Sequence[str]], only: Sequence[str], select: str | None
) -> list[Held]:
    """One config text with `each` of several lists of flags."""
    datasets: dict[str, Dataset] = {}
    found: list[Held] = []
    for flags in each:
        try:
            experiment = rebuilt(text, name, folder, flags).experiment
            if not found:
                threads.use(experiment.train.threads)  # of those that this worker trains first
            key = experiment.data.model_dump_json()
            if key not in datasets:
                datasets.clear()  # one at a time: they may be large
                datasets[key] = open_dataset(experiment.data, say)
            found.append(_hold(experiment, datasets[key], only, select))
        except SettingError as error:
            found.append(Held(setting=(error.path, error.rule, error.text, error.label, error.hint)))
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            flag = error.flag if isinstance(error, _FlagError) else ""
            found.append(Held(other=(known.code, known.message, known.help, flag)))
    return found


class _FlagError(UsageError):
    def __init__(self, flag: str, message: str, help: str) -> None:
        super().__init__(message, help)
        self.flag = flag


def _hold(experiment: Experiment, dataset: Dataset, only: Sequence[str], select: str | None) -> Held:
    some, place = experiment.without_budget(), placement(experiment.data.batch_size)
    template = state_template(some, dataset.spec, len(dataset.train), place)
    if experiment.train.flop is not None:
        budget.of_flop(experiment, dataset.spec, place)
    reported = check_monitor(experiment, dataset.spec, len(dataset.validation), template)
    able = fits(experiment.model, dataset.spec.kind)
    for name in only:
        if name not in able:
            raise _FlagError(
                "--only", f"variant '{experiment.model.variant}' cannot be measured by '{name}'", "it can by: " + ", ".join(able)
            )
    evaluator = None
    if select is not None:
        evaluator = _evaluator_of(select, reported, able, experiment, dataset.spec)
        if not len(dataset.validation):
            message = "a cell is selected on the validation split, and there is none"
            raise SettingError(("data", "validation"), "unsuitable", message, help="set data.validation, such as 0.1")
    return Held(dataset.fingerprint, evaluator)


def _evaluator_of(metric: str, reported: Sequence[str], able: Sequence[str], experiment: Experiment, spec: Spec) -> str:
    """The evaluator that measures a metric. Raises UsageError if none of a model's does."""
    if (name := measuring(metric, able)) is not None:
        return name
    if metric in reported:
        return OBJECTIVE
    names = [*reported, *(each for name in able for each in EVALUATORS[name].metrics)]
    raise _FlagError(
        "--select",
        f"variant '{experiment.model.variant}' on {spec.kind}s has no metric '{metric}' to select by",
        did_you_mean(metric, names) or "metrics: " + ", ".join(names),
    )
