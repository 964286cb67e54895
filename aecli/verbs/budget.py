"""How many steps a run has whose length is a budget: of operations, or of minutes. Found once, when it starts."""

from __future__ import annotations

import statistics
import time

import jax

from aecli.config.schema import Experiment
from aecli.core.model import Spec
from aecli.data.dataset import Dataset
from aecli.data.train_batches import open_feed
from aecli.errors import SettingError
from aecli.runs.records import Budget
from aecli.runs.state import init, state_template
from aecli.system.placement import Placement
from aecli.training.call import flop_of_step, steps_program
from aecli.training.monitor import validate
from aecli.training.pace import pace

MEASURED_SHARE, MOST_MEASURED_SECONDS = 0.05, 5.0
"""Of the minutes that are asked for, and the most seconds, that steps are timed for."""
MOST_STEPS = 2**31 - 1
"""The device counts steps in int32."""


def in_steps(experiment: Experiment, dataset: Dataset, place: Placement) -> Budget | None:
    """What a budget comes to on this data and, of minutes, on these devices; None where the length is no budget. Raises
    SettingError if the model cannot serve the data, or for a budget of less than a step, and of more than can be counted."""
    if experiment.train.flop is not None:
        return of_flop(experiment, dataset.spec, place)
    if experiment.train.minutes is not None:
        return _of_minutes(experiment, dataset, place)
    return None


def of_flop(experiment: Experiment, spec: Spec, place: Placement) -> Budget:
    """What `train.flop` comes to; raises as `in_steps` does."""
    amount = experiment.train.flop
    assert amount is not None
    some = experiment.without_budget()
    flop = flop_of_step(some, spec, state_template(some, spec, 1, place))
    if not flop:
        message = "a step of this model has no products and convolutions, which are what is counted"
        raise SettingError(("train", "flop"), "unsuitable", message, help="set train.steps")
    if amount < flop:
        message = f"{amount:.4g} FLOP are less than a step, which is {flop:.4g}"
        raise SettingError(("train", "flop"), "unsuitable", message, help="raise it, or lower data.batch_size")
    return _budget("flop", amount, amount / flop, flop)


def _of_minutes(experiment: Experiment, dataset: Dataset, place: Placement) -> Budget:
    """At least one step: a step may take longer than was asked for on a slow machine alone."""
    minutes = experiment.train.minutes
    assert minutes is not None
    some = experiment.without_budget()
    step, validation = _seconds(some, dataset, place, min(MOST_MEASURED_SECONDS, MEASURED_SHARE * 60 * minutes))
    # One after so many passes, and one at the end.
    between = experiment.train.eval_every * len(dataset.train) / experiment.data.batch_size
    each = step + validation / between
    return _budget("minutes", minutes, max(1.0, (60 * minutes - validation) / each), each)


def _seconds(experiment: Experiment, dataset: Dataset, place: Placement, seconds: float) -> tuple[float, float]:
    """Of a step and of a validation, on a state of its own: keys are functions of the seed and the step, so that nothing is left
    of this."""
    size, data = len(dataset.train), experiment.data
    state_template(experiment, dataset.spec, size, place)  # whether the model serves the data
    state = init(experiment, dataset.spec, size, place)
    feed = open_feed(dataset, experiment.seed, data.batch_size, place)
    program = steps_program(experiment, dataset.spec, size, state, feed.chunk(0, 1))
    most = min(feed.most, experiment.train.log_every)  # a row of training values ends a call
    timed = pace(program.call, feed, state, jax.random.key(experiment.seed), seconds, most)
    if not len(dataset.validation):
        return statistics.median(timed.seconds), 0.0
    validate(experiment, dataset, timed.state, place)  # compiles
    begun = time.monotonic()
    validate(experiment, dataset, timed.state, place)
    return statistics.median(timed.seconds), time.monotonic() - begun


def _budget(setting: str, amount: float, steps: float, per_step: float) -> Budget:
    if steps > MOST_STEPS:
        message = f"{amount:.4g} would be {steps:.4g} steps, and a run has at most {MOST_STEPS:,}"
        raise SettingError(("train", setting), "unsuitable", message, help=f"lower it: a step is {per_step:.4g}")
    return Budget.model_validate({"setting": setting, "amount": amount, "per_step": per_step, "steps": int(steps)})
