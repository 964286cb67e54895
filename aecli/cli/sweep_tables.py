"""What a sweep shows: while it runs, a line for each cell that is worked on and the table so far; at its end the table."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aecli.errors import printable, printable_lines
from aecli.system.progress import duration, is_quiet, tell
from aecli.system.terminal import unescaped

if TYPE_CHECKING:
    from aecli.sweeps.flow import Done, Status, Watch
    from aecli.sweeps.records import Plan, Selected
    from aecli.sweeps.states import State

FEW_NUMBERS = 4
"""So many metrics of test have a column each; of more the first, and the others are in the JSON."""
FEW_GROUPS = 20
"""So many groups are shown while a sweep runs: a terminal has few lines."""
REFRESH_SECONDS = 1.0


class Board:
    """On a terminal a table that is kept up to date, with lines above it; otherwise lines alone."""

    def __init__(self) -> None:
        self._live: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Board:
        if sys.stderr.isatty() and not is_quiet():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=unescaped(sys.stderr), markup=False, highlight=False, emoji=False)
            self._live = Live(console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def watch(self) -> Watch:
        from aecli.sweeps.flow import Watch

        return Watch(self.say, self.look, self.warn)

    def say(self, line: str) -> None:
        if not is_quiet():
            self.warn(line)

    def warn(self, line: str) -> None:
        if self._live is None:
            tell(line)
        else:
            self._live.console.print(printable_lines(line), soft_wrap=True)

    def look(self, status: Status) -> None:
        now = time.monotonic()
        if self._live is None or now - self._drawn < REFRESH_SECONDS:
            return
        self._drawn = now
        from rich.console import Group
        from rich.text import Text

        lines = [Text(printable(_working(status, cell, begun))) for cell, begun in status.working.items()]
        table = _table(status.plan, status.states, {}, None, FEW_GROUPS)
        self._live.update(Group(table, *lines, Text(status.left)), refresh=True)


def _working(status: Status, cell: int, begun: float) -> str:
    """`cell 3 of 10 (model.beta=4 seed=2): step 1,200, epoch 57, loss 12.3, 0:12`."""
    from aecli.errors import AecliError
    from aecli.sweeps.flow import varied_of
    from aecli.sweeps.folder import run_of
    from aecli.sweeps.states import look_at

    parts: list[str] = []
    try:
        state = look_at(status.sweep, cell)
        run = None if state.run_id is None else run_of(status.sweep, state.run_id)
        row = None if run is None else run.last_rows()[0].get("train")
        if row is not None:
            parts = [f"step {row.step:,}", f"epoch {row.epoch:.4g}"]
            parts += [f"loss {row.values['loss']:.5g}"] if "loss" in row.values else []
    except (AecliError, OSError):  # it is shown again in a moment
        pass
    named = f"cell {cell} of {len(status.plan.cells)} ({varied_of(status.plan, status.plan.cells[cell - 1], True)})"
    return f"{named}: " + ", ".join([*(parts or ["starting"]), duration(time.monotonic() - begun)])


def _table(
    plan: Plan,
    states: Sequence[State],
    numbers: Mapping[int, Mapping[str, float]],
    selected: Selected | None,
    most: int | None = None,
) -> Any:
    """A row for each group: its settings, how many cells are done, and over the seeds mean and standard deviation of the best
    value of what was monitored, and of each metric of test."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    metrics = list(dict.fromkeys(name for found in numbers.values() for name in found))[:FEW_NUMBERS]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in (*(plan.varied or ["group"]), "cells", "best (validation)", *(f"{name} (test)" for name in metrics)):
        table.add_column(printable(column), overflow="fold", justify="left" if column in plan.varied else "right")
    groups: dict[int, list[State]] = {}
    for state in states:
        groups.setdefault(state.cell.group, []).append(state)
    for number, some in list(groups.items())[:most]:
        settings = dict(flag.split("=", 1) for flag in some[0].cell.overrides)
        label = [settings.get(key, "") for key in plan.varied] or [str(number)]
        if selected is not None and selected.group == number:
            label[0] += " (selected)"
        values = [
            [state.best for state in some if state.state == "completed"],
            *([numbers.get(state.cell.cell, {}).get(metric) for state in some] for metric in metrics),
        ]
        table.add_row(*map(printable, [*label, _counts(some), *map(_spread, values)]))
    if most is not None and len(groups) > most:
        table.add_row(f"and {len(groups) - most:,} more")
    return table


def _counts(some: Sequence[State]) -> str:
    """`5`, or `3/5, 1 diverged`."""
    done = sum(state.state == "completed" for state in some)
    others = [state.state for state in some if state.state not in ("completed", "waiting")]
    told = [f"{others.count(each)} {each}" for each in dict.fromkeys(others)]
    return str(done) if done == len(some) else ", ".join([f"{done}/{len(some)}", *told])


def _spread(values: Sequence[float | None]) -> str:
    """`12.3 +- 0.2`: mean and standard deviation."""
    there = [value for value in values if value is not None]
    if not there:
        return ""
    return f"{fmean(there):.5g}" + (f" +- {stdev(there):.2g}" if len(there) > 1 else "")


def show_sweep(done: Done) -> None:
    from aecli.cli.console import console

    out = console()
    out.print(_table(done.sweep.plan(), done.states, numbers_of_test(done), done.selected))
    if done.selected is not None:
        means = ", ".join(f"group {each.group}: {each.mean:.5g}" for each in done.selected.choices)
        out.print(f"selected by {done.selected.metric} on validation, {done.selected.better} is better ({means})", soft_wrap=True)


def numbers_of_test(done: Done) -> dict[int, dict[str, float]]:
    """What was measured on test, by cell and metric; of a sweep that selects, those of the selected cells."""
    from aecli.runs.directory import Run
    from aecli.sweeps.states import numbers_of

    found: dict[int, dict[str, float]] = {}
    for state in done.states:
        if state.run_id is not None and "test" in state.measured:
            numbers = numbers_of(Run(done.sweep.root / state.run_id), "test")
            found[state.cell.cell] = {name: number.value for name, number in numbers.items() if number.value is not None}
    return found


def sweep_facts(done: Done) -> dict[str, Any]:
    """The same for a program."""
    numbers = numbers_of_test(done)
    cells = [
        {
            "cell": state.cell.cell,
            "group": state.cell.group,
            "overrides": state.cell.overrides,
            "seed": state.cell.seed,
            "run": state.run_id,
            "state": state.state,
            "step": state.step,
            "best": state.best,
            "reason": state.reason,
            "test": numbers.get(state.cell.cell),
        }
        for state in done.states
    ]
    selected = None if done.selected is None else done.selected.as_json()
    return {"id": done.id, "path": str(done.path), "code": done.code, "cells": cells, "selected": selected}
