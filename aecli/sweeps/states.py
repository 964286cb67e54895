"""What has become of the cells of a sweep. A cell's state is that of its run, and is kept nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aecli.errors import RunError
from aecli.runs import numbers
from aecli.runs.directory import UNREADABLE, Run
from aecli.runs.records import Number
from aecli.sweeps.folder import Sweep, run_of
from aecli.sweeps.records import Cell, Plan, Selected

WAITING = "waiting"
"""A cell that no run was started for yet."""
GONE = "gone"
"""One whose run was removed."""


class State(NamedTuple):
    """`run_id` is that of a run which may be gone. `measured`: the splits, of the run as it is now."""

    cell: Cell
    state: str
    run_id: str | None = None
    step: int = 0
    best: float | None = None
    reason: str | None = None
    measured: frozenset[str] = frozenset()

    def left(self, plan: Plan, selected: Selected | None) -> list[str]:
        """What there is to do: to `train`, and the splits to measure."""
        splits = [split for split in wanted(plan, selected, self.cell) if split not in self.measured]
        return splits if self.state == "completed" else ["train", *splits]


def wanted(plan: Plan, selected: Selected | None, cell: Cell) -> list[str]:
    """The splits that a cell is to be measured on: where one is selected, all on validation and that alone on test."""
    if plan.select is None:
        return [] if plan.only is None else ["test"]
    return ["validation"] + (["test"] if selected is not None and selected.group == cell.group else [])


def look(sweep: Sweep) -> list[State]:
    """The state of every cell, in order."""
    known = _known(sweep)
    return [_state(sweep, cell, *known.get(cell.cell, (None, {}))) for cell in sweep.plan().cells]


def runs_of(sweep: Sweep, selected: bool = False) -> list[Run]:
    """The runs that are there, in the order of the cells; `selected`: those of the group that was selected, none where none
    was."""
    known, choice = _known(sweep), sweep.selected() if selected else None
    cells = [cell for cell in sweep.plan().cells if not selected or (choice is not None and cell.group == choice.group)]
    ids = (known[cell.cell][0] for cell in cells if cell.cell in known)
    there = (run_of(sweep, run_id) for run_id in ids if run_id is not None)
    return [run for run in there if run is not None]


def look_at(sweep: Sweep, number: int) -> State:
    """That of one cell."""
    return _state(sweep, sweep.cell(number), *_known(sweep).get(number, (None, {})))


def _known(sweep: Sweep) -> dict[int, tuple[str | None, dict[str, int | None]]]:
    """The run of each cell that has one, and the splits that it was measured on, at which step."""
    known: dict[int, tuple[str | None, dict[str, int | None]]] = {}
    for line in sweep.lines()[0]:
        if line.measured is None:
            known[line.cell] = (line.run, {})
        elif line.cell in known and known[line.cell][0] == line.run:
            known[line.cell][1][line.measured] = line.at
    return known


def _state(sweep: Sweep, cell: Cell, run_id: str | None, marks: Mapping[str, int | None]) -> State:
    if run_id is None:
        return State(cell, WAITING)
    run = run_of(sweep, run_id)
    if run is None:
        return State(cell, GONE, run_id)
    try:
        recorded, state = run.recorded(), run.state()
        measured = frozenset(split for split, at in marks.items() if at == recorded.step and numbers_of(run, split))
    except RunError as error:
        return State(cell, UNREADABLE, run_id, reason=error.message)
    return State(cell, state, run_id, recorded.step, recorded.best_value, recorded.reason, measured)


def numbers_of(run: Run, split: str) -> Mapping[str, Number]:
    """What was measured of a run, without what is not to be believed."""
    return numbers.read(run.path / "eval", split, run.info().identity).numbers
