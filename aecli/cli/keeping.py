"""The verbs that look after run folders: runs and show."""

from __future__ import annotations

from typing import Annotated

import typer

from aecli.cli.options import RUNS, Json, RunName, RunsDir, print_json


def runs(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only runs of this variant.")] = None,
    as_json: Json = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """List runs, the newest first."""
    from aecli.cli.tables import show_runs
    from aecli.verbs.runs import list_runs

    facts = list_runs(runs_dir, state, variant)
    if as_json:
        print_json(facts)
    else:
        show_runs(facts, runs_dir)


def show(run_name: RunName, as_json: Json = False, runs_dir: RunsDir = RUNS) -> None:
    """Tell everything about one run. Its state, data, origin, config, numbers and pictures."""
    from aecli.cli.tables import show_run
    from aecli.runs import directory, provenance
    from aecli.runs.directory import run_facts

    run = directory.find(runs_dir, run_name)
    if as_json:
        info = run.info().as_json()
        facts = {**info, **run_facts(run), "data": info["data"], "code_changed": provenance.code_now(run.info()).changed}
        print_json(facts)
    else:
        show_run(run)
