"""The training loop: dispatch steps, look at those before, log, evaluate, save, in that order."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from math import isfinite
from typing import Any

import jax
import numpy as np

from aecli.config.schema import Experiment
from aecli.core.model import loss_first
from aecli.data.dataset import Dataset
from aecli.data.train_batches import open_feed
from aecli.errors import AecliError, CheckpointError, DivergedError, InterruptedRun
from aecli.runs import checkpoint, seal
from aecli.runs.directory import Run
from aecli.runs.records import Beside, validated
from aecli.runs.state import init
from aecli.system.hosts import Leader, blaming
from aecli.system.placement import Placement, here, most_bytes, spread
from aecli.system.progress import Progress, say
from aecli.system.reading import Unreadable
from aecli.system.signals import Signals, Terminated
from aecli.system.untraced import Program
from aecli.training.call import Call, adapt, all_finite, steps_program
from aecli.training.monitor import check_monitor, validate
from aecli.training.schedule import Schedule
from aecli.training.writers import Rows


@dataclasses.dataclass
class LoopState:
    """What a run knows beside its state: saved with every checkpoint."""

    step: int = 0
    best_step: int | None = None
    best_value: float | None = None
    stale: int = 0
    """Evaluations since the best one."""
    evaluated: int = 0
    """The last step whose evaluation is done."""
    seconds: float | None = 0.0
    """Of the steps, without what is compiled, measured and saved between them; None if an older version made some of them."""


@dataclasses.dataclass
class Interval:
    """Sums of the training values since the last row, and the numbers of the last updates."""

    sums: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    updates: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    steps: int = 0
    since: float = dataclasses.field(default_factory=time.monotonic)

    def add(self, call: Call) -> None:
        for name, values in call.values.items():
            for value in values.tolist():  # in order: the sum of a part and a part would have other last bits
                self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps += call.count
        # A network that rests in the last step has no update there.
        self.updates = {name: value for name, value in call.updates.items() if isfinite(value)}

    def averages(self, batch_size: int) -> dict[str, float]:
        return {name: self.sums[name] / (self.steps * batch_size) for name in loss_first(self.sums)}


class Training:
    """One run from its newest checkpoint, or from the start, to its end."""

    def __init__(
        self,
        experiment: Experiment,
        run: Run,
        dataset: Dataset,
        template: Any,
        place: Placement,
        signals: Signals,
        warn: Callable[[str], None],
        start: Any = None,
        crew: Leader | None = None,
    ) -> None:
        self._run, self._dataset, self._signals, self._seed = run, dataset, signals, experiment.seed
        self._crew = crew or Leader()
        self._experiment, self._data, self._train = experiment, experiment.data, experiment.train
        self._spec, self._size = dataset.spec, len(dataset.train)
        self._steps = experiment.steps(self._size)
        self._program = partial(steps_program, experiment, dataset.spec, self._size)
        self._schedule = Schedule(experiment.train, self._steps, self._size, self._data.batch_size)
        self._root = jax.random.key(experiment.seed)
        self._place = place
        check_monitor(experiment, dataset.spec, len(dataset.validation), template)
        self._at = LoopState()
        self._saved: int | None = None
        self._steps_program: Program[float] | None = None
        self._seal = seal.facts(run.resolved_config(), run.info().data)
        restored = checkpoint.restore(run.checkpoints, template, warn, writing=True)
        self._feed = open_feed(dataset, self._seed, self._data.batch_size, place)
        if restored is None:
            state, offset = self._first_state(experiment, template) if start is None else start, 0
        else:
            state, self._saved = restored.state, restored.step
            beside = _beside(restored)
            self._at = LoopState(**beside.progressed.model_dump(include=set(LoopState.__annotations__)))
            offset = beside.metrics_offset
        run.cut_metrics(offset)
        self._crew.order({"begin": self._at.step})
        self._state = spread(state, place)
        self.resumed_from = self._saved
        self._running_since: float | None = None
        if restored is None and start is not None:
            self._save()  # the run has what it starts from, whatever becomes of where that came from
        self._rows = Rows(run, self._train.trackers, warn)

    def _first_state(self, experiment: Experiment, template: Any) -> Any:
        """Compiled and computed while the steps are compiled beside, or read: much of that is done by one core, and without
        Python. Of several processes each compiles its steps when it is told to take them."""
        if not self._place.whole:
            return init(experiment, self._dataset.spec, self._size, self._place.here)

        with ThreadPoolExecutor(1) as beside:
            steps = beside.submit(self._program, template, self._feed.chunk(0, 1))
            first = init(experiment, self._dataset.spec, self._size, self._place)
            self._steps_program = steps.result()
            return first

    def run(self) -> str:
        """Trains to the end; returns why it ended. Raises DivergedError, and InterruptedRun with the state saved."""
        feed = self._feed
        per_call, pending, begun = 1, None, False
        interval, called = Interval(), time.monotonic()
        with Progress(self._steps, self._at.step, kind=self._spec.kind) as progress:
            if self._schedule.is_eval(self._at.step) and self._at.evaluated != self._at.step:
                self._evaluate(progress)  # a signal came while this was going on
                self._save()
            while self._at.step < self._steps and not self._out_of_patience():
                self._stop_if_asked()
                if begun:
                    self._go_on()
                step = self._at.step
                count = min(per_call, feed.most, self._schedule.next_stop(step) - step)
                chunk = feed.chunk(step, count)  # while the device works on the call before
                self._crew.order({"step": step, "count": count})
                program = self._steps_program = self._steps_program or self._program(self._state, chunk)
                self._state, *told = program.call(self._state, chunk, np.int32(step), np.int32(count), self._root)
                if not begun:
                    begun, interval = True, Interval()
                    progress.begin(step)
                    self._go_on()
                if pending is not None:
                    self._look(pending, interval)
                now = time.monotonic()
                per_call, called = adapt(per_call, now - called), now
                pending = Call(step, count, *told)
                self._at.step = step + count
                if self._at.step == self._schedule.next_stop(step):
                    self._look(pending, interval)
                    pending = None
                    stopped = time.monotonic()
                    self._pause()
                    self._at_stop(interval, progress)
                    called = time.monotonic()
                    interval.since += called - stopped
                    if self._schedule.is_log(self._at.step):
                        interval = Interval()
                elif interval.steps:
                    values = interval.averages(self._data.batch_size)
                    progress.update(self._at.step, values, self._rate(interval))
        self._pause()
        if self._saved != self._at.step:
            self._save()
        return "stopped early: no better " + self._train.monitor if self._at.step < self._steps else "done"

    def close(self) -> None:
        """The trackers are told no more."""
        self._rows.close()

    @property
    def at(self) -> LoopState:
        return self._at

    def facts(self) -> dict[str, Any]:
        """What `state.json` says of how far a run is, and what that has cost."""
        at = self._at
        return {
            "step": at.step,
            "best_step": at.best_step,
            "best_value": at.best_value,
            **({} if at.seconds is None else {"seconds": round(at.seconds, 3)}),
            "peak_bytes": most_bytes(),
            **({} if self._steps_program is None else {"flop_per_step": self._steps_program.told}),
        }

    def _go_on(self) -> None:
        """The time of steps runs on."""
        if self._running_since is None:
            self._running_since = time.monotonic()

    def _pause(self) -> None:
        """What follows is no training step."""
        if self._running_since is not None and self._at.seconds is not None:
            self._at.seconds += time.monotonic() - self._running_since
        self._running_since = None

    @property
    def state(self) -> Any:
        """Whole on each device of this process."""
        return here(self._state, self._place)

    def _look(self, pending: Call, interval: Interval) -> None:
        """Waits for a call and reads its values."""
        call = pending.done()
        bad = call.bad()
        if bad is not None:
            raise self._diverged(bad + 1, "a training value is not finite")
        interval.add(call)

    def _at_stop(self, interval: Interval, progress: Progress) -> None:
        """What happens between calls: a row of metrics, an evaluation, a checkpoint."""
        step = self._at.step
        values = interval.averages(self._data.batch_size)
        progress.update(step, values, self._rate(interval))
        if self._schedule.is_log(step):
            rate = round(self._rate(interval), 1)
            self._row("train", values, steps=interval.steps, images_per_s=rate, **interval.updates)
        if self._schedule.is_eval(step):
            self._tell(progress, "train     ", values)
        improved = self._schedule.is_eval(step) and self._evaluate(progress)
        if improved or self._schedule.is_save(step):
            self._save()

    def _evaluate(self, progress: Progress) -> bool:
        """Measures the validation split, where there is one; whether it is the best so far."""
        at = self._at
        if not len(self._dataset.validation):
            return False
        metrics = validate(self._experiment, self._dataset, self.state, self._place.here, self._stop_if_asked)
        # What has no value, as the explained variance of images that are all alike, has no place in a row.
        values = {name: metric.value for name, metric in metrics.items() if metric.value is not None}
        if not all(isfinite(value) for value in values.values()):
            raise self._diverged(at.step, "a validation value is not finite")
        self._row("validation", values)
        self._tell(progress, "validation", values)
        value, at.evaluated = values.get(self._train.monitor), at.step
        if value is not None and (at.best_value is None or value < at.best_value):
            at.best_step, at.best_value, at.stale = at.step, value, 0
            return True
        at.stale += 1
        return False

    def _save(self) -> None:
        at, run, state = self._at, self._run, self.state
        if not all_finite(state):
            raise self._diverged(at.step, "a weight or an optimizer value is not finite")
        key = self._root
        extra = {
            "seal": self._seal,
            "progressed": dataclasses.asdict(at),
            "position": {"epoch": at.step * self._data.batch_size // self._size, "step": at.step},
            "metrics_offset": run.metrics_size(),
            "key": {"impl": str(jax.random.key_impl(key)), "data": np.asarray(jax.random.key_data(key)).tolist()},
        }
        if self._saved == at.step:
            checkpoint.amend(run.checkpoints, at.step, extra)
        else:
            checkpoint.save(run.checkpoints, at.step, state, extra)
        checkpoint.retain(run.checkpoints, self._train.keep, at.best_step)
        self._saved = at.step
        run.set_state("running", **self.facts())

    def _stop_if_asked(self) -> None:
        """Ends the run at this step boundary, saved, when a signal has come to this process or another."""
        signum = self._signals.received or self._crew.heard()
        if signum is None:
            return
        self._pause()
        if self._saved != self._at.step:
            self._save()
        raise InterruptedRun(signum, f"stopped at step {self._at.step}, which is saved", f"aecli train --resume {self._run.id}")

    def _row(self, split: str, values: dict[str, float], **facts: Any) -> None:
        at = self._at
        seconds = {} if at.seconds is None else {"seconds": round(at.seconds, 3)}
        epoch = round(self._schedule.epoch(at.step), 4)
        self._rows.append({"split": split, "step": at.step, "epoch": epoch, **values, **facts, **seconds})

    def _tell(self, progress: Progress, split: str, values: dict[str, float]) -> None:
        shown = "  ".join(f"{name} {value:.5g}" for name, value in values.items())
        progress.line(f"epoch {self._schedule.epoch(self._at.step):<5.4g} {split} {shown}")

    def _diverged(self, step: int, what: str) -> DivergedError:
        kept = (
            f"the newest checkpoint is of step {self._saved}" if self._saved is not None else "no checkpoint was written before"
        )
        return DivergedError(
            f"{what} at step {step}; {kept}",
            "lower optimizer.learning_rate, add optimizer.warmup, or set optimizer.clip_norm: 1.0",
        )

    def _out_of_patience(self) -> bool:
        return self._train.patience is not None and self._at.stale >= self._train.patience

    def _rate(self, interval: Interval) -> float:
        return interval.steps * self._data.batch_size / max(1e-9, time.monotonic() - interval.since)


def _beside(restored: checkpoint.Loaded) -> Beside:
    """What a checkpoint keeps beside the state. Raises CheckpointError if it is not what a training keeps."""
    try:
        beside = validated(Beside, restored.extra)
        if beside.progressed.step != restored.step:
            raise Unreadable(f"it tells of step {beside.progressed.step}")
    except Unreadable as error:
        raise CheckpointError(f"checkpoint {restored.step} keeps no progress to go on from: {error}", "train anew") from None
    return beside


def train(
    experiment: Experiment,
    run: Run,
    dataset: Dataset,
    template: Any,
    place: Placement,
    warn: Callable[[str], None],
    start: Any = None,
    crew: Leader | None = None,
) -> Training:
    """Trains a run that the caller has locked, and keeps `state.json` true whatever happens. `template` is the form of its state
    (`state_template`), on the devices of this process; `start` a first state other than the one that the seed gives. Of a `crew`
    of several processes this one leads, and the others `follow` (`follow.py`)."""
    run.set_state("running")
    crew = crew or Leader()
    try:
        with Signals() as signals, blaming(crew):
            training = Training(experiment, run, dataset, template, place, signals, warn, start, crew)
            if training.resumed_from is not None:
                say(f"resuming at step {training.resumed_from}")
            with closing(training):
                reason = training.run()
    except DivergedError as error:
        run.set_state("diverged", reason=error.message)
        raise
    except InterruptedRun:
        run.set_state("interrupted", reason="signal")
        raise
    except (KeyboardInterrupt, Terminated):
        run.set_state("interrupted", reason="signal")
        raise
    except BaseException as error:
        reason = error.message if isinstance(error, AecliError) else f"{type(error).__name__}: {error}"
        run.set_state("failed", reason=reason[:500])
        raise
    # whole: after a kill between a checkpoint and `state.json` this may be the first that is told of it
    run.set_state("completed", **training.facts(), reason=reason)
    return training
