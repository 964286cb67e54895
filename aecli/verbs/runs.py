"""`aecli runs`: which runs there are. Imports no jax."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aecli.config.names import variants
from aecli.errors import UsageError, did_you_mean
from aecli.runs import query
from aecli.runs.directory import UNREADABLE
from aecli.runs.query import Known
from aecli.runs.records import STATES

USUAL = ("id", "state", "variant", "data", "step", "best", "best_step", "created", "tags", "note", "damage")
"""What is told of a run unless other keys are asked for."""


class Listing(NamedTuple):
    """`rows` have the values of `columns`, by name. `among` is how many runs there are in all."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    damage: dict[str, str]
    among: int


def list_runs(
    root: Path,
    state: str | None = None,
    variant: str | None = None,
    where: Sequence[str] = (),
    columns: Sequence[str] = (),
    sort: str | None = None,
    limit: int | None = None,
) -> Listing:
    """The runs below a folder for which all holds that is asked, the newest first unless `sort` names a key; of each its id and
    `columns`, or what is USUAL. Raises UsageError for a state, a variant or a key that there is not."""
    states = (*STATES, UNREADABLE)
    if state is not None and state not in states:
        raise UsageError(f"there is no state '{state}'", did_you_mean(state, states) or "states: " + ", ".join(states))
    conditions = [query.condition(each) for each in where]  # a wrong flag is told before any run is read
    every = query.known(root)
    if variant is not None:
        _check_variant(variant, every)
    query.check_keys(every, [*columns, *([] if sort is None else [sort.removeprefix("-")])])
    runs = query.matching(every, conditions)
    runs = [run for run in runs if state in (None, run.get("state")) and variant in (None, run.get("variant"))]
    runs = query.ordered(runs, sort) if sort is not None else runs
    runs = runs[:limit]
    keys = tuple(dict.fromkeys(("id", *columns))) if columns else USUAL
    rows = [{key: run.get(key) for key in keys} for run in runs]
    damage = {run.run.id: wrong for run in runs if (wrong := run.get("damage"))}
    return Listing(keys, rows, damage, len(every))


def _check_variant(variant: str, runs: Sequence[Known]) -> None:
    names = variants()
    if variant not in names and not any(run.get("variant") == variant for run in runs):
        raise UsageError(f"there is no variant '{variant}'", did_you_mean(variant, names) or "variants: " + ", ".join(names))
