"""Runs as rows of a table for a user's own analysis: facts, settings and numbers by name. Imports no jax."""

from __future__ import annotations

from typing import Any

from aecli.errors import RunError
from aecli.runs import numbers
from aecli.runs.directory import UNREADABLE, Run
from aecli.runs.query import Known, settings


def row(run: Run, split: str) -> dict[str, Any]:
    """`id`, `state`, `variant`, `data`, `step`, `created`; what it cost; every setting by its path; every number of a split by
    its name. Of a run that cannot be read the first alone. Raises RunError if its numbers are not what aecli wrote."""
    known = Known(run)
    found: dict[str, Any] = {key: known.get(key) for key in ("id", "state", "variant", "data", "step", "created")}
    if found["state"] == UNREADABLE:
        return found
    found |= {key: known.get(key) for key in ("parameters", "seconds", "peak_bytes", "flop_per_step")}
    return found | settings(run) | {name: number.value for name, number in stored_numbers(run, split).items()}


def stored_numbers(run: Run, split: str) -> dict[str, Any]:
    """The numbers that are kept of a split, by name. Raises RunError if they are not what aecli wrote of this run."""
    stored = numbers.read(run.path / "eval", split, run.info().identity)
    if stored.wrong is not None:
        raise RunError(f"eval/{split}.json of run {run.id}: {stored.wrong}", f"aecli eval {run.id} --split {split.split('-')[0]}")
    return dict(stored.numbers)
