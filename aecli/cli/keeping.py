"""The verbs that look after run folders: runs, show, tag, note and rm."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aecli.cli import completing
from aecli.cli.options import RUNS, Json, RunName, RunNames, RunsDir, names, print_json
from aecli.errors import UsageError, did_you_mean, printable

FORMATS = ("table", "csv", "json")


def runs(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only runs of this variant.", autocompletion=completing.variants)] = None,
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
    from aecli.runs import directory, labels, provenance
    from aecli.runs.directory import run_facts

    run = directory.find(runs_dir, run_name)
    if as_json:
        info = run.info().as_json()
        facts = {**info, **run_facts(run), "data": info["data"], "code_changed": provenance.code_now(run.info()).changed}
        told, wrong = labels.look(run)
        note, damage = told.note, facts["note"] or wrong
        print_json({**facts, "tags": told.tags, "note": note, "damage": damage})
    else:
        show_run(run)


def tag(
    run_name: RunName,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="[+TAG|-TAG]", help="+TAG or TAG adds one, -TAG removes one.")
    ] = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Give a run tags, or take them from it. Prints those that it has. `aecli runs --where tags=TAG` finds it again."""
    from aecli.runs import directory, labels
    from aecli.system.progress import tell
    from aecli.verbs.labels import parse_changes
    from aecli.verbs.labels import tag as change

    added, removed = parse_changes(tags or [])  # a wrong tag is told before a missing run
    run = directory.find(runs_dir, run_name)
    if tags:
        now = change(run, added, removed, tell)
    else:
        found, wrong = labels.look(run)
        if wrong is not None:
            tell(wrong)
        now = found.tags
    if now:
        print(*now)


def note(
    run_name: RunName,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What to remember of it, instead of what was.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the note.")] = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Write a note on a run. Without a text, print the one that it has."""
    if clear and text is not None:
        raise UsageError("--clear removes the note, and there is a text", "give one of them")
    if text is not None and not text.strip():
        raise UsageError("this note says nothing", "--clear removes a note")
    from aecli.runs import directory, labels
    from aecli.system.progress import tell
    from aecli.verbs.labels import note as change

    run = directory.find(runs_dir, run_name)
    if clear or text is not None:
        change(run, text, tell)
        return
    found, wrong = labels.look(run)
    if wrong is not None:
        tell(wrong)
    if found.note is not None:
        print(found.note)


def rm(
    run_names: RunNames,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Remove runs, with all that is in their folders. Asks first. Prints their ids."""
    from aecli.system.progress import say, tell
    from aecli.system.room import gigabytes
    from aecli.verbs.remove import chosen, remove, sweep

    going = chosen(runs_dir, run_names)
    for run, state, files, size in going:
        tell(f"{run.id}  {state}, {files:,} file{'s' * (files != 1)}, {gigabytes(size)}")
    count = "this run" if len(going) == 1 else f"these {len(going)} runs"
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                f"nobody can be asked whether to remove {count}: this is no terminal", "--yes removes without asking"
            )
        print(f"remove {count} from {printable(str(runs_dir))}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("nothing is removed")
            return
    sweep(runs_dir, tell)
    for each in going:
        remove(each.run)
        print(each.run.id, flush=True)
