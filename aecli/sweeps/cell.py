"""One cell of a sweep, trained as `aecli train` would and measured as `aecli eval` would."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax

from aecli.config.load import Config
from aecli.errors import RunError
from aecli.evaluation.request import EvalRequest
from aecli.runs import directory
from aecli.runs.directory import Run
from aecli.sweeps.draft import config_hash, held_key, rebuilt
from aecli.sweeps.folder import Sweep
from aecli.sweeps.records import Cell, Plan
from aecli.sweeps.states import look_at
from aecli.system.compile_cache import kept_programs
from aecli.system.folders import cache_root
from aecli.system.progress import say
from aecli.verbs import train
from aecli.verbs.evaluate import evaluate

_traced: list[str] = []
"""What the programs are of that this process keeps: those of another model would only take memory."""


def finish(sweep: Sweep, number: int) -> tuple[int, str, str]:
    """Does what is left of a cell; 0, or the exit code, message and help of the evaluators that failed. Raises what training and
    measuring raise."""
    plan = sweep.plan()
    cell = sweep.cell(number)
    _forget_others(sweep, plan, cell)
    with kept_programs(cache_root()):
        state = look_at(sweep, number)
        left = state.left(plan, sweep.selected())
        run = None if state.run_id is None else _find(sweep, cell, state.run_id)
        if "train" in left:
            run = _train(sweep, plan, cell, run)
        assert run is not None
        for split in ("validation", "test"):
            if split in left and (wrong := _measure(sweep, plan, cell, run, split)) is not None:
                return wrong
    return 0, "", ""


def config_of(sweep: Sweep, plan: Plan, cell: Cell) -> Config:
    """The config of a cell. Raises RunError if it is not the one that was planned."""
    path = Path(plan.config_path)
    config = rebuilt(sweep.config(), str(path), path.parent, cell.overrides)
    if config_hash(config.experiment.model_dump()) != cell.config:
        raise RunError(
            f"cell {cell.cell} of sweep {sweep.id} is another experiment to this aecli than to the one that planned it: a"
            " setting or a default has changed, or a file of the sweep",
            "go on with the version of aecli that began the sweep, or begin it anew",
        )
    return config


def _train(sweep: Sweep, plan: Plan, cell: Cell, run: Run | None) -> Run:
    if run is not None:
        train.resume(run, ())
        return run
    config = config_of(sweep, plan, cell)

    # What run.json says of the command is the one that trains the same alone.
    sys.argv = ["aecli", "train", plan.config_path, *(part for flag in cell.overrides for part in ("--set", flag))]
    origin: dict[str, Any] = {"sweep": {"id": sweep.id, "cell": cell.cell}}
    return train.start(
        config,
        cell.overrides,
        f"{plan.name}-c{cell.cell}",
        sweep.root,
        cell=origin,
        made=lambda run: sweep.append(cell=cell.cell, run=run.id),
        wanted=cell.data,
    )


def _find(sweep: Sweep, cell: Cell, run_id: str) -> Run:
    run = directory.find(sweep.root, run_id)
    if run.id != run_id:
        raise RunError(f"run {run_id} is gone", f"begin it anew: aecli sweep --resume {sweep.id}")
    if run.info().data.fingerprint != cell.data:
        raise RunError(f"run {run_id} is on other data than cell {cell.cell} of sweep {sweep.id}", "remove it to begin it anew")
    return run


def _measure(sweep: Sweep, plan: Plan, cell: Cell, run: Run, split: str) -> tuple[int, str, str] | None:
    selecting = [plan.evaluator] if plan.evaluator else []
    # On test also what the choice is by, whatever it costs.
    whole = EvalRequest(split, plan.only or (), also=selecting)
    found = evaluate(run, EvalRequest(split, selecting) if split == "validation" and selecting else whole)
    for note in found.notes:
        say(f"note: {note}")
    for code, line in found.failures():
        return code, line, ""
    sweep.append(cell=cell.cell, run=run.id, measured=split, at=run.recorded().step)
    return None


def _forget_others(sweep: Sweep, plan: Plan, cell: Cell) -> None:
    key = held_key(config_of(sweep, plan, cell).experiment)
    if _traced and _traced != [key]:
        jax.clear_caches()
    _traced[:] = [key]
