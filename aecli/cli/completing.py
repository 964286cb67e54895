"""What the shell offers for a word that is being typed. Nothing here imports jax, or reads more than names: a key is answered at
once, and what cannot be read is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import typer

from aecli.config import shipped
from aecli.config.names import variants as variant_names
from aecli.evaluation.request import EVALUATOR_NAMES
from aecli.sampling.request import MODE_NAMES
from aecli.system.reading import Unreadable, open_regular

MOST_BYTES = 10**6
"""Of a file of numbers."""
NEWEST = 50
"""Runs whose numbers are looked through for names of metrics."""


def configs(incomplete: str) -> list[str]:
    """The configs that come with aecli, and the YAML files and folders in the folder that is being typed."""
    folder, _, start = incomplete.rpartition("/")
    before = f"{folder}/" if "/" in incomplete else ""
    here: list[str] = []
    for entry in _entries(Path(before or ".").expanduser()):
        if entry.name.startswith(start) and not entry.name.startswith("."):
            here += (
                [f"{before}{entry.name}/"] if entry.is_dir() else [before + entry.name] if entry.name.endswith(".yaml") else []
            )
    found = sorted(here) + _starting(shipped.names(), incomplete)
    if len(found) == 1 and found[0].endswith("/"):  # or bash would put a blank behind the folder
        return configs(found[0]) or found
    return found


def shipped_configs(incomplete: str) -> list[str]:
    return _starting(shipped.names(), incomplete)


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """The ids of runs, the newest first, and `last`."""
    return _starting(["last", *(entry.name for entry in _runs(context))], incomplete)


def sweeps(context: typer.Context, incomplete: str) -> list[str]:
    found = [entry.name for entry in _newest(_root(context) / ".sweeps") if entry.is_dir()]
    return _starting(["last", *found], incomplete)


def variants(incomplete: str) -> list[str]:
    return _starting(variant_names(), incomplete)


def modes(incomplete: str) -> list[str]:
    return _starting(MODE_NAMES, incomplete)


def evaluators(incomplete: str) -> list[str]:
    return _in_list(EVALUATOR_NAMES, incomplete)


def metrics(context: typer.Context, incomplete: str) -> list[str]:
    """What was measured of the newest runs."""
    known: dict[str, None] = {}
    for run in _runs(context)[:NEWEST]:
        for entry in _entries(Path(run.path) / "eval"):
            if entry.name.endswith(".json") and not entry.name.startswith("."):
                known |= dict.fromkeys(_keys(Path(entry.path)))
    return _in_list(sorted(known), incomplete)


def _keys(path: Path) -> list[str]:
    """Of the numbers in a file, their names alone: whoever uses them reads the file through its form."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            told = json.loads(file.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError, Unreadable):
        return []
    return [*cast("dict[str, Any]", told)] if isinstance(told, dict) else []


def _in_list(known: Iterable[str], incomplete: str) -> list[str]:
    """The last of several names between commas, with those before it."""
    before, comma, start = incomplete.rpartition(",")
    taken = before.split(",")
    return [f"{before}{comma}{name}" for name in known if name.startswith(start) and name not in taken]


def _starting(known: Iterable[str], start: str) -> list[str]:
    return [name for name in known if name.startswith(start)]


def _root(context: typer.Context) -> Path:
    """Where runs are, by the flag or the variable."""
    return Path(context.params.get("runs_dir") or os.environ.get("AECLI_RUNS_DIR") or "runs")


def _runs(context: typer.Context) -> list[os.DirEntry[str]]:
    return [entry for entry in _newest(_root(context)) if os.path.isfile(os.path.join(entry.path, "run.json"))]


def _newest(folder: Path) -> list[os.DirEntry[str]]:
    def age(entry: os.DirEntry[str]) -> float:
        try:
            return -entry.stat().st_mtime
        except OSError:
            return 0.0

    return sorted(_entries(folder), key=age)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
