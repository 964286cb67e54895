"""`aecli runs`: which runs there are. Imports no jax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aecli.errors import UsageError, did_you_mean
from aecli.runs import directory
from aecli.runs.directory import UNREADABLE, run_facts
from aecli.runs.records import STATES


def list_runs(root: Path, state: str | None = None, variant: str | None = None) -> list[dict[str, Any]]:
    """The facts of every run below a folder, the newest first; with `state` or `variant` those of that alone. Raises UsageError
    if there is no such state."""
    states = (*STATES, UNREADABLE)
    if state is not None and state not in states:
        raise UsageError(f"there is no state '{state}'", did_you_mean(state, states) or "states: " + ", ".join(states))
    facts = [run_facts(run) for run in reversed(directory.every(root))]
    return [f for f in facts if state in (None, f["state"]) and variant in (None, f["variant"])]
