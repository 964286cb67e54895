"""The verbs that look after run folders: runs and show."""

from __future__ import annotations

from typing import Annotated

import typer

from aecli.cli.options import RUNS, Json, RunName, RunsDir, names, print_json
from aecli.errors import UsageError, did_you_mean

FORMATS = ("table", "csv", "json")


def runs(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only runs of this variant.")] = None,
    where: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE", help="Only runs for which this holds, or !=, <, <=, >, >=; may be repeated."),
    ] = [],  # noqa: B006 (typer reads the default, nothing changes it)
    columns: Annotated[
        list[str], typer.Option(metavar="KEY,...", help="What to tell of each run beside its id; may be repeated.")
    ] = [],  # noqa: B006
    sort: Annotated[
        str | None, typer.Option(metavar="KEY|-KEY", help="Smallest first, or largest first; by default the newest first.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many.")] = None,
    form: Annotated[str | None, typer.Option("--format", metavar="table|csv|json", help="How to print them.")] = None,
    as_json: Json = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """List runs, the newest first.

    A KEY is a fact (id, state, variant, data, step, best, best_step, created, name, parameters, seconds, peak_bytes, threads,
    seed, tags, note, damage), a setting (model.beta) or a measured number (nll_nats, validation.mse)."""
    form = _form(form, as_json)
    from aecli.verbs.runs import list_runs

    asked = names(columns)
    listing = list_runs(runs_dir, state, variant, where, asked, sort, limit)
    if form == "json":
        print_json(listing.rows)
        return
    from aecli.cli.run_tables import show_runs, write_csv

    if form == "csv":
        write_csv(listing)
    else:
        show_runs(listing, runs_dir, usual=not asked)


def _form(form: str | None, as_json: bool) -> str:
    if form is not None and form not in FORMATS:
        raise UsageError(f"--format {form}: there are {', '.join(FORMATS)}", did_you_mean(form, FORMATS) or None)
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} contradict each other", "give one of them")
    return "json" if as_json else form or "table"


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
