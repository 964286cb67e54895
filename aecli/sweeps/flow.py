"""A sweep from what is asked for to its end, and on from where it was stopped. Stands in this room, since what a sweep does is
made of what the other verbs do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from aecli.errors import DivergedError, InterruptedRun, RunError, StorageError, UsageError, did_you_mean
from aecli.evaluation.registry import EVALUATORS
from aecli.runs.directory import UNREADABLE, Run
from aecli.sweeps import draft as drafting
from aecli.sweeps import folder, holding, local, states
from aecli.sweeps.asked import Asked
from aecli.sweeps.cell import config_of
from aecli.sweeps.choice import choose
from aecli.sweeps.draft import Draft, config_hash, held_key, located, with_seed
from aecli.sweeps.folder import Sweep
from aecli.sweeps.holding import Held
from aecli.sweeps.local import Ended, Running, Workers
from aecli.sweeps.records import Cell, Plan, Selected
from aecli.sweeps.states import GONE, WAITING, State
from aecli.system import threads
from aecli.system.progress import duration
from aecli.system.signals import Signals


class Status(NamedTuple):
    """How far a sweep is: the cells that are worked on with the time that they were begun, and how many ended of how many that
    there were to do in this sitting."""

    sweep: Sweep
    plan: Plan
    states: list[State]
    working: dict[int, float]
    ended: int
    total: int
    begun: float

    @property
    def left(self) -> str:
        """`4 of 10 done, 0:35 left`, by the time that those took."""
        text = f"{self.ended} of {self.total} done"
        if 0 < self.ended < self.total:
            text += f", {duration((time.monotonic() - self.begun) / self.ended * (self.total - self.ended))} left"
        return text


class Watch(NamedTuple):
    """Whoever looks on: lines, the status again and again, and lines of what went wrong, which are said where nobody takes them
    by themselves."""

    say: Callable[[str], None] = lambda line: None
    look: Callable[[Status], None] = lambda status: None
    alarm: Callable[[str], None] | None = None

    def warn(self, line: str) -> None:
        (self.alarm or self.say)(line)


NOBODY = Watch()


class Engine(Protocol):
    """What works on cells; see `local.run` and `slurm.run`."""

    def __call__(self, sweep: Sweep, cells: Sequence[Cell], running: Running) -> None: ...


class Done(NamedTuple):
    """`code`: 0 if all is done, 6 if a cell diverged, else that of the first cell that failed."""

    sweep: Sweep
    states: list[State]
    selected: Selected | None
    code: int

    @property
    def id(self) -> str:
        return self.sweep.id

    @property
    def path(self) -> Path:
        return self.sweep.path

    @property
    def cells(self) -> list[Cell]:
        return self.sweep.plan().cells

    @property
    def runs(self) -> list[Run]:
        """Those that are there, in the order of the cells."""
        return [Run(self.sweep.root / state.run_id) for state in self.states if state.run_id and state.state != GONE]


def share(jobs: int) -> int | None:
    """The cores of each of several workers; None for one alone, which takes all."""
    return max(1, threads.available() // jobs) if jobs > 1 else None


def held(asked: Asked, jobs: int, workers: Workers, say: Callable[[str], None]) -> tuple[Draft, list[Held]]:
    """The cells of a sweep and what the data of each group is, with everything checked that can be before training. Raises every
    mistake at once."""
    sketch = drafting.draft(asked, share(jobs), say)
    for unknown in (name for name in asked.only or () if name not in EVALUATORS):
        known = did_you_mean(unknown, EVALUATORS) or "evaluators: " + ", ".join(EVALUATORS)
        sketch.mistakes.add(UsageError(f"there is no evaluator '{unknown}'", known), "", "--only")
    first = {held_key(group.config.experiment): group for group in reversed(sketch.groups)}
    distinct = {held_key(group.config.experiment): Held() for group in sketch.groups}
    name, where = str(asked.config), asked.config.parent
    flags = [first[key].flags for key in distinct]
    with Signals() as signals:
        workers.begin(
            0,
            holding.hold,
            sketch.text,
            name,
            where,
            flags,
            [name for name in asked.only or () if name in EVALUATORS],
            asked.select,
        )
        returned: dict[int, Any] = {}
        while not returned:
            if signals.received is not None:
                workers.send(signals.received, workers.busy)
                raise InterruptedRun(signals.received, "nothing was begun yet")
            returned = workers.wait(local.LOOK_SECONDS)
    if returned[0] is None:
        raise RunError("the process that checks the cells was killed, most often since the memory is full")
    distinct = dict(zip(distinct, returned[0], strict=True))
    for group in sketch.groups:
        found = distinct[held_key(group.config.experiment)]
        if found.setting is not None:
            sketch.mistakes.add(located(group.config, drafting.setting_error(found.setting)), group.label)
        if found.other is not None:
            code, message, help, flag = found.other
            sketch.mistakes.add(drafting.error_of(code, message, help), group.label, flag)
    sketch.mistakes.check()
    return sketch, [distinct[held_key(group.config.experiment)] for group in sketch.groups]


def create(root: Path, sketch: Draft, found: Sequence[Held]) -> Sweep:
    """The folder of a sweep whose cells were checked."""
    asked = sketch.asked
    cells: list[dict[str, Any]] = []
    for group, its in zip(sketch.groups, found, strict=True):
        for seed in sketch.seeds:
            experiment = with_seed(group.config.experiment, seed)
            cells.append(
                {
                    "cell": len(cells) + 1,
                    "group": group.number,
                    "overrides": [*group.flags, f"seed={seed}"],
                    "seed": seed,
                    "config": config_hash(experiment.model_dump()),
                    "data": its.fingerprint,
                }
            )
    plan = {
        "config_path": os.path.abspath(asked.config),
        "varied": [key for axis in asked.axes for key in axis.keys],
        "only": list(asked.only) if asked.only is not None else [] if asked.select else None,
        "select": asked.select,
        "evaluator": found[0].evaluator if found else None,
        "cells": cells,
    }
    return folder.create(root, asked.name or asked.config.stem, asked.as_file(), sketch.text, plan)


def go_on(
    sweep: Sweep,
    engine: Engine,
    watch: Watch,
    retry: bool = False,
    fail_fast: bool = False,
    attached: Callable[[], Collection[int]] = tuple,
) -> Done:
    """Does what is left of a sweep; the cells that are `attached` the engine is at work on already. Raises InterruptedRun after
    a signal, with every run saved, and RunError if another process works on it, or this version of aecli would make other cells
    of it."""
    with sweep.locked():
        _adopt(sweep, watch.warn)
        sitting = _Sitting(sweep, watch, fail_fast)
        sitting.work(engine, sitting.to_do(retry, attached()))
        plan = sweep.plan()
        if plan.select is not None and sweep.selected() is None:
            choose(sweep, states.look(sweep), watch.say)
        if sweep.selected() is not None:
            sitting.work(engine, sitting.to_measure())
        now = states.look(sweep)
        return Done(sweep, now, sweep.selected(), sitting.code(now))


def _adopt(sweep: Sweep, say: Callable[[str], None]) -> None:
    """Runs that a kill kept from being noted are those of their cells."""
    lines, damaged = sweep.lines()
    if damaged:
        say(f"warning: cells.jsonl: {damaged} line{'s' * (damaged > 1)} cannot be read; the runs are found by what they say")
    found = folder.unnoted(sweep, lines)
    cells = len(sweep.plan().cells)
    for cell, run in found.items():
        if cell <= cells:
            sweep.append(cell=cell, run=run)


class _Sitting:
    """What one call does with a sweep, and how that ended."""

    def __init__(self, sweep: Sweep, watch: Watch, fail_fast: bool) -> None:
        self._sweep, self._plan, self._watch, self._fail_fast = sweep, sweep.plan(), watch, fail_fast
        self._ended: dict[int, Ended] = {}
        self._skipped: dict[int, int] = {}
        self._full = False

    def to_do(self, retry: bool, attached: Collection[int]) -> list[Cell]:
        """The cells that something is left of. What is not gone on with is told."""
        todo: list[Cell] = []
        say, selected = self._watch.warn, self._sweep.selected()
        for state in states.look(self._sweep):
            number, left = state.cell.cell, state.left(self._plan, selected)
            if not left:
                continue
            named = f"cell {number}"
            if number in attached:
                pass
            elif state.state == GONE:
                say(f"{named}: run {state.run_id} was removed; it is trained anew")
                self._sweep.append(cell=number, run=None)
            elif state.state == "failed" and retry:
                say(f"{named}: begun anew; run {state.run_id} stays as it failed: {state.reason}")
                self._sweep.append(cell=number, run=None)
            elif state.state == "failed":
                say(f"{named}: run {state.run_id} failed and is left: {state.reason} (--retry begins it anew)")
                self._skipped[number] = RunError.code
            elif state.state == "diverged":
                say(f"{named}: run {state.run_id} diverged and would do so again: {state.reason}")
                self._skipped[number] = DivergedError.code
            elif state.state in (UNREADABLE, "running"):
                why = "is being trained by another process" if state.state == "running" else f"cannot be read: {state.reason}"
                say(f"{named}: run {state.run_id} {why}; it is left")
                self._skipped[number] = RunError.code
            if number not in self._skipped:
                todo.append(state.cell)
        for group in dict.fromkeys(cell.group for cell in todo):
            config_of(self._sweep, self._plan, next(cell for cell in todo if cell.group == group))
        return todo

    def to_measure(self) -> list[Cell]:
        """The cells that were selected and are not measured on test yet."""
        selected = self._sweep.selected()
        found = (state for state in states.look(self._sweep) if state.state == "completed")
        return [
            state.cell
            for state in found
            if state.left(self._plan, selected) and state.cell.cell not in (*self._ended_badly(), *self._skipped)
        ]

    def work(self, engine: Engine, cells: Sequence[Cell]) -> None:
        if not cells or self._gives_up():
            return
        begun, working, now = time.monotonic(), dict[int, float](), states.look(self._sweep)
        count = 0

        def status() -> Status:
            return Status(self._sweep, self._plan, now, working, count, len(cells), begun)

        def began(cell: int) -> None:
            working[cell] = time.monotonic()
            verb = {WAITING: "begins", "completed": "is measured"}.get(now[cell - 1].state, "goes on")
            self._watch.say(f"{self._named(cell)}: {verb}")

        def ended(end: Ended) -> None:
            nonlocal count
            count += 1
            working.pop(end.cell, None)
            self._ended[end.cell] = end
            now[end.cell - 1] = states.look_at(self._sweep, end.cell)
            told, outcome = self._told(end, now[end.cell - 1]), end.outcome
            tell = self._watch.warn if outcome.code else self._watch.say
            tell(told if outcome.code > 128 else f"{told}; {status().left}")
            if 0 < outcome.code < 128:
                tell((f"  help: {outcome.help}\n" if outcome.help else "") + f"  log: {self._sweep.log(end.cell)}")
            if end.outcome.code == StorageError.code and not self._full:
                self._full = True
                self._watch.warn("no other cell is begun: the next would fail in the same way")

        with Signals() as signals:
            running = Running(
                began, ended, lambda: self._watch.look(status()), lambda: signals.received, self._gives_up, self._watch.warn
            )
            engine(self._sweep, cells, running)
            self._watch.look(status())
            if signals.received is not None:
                saved = [end for end in self._ended.values() if end.outcome.code == 128 + signals.received]
                raise InterruptedRun(
                    signals.received,
                    f"{count} of {len(cells)} cells ended"
                    + (f", {len(saved)} of them interrupted with their runs saved" if saved else ""),
                    f"aecli sweep --resume {self._sweep.id}",
                )

    def code(self, now: Sequence[State]) -> int:
        codes = [self._ended[n].outcome.code for n in self._ended_badly()]
        if any(state.state == "diverged" for state in now):
            return DivergedError.code
        return next(iter((*codes, *self._skipped.values())), 0)

    def _ended_badly(self) -> list[int]:
        return sorted(number for number, end in self._ended.items() if end.outcome.code)

    def _gives_up(self) -> bool:
        return self._full or (self._fail_fast and bool(self._ended_badly()))

    def _named(self, cell: int) -> str:
        return f"cell {cell} of {len(self._plan.cells)} ({varied_of(self._plan, self._plan.cells[cell - 1], True)})"

    def _told(self, end: Ended, state: State) -> str:
        outcome = end.outcome
        best = "" if state.best is None else f", best {state.best:.5g}"
        took = duration(outcome.seconds) if outcome.seconds >= 10 else f"{outcome.seconds:.1f} s"
        if not outcome.code:
            return f"{self._named(end.cell)}: {state.state} at step {state.step:,}{best}, {took}"
        if outcome.code > 128:
            return f"{self._named(end.cell)}: {state.state} at step {state.step:,}"
        what = state.state if state.state != "completed" else "not measured"
        return f"{self._named(end.cell)}: {what} (exit {outcome.code}): {outcome.message}"


def varied_of(plan: Plan, cell: Cell, seed: bool = False) -> str:
    """`model.beta=4 seed=2`: what sets a cell, or without its `seed` a group, apart."""
    flags = [flag for flag in cell.overrides if flag.partition("=")[0] in plan.varied]
    return " ".join(flags + [f"seed={cell.seed}"] * seed) or "the config"
