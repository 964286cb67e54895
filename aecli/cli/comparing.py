"""The verbs that put runs side by side: compare and report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from aecli.cli import completing
from aecli.cli.options import RUNS, RunsDir, keep_programs

if TYPE_CHECKING:
    from aecli.runs.directory import Run

Where: TypeAlias = Annotated[
    list[str], typer.Option(metavar="KEY=VALUE", help="All runs that are so, such as variant=vae; may be repeated.")
]
InSweep: TypeAlias = Annotated[
    list[str],
    typer.Option(
        metavar="SWEEP",
        help="All runs of a sweep: its id, the start of it, or 'last'; may be repeated.",
        autocompletion=completing.sweeps,
    ),
]


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="Ids, the starts of some, or 'last'.", autocompletion=completing.runs),
    ] = None,
    where: Where = [],  # noqa: B006 (typer reads the default, nothing changes it)
    sweep: InSweep = [],  # noqa: B006
    by: Annotated[
        str | None, typer.Option(metavar="BLOCK.KEY", help="Group by this setting instead of by all but the seed.")
    ] = None,
    metric: Annotated[
        list[str],
        typer.Option(metavar="NAME,...", help="These metrics alone; may be repeated.", autocompletion=completing.metrics),
    ] = [],  # noqa: B006
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Hold every other group against that of this run.", autocompletion=completing.runs),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="test|validation|NAME", help="Which held-out images, or the NAME of a file in eval/.")
    ] = "test",
    format: Annotated[str, typer.Option(metavar="table|md|csv|latex|json", help="How it is written.")] = "table",
    all_settings: Annotated[bool, typer.Option("--all-settings", help="Also the settings that are alike.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Show numbers of differing protocols, marked.")] = False,
    pareto: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Mark what no other group beats in all of these metrics and costs.")
    ] = None,
    intervals: Annotated[
        bool | None,
        typer.Option("--intervals/--no-intervals", help="Differences: by default of two groups, or with a baseline."),
    ] = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Put runs side by side. Settings that differ, numbers with their spread over seeds, differences with a verdict, costs.

    Runs that differ in the seed alone are one group. Numbers that were measured in different ways are refused (exit code 4)."""
    from aecli.errors import UsageError, did_you_mean
    from aecli.reports.table import FORMATS, PLAIN, width
    from aecli.runs import directory
    from aecli.system.progress import tell
    from aecli.verbs import compare as verb

    if format not in FORMATS:
        raise UsageError(f"--format {format}: there is no such format", did_you_mean(format, FORMATS) or ", ".join(FORMATS))
    if not runs and not where and not sweep:
        raise UsageError("which runs?", "aecli compare RUN RUN, --sweep last, or --where variant=vae")
    named, chosen = _chosen(runs_dir, runs or [], where, sweep, split)
    base = None if baseline is None else directory.find(runs_dir, baseline)
    comparison = verb.compare(
        [*named, *chosen],
        split=split,
        metrics=metric or None,
        by=by,
        baseline=base,
        all_settings=all_settings,
        anyway=anyway,
        pareto=None if pareto is None else [pareto],
        intervals=intervals,
        skip_unreadable=chosen,
    )
    text = comparison.render(format, width())
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        text = text.translate(PLAIN) if format in ("table", "md") else text
    print(text)
    if format in ("csv", "latex", "json"):
        for line in (*comparison.notes, *comparison.commands()):
            tell(line)


def report(
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN...", help="Ids, the starts of some, or 'last'.", autocompletion=completing.runs),
    ] = None,
    where: Where = [],  # noqa: B006
    sweep: InSweep = [],  # noqa: B006
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The page.")] = Path("report.html"),
    make: Annotated[
        bool, typer.Option("--make", help="First draw the pictures and measure the numbers that are not there; takes minutes.")
    ] = False,
    split: Annotated[
        str, typer.Option(metavar="test|validation|NAME", help="Which held-out images, or the NAME of a file in eval/.")
    ] = "test",
    metric: Annotated[
        list[str],
        typer.Option(
            metavar="NAME,...", help="Of several runs, these metrics alone; may be repeated.", autocompletion=completing.metrics
        ),
    ] = [],  # noqa: B006
    anyway: Annotated[bool, typer.Option("--anyway", help="Show numbers of differing protocols, marked.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is no report.")] = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Make a page of a run, or of several side by side. One HTML file that needs no network and no script.

    Numbers beside plain methods, curves, pictures, how it was measured, where it comes from, and what is missing with the command
    that makes it. Needs aecli[report]."""
    from aecli.errors import UsageError, translate
    from aecli.system.progress import say, tell
    from aecli.verbs.report import report as verb

    if not runs and not where and not sweep:
        raise UsageError("which runs?", "aecli report RUN, or --sweep last")
    named, chosen = _chosen(runs_dir, runs or [], where, sweep, split)
    if make:
        keep_programs(context)
    made = verb([*named, *chosen], output, split=split, metrics=metric or None, make=make, anyway=anyway, force=force, say=say)
    print(made.path)
    codes: set[int] = set()
    for what, error in made.failures:
        known = translate(error)
        tell(f"{what}: {known.render() if known else error}")
        codes.add(known.code if known else 1)
    if codes:
        raise typer.Exit(codes.pop() if len(codes) == 1 else 1)


def _chosen(root: Path, names: list[str], where: list[str], sweeps: list[str], split: str) -> tuple[list[Run], list[Run]]:
    """The runs that are named, and those that are found by what they are; of a sweep that has selected, on test those that it
    selected. Raises RunError if there are none."""
    from aecli.errors import RunError
    from aecli.runs import directory, query
    from aecli.system.progress import say

    named = [directory.find(root, name) for name in names]
    chosen = list(reversed(query.select(root, where))) if where else []
    if where and not chosen:
        raise RunError(f"no run in {root} is so: {', '.join(where)}", "`aecli runs` lists them")
    for name in sweeps:
        from aecli.sweeps import folder, states

        swept = folder.find(root, name)
        its = states.runs_of(swept)
        if not its:
            raise RunError(f"sweep {swept.id} has no runs", f"aecli sweep --resume {swept.id}")
        if split == "test" and (selected := states.runs_of(swept, selected=True)):
            if len(selected) < len(its):
                others = f"`aecli compare --sweep {swept.id} --split validation` has all runs"
                say(f"{swept.id}: what was selected on validation; {others}")
            its = selected
        chosen += its
    return named, list({run.path: run for run in chosen}.values())
