"""Selects the best group of a sweep, by a number on validation: its test numbers are looked at after that alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from aecli.errors import RunError, UsageError
from aecli.runs.directory import Run
from aecli.runs.records import SCHEMA, Number
from aecli.sweeps.folder import Sweep
from aecli.sweeps.states import State, numbers_of
from aecli.system.files import write_json


def choose(sweep: Sweep, states: Sequence[State], say: Callable[[str], None]) -> None:
    """Writes `selected.json`: the group whose seeds have the best mean, the first of equal ones. Waits, and says so, until every
    cell is trained and measured or has diverged; a group with one that diverged is out of the choice. Raises UsageError for a
    metric of which more is not better, and less neither, RunError if none has the metric, as gray images have no likelihood."""
    metric = sweep.plan().select
    assert metric is not None
    missing = [state.cell.cell for state in states if state.state != "diverged" and "validation" not in state.measured]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        say(f"nothing is selected yet: {len(missing)} of {len(states)} cells are not trained and measured (cell {shown})")
        return
    left_out: dict[str, str] = {}
    choices: list[dict[str, Any]] = []
    better: str | None = None
    for group in dict.fromkeys(state.cell.group for state in states):
        found = [(str(state.run_id), _number(sweep, state, metric)) for state in states if state.cell.group == group]
        values = {run: number.value for run, number in found if number is not None and number.value is not None}
        if len(values) < len(found):
            left_out[str(group)] = "a cell of it diverged, or has no such number"
            continue
        directions = {number.better for _, number in found if number is not None}
        if len(directions) != 1 or None in directions:
            raise UsageError(f"'{metric}' is not said to be better when it is higher or lower", "--select another metric")
        better = str(directions.pop())
        choices.append({"group": group, "mean": fmean(values.values()), "values": values})
    diverged = {state.cell.group for state in states if state.state == "diverged"}
    if not choices and all(state.cell.group in diverged for state in states):
        say("nothing can be selected: in every combination a cell diverged")
        return
    if not choices:
        there = [set(numbers_of(Run(sweep.root / str(state.run_id)), "validation")) for state in states if state.run_id]
        known = ", ".join(sorted(set[str].intersection(*there))) if there else ""
        raise RunError(
            f"nothing can be selected by '{metric}': no combination has such a number of all its seeds on validation",
            f"all have {known}; begin a sweep that selects by one of these" if known else "`aecli show` tells of the runs",
        )
    best = (min if better == "lower" else max)(choices, key=lambda each: each["mean"])
    facts = {
        "schema": SCHEMA,
        "metric": metric,
        "better": better,
        "group": best["group"],
        "choices": choices,
        "left_out": left_out,
    }
    write_json(sweep.path / "selected.json", facts)
    say(f"selected by {metric} on validation, {best['mean']:.5g} in the mean, of {len(choices)} groups: measured on test now")


def _number(sweep: Sweep, state: State, metric: str) -> Number | None:
    if state.run_id is None or "validation" not in state.measured:
        return None
    return numbers_of(Run(sweep.root / state.run_id), "validation").get(metric)
