"""What is asked of many runs at once: their settings by name, and which of them are meant by `key=value`. Imports no jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from aecli.errors import UsageError
from aecli.runs import directory
from aecli.runs.directory import Run, run_facts

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where it is there: Python's own takes ten times as long for 500 runs."""


def settings(run: Run) -> dict[str, Any]:
    """Every setting of a run's resolved config by its path, such as `model.beta`; `seed` stands alone. Raises RunError if the
    config cannot be read."""
    return dict(_flat(yaml.load(run.resolved_config(), _Loader), ""))


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(path, value)]
    blocks = cast("Mapping[Any, Any]", value)
    return [pair for key, inner in blocks.items() for pair in _flat(inner, f"{path}.{key}" if path else str(key))]


def select(root: Path, where: Sequence[str]) -> list[Run]:
    """The runs below a folder for which every condition `key=value` holds, the newest first: a fact of `run_facts`, or a setting
    by its path. Raises UsageError for what is no condition."""
    conditions = [_condition(each) for each in where]
    return [run for run in reversed(directory.every(root)) if all(_holds(run, *condition) for condition in conditions)]


def _condition(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise UsageError(f"--where {text}: a condition is key=value", "--where variant=vae, or --where model.beta=4")
    return key.strip(), yaml.load(value, _Loader)


def _holds(run: Run, key: str, value: Any) -> bool:
    facts = run_facts(run)
    return bool((facts[key] if key in facts else settings(run).get(key)) == value)
