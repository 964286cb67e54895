"""Flags and arguments that several verbs have, and what each of them does at its start and end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from aecli.cli import completing

RunsDir = Annotated[  # typer would refuse one that cannot be read as a mistake in the command
    Path, typer.Option("--runs-dir", envvar="AECLI_RUNS_DIR", readable=False, help="Where run directories live.")
]
Sets = Annotated[list[str], typer.Option("--set", metavar="BLOCK.KEY=VALUE", help="Change a setting; may be repeated.")]
RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, its start or its end, 'last', or 'last~1'.", autocompletion=completing.runs),
]
RunNames = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Runs by their ids, as RUN of other verbs.", autocompletion=completing.runs)
]
Which = Annotated[str, typer.Option("--checkpoint", metavar="best|last|STEP", help="The best by validation, the newest, or one.")]
DataPath = Annotated[
    str | None, typer.Option("--data-path", metavar="PATH", help="Where the run's data is by now, if moved or renamed.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Only = Annotated[
    list[str],
    typer.Option(metavar="NAME,...", help="These evaluators alone; may be repeated.", autocompletion=completing.evaluators),
]
Skip = Annotated[
    list[str],
    typer.Option(metavar="NAME,...", help="All but these evaluators; may be repeated.", autocompletion=completing.evaluators),
]
RUNS = Path("runs")


def print_json(value: Any) -> None:
    """NaN and infinity, which are no JSON, raise ValueError."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def keep_programs(context: typer.Context) -> None:
    """Until the verb ends, what it compiles is kept for the next process."""
    from aecli.system.compile_cache import kept_programs
    from aecli.system.folders import cache_root

    context.with_resource(kept_programs(cache_root()))


def names(given: list[str]) -> list[str]:
    """`--only a,b --only c` is three names."""
    return [name.strip() for one in given for name in one.split(",") if name.strip()]
