"""The verb that trains many runs: sweep."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aecli.cli import completing
from aecli.cli.options import RUNS, Json, Only, RunsDir, Sets, names, print_json
from aecli.errors import UsageError

if TYPE_CHECKING:
    from aecli.sweeps.asked import Asked
    from aecli.sweeps.slurm import Slurm


def sweep(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="A YAML file: a config, or a sweep's.", autocompletion=completing.configs),
    ] = None,
    grid: Annotated[
        list[str], typer.Option(metavar="BLOCK.KEY=A,B", help="Values of a setting; each is combined with all others.")
    ] = [],  # noqa: B006 (typer reads the default, nothing changes it)
    zip: Annotated[list[str], typer.Option(metavar="BLOCK.KEY=A,B", help="Settings that vary together, value by value.")] = [],  # noqa: B006
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds of each, from the config's own on.")] = None,
    seed_list: Annotated[str | None, typer.Option(metavar="1,2,3", help="These seeds of each.")] = None,
    sets: Sets = [],  # noqa: B006
    eval: Annotated[bool, typer.Option("--eval", help="Also measure each cell on test.")] = False,
    only: Only = [],  # noqa: B006
    select: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Measure on test the best cell on validation alone, over its seeds."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Cells at once, each with its share of the cores.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Of each cell: train.threads.")] = None,
    engine: Annotated[str, typer.Option(metavar="local|slurm", help="This machine, or jobs of a cluster.")] = "local",
    partition: Annotated[str | None, typer.Option(help="Of slurm.")] = None,
    time: Annotated[str | None, typer.Option(metavar="2h", help="Of slurm: the limit of a cell.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="Of slurm: for a cell.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Of slurm: cells at once.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Of slurm: submit and return.")] = False,
    name: Annotated[str | None, typer.Option(help="The start of the sweep's id; by default the config's file name.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and list the cells.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask about many cells.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Begin no other cell after one that failed.")] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="SWEEP", help="Go on with a sweep: its id, the start of it, or last.", autocompletion=completing.sweeps
        ),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Of --resume: begin cells that failed anew.")] = False,
    as_json: Json = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Train a config in many ways: settings that vary, and seeds. Prints a table, or JSON, of what came out.

    Exit code 0 if all is done, 6 if a cell diverged, else that of the first cell that failed. Ctrl-C saves every run."""
    if (config is None) == (resume is None):
        raise UsageError("sweep takes a CONFIG, or --resume SWEEP", "aecli sweep quickstart --seeds 5")
    if only and not eval and select is None:
        raise UsageError("--only says by what --eval measures", "add --eval")
    varied = {"--grid": grid, "--zip": zip, "--seeds": seeds, "--seed-list": seed_list, "--set": sets, "--eval": eval}
    fixed = varied | {"--select": select, "--threads": threads, "--name": name, "--dry-run": dry_run}
    if resume is not None and (given := [flag for flag, value in fixed.items() if value]):
        raise UsageError(f"{given[0]} is for a new sweep: one that goes on keeps its cells", "leave it out")
    if retry and resume is None:
        raise UsageError("--retry is for --resume", "aecli sweep --resume last --retry")
    slurm = _slurm(engine, partition, time, gpus, parallel, no_wait)
    if slurm is not None and jobs > 1:
        raise UsageError("--jobs is for the local engine", f"--parallel {jobs}")
    from aecli.cli.sweep_tables import Board, show_sweep, sweep_facts
    from aecli.sweeps import api
    from aecli.system.progress import say

    with Board() as board:
        if resume is not None:
            done = api.resume(runs_dir, resume, jobs, slurm, board.watch, retry, fail_fast)
        else:
            assert config is not None
            measured = tuple(names(only)) if eval or only else None
            more: dict[str, Any] = {"select": select, "threads": threads, "name": name}
            asked = _asked(
                config, [flag for flag, value in varied.items() if value], grid, zip, seeds, seed_list, sets, measured, more
            )
            if dry_run:
                cells = api.plan(asked, jobs, board.say)
                _show_cells(cells, as_json)
                return
            begun = lambda sweep: board.say(f"{sweep.id}: {len(sweep.plan().cells):,} cells")  # noqa: E731
            done = api.start(asked, runs_dir, jobs, slurm, board.watch, fail_fast, lambda cells: _confirm(cells, yes), begun)
    if as_json:
        print_json(sweep_facts(done))
    else:
        show_sweep(done)
    say(str(done.path))
    if done.code:
        raise typer.Exit(done.code)


def _asked(
    config: Path,
    given: list[str],
    grid: list[str],
    zipped: list[str],
    seeds: int | None,
    seed_list: str | None,
    sets: list[str],
    measured: tuple[str, ...] | None,
    more: dict[str, Any],
) -> Asked:
    from aecli.sweeps.asked import from_file, from_flags, is_sweep

    if is_sweep(config):
        if given:
            raise UsageError(f"{config} is a sweep's file, and {given[0]} is for a config", "write it into the file")
        return from_file(config, **more)
    return from_flags(config, sets, grid, zipped, seeds, seed_list, only=measured, **more)


def _slurm(
    engine: str, partition: str | None, time: str | None, gpus: int | None, parallel: int | None, no_wait: bool
) -> Slurm | None:
    if engine == "local":
        flags = {"--partition": partition, "--time": time, "--gpus": gpus, "--parallel": parallel, "--no-wait": no_wait or None}
        if given := [flag for flag, value in flags.items() if value is not None]:
            raise UsageError(f"{given[0]} is for --engine slurm", "add --engine slurm, or leave it out")
        return None
    if engine != "slurm":
        raise UsageError(f"--engine {engine}: there are local and slurm")
    from aecli.sweeps.slurm import Slurm

    return Slurm(partition, time, gpus, parallel, not no_wait)


def _confirm(cells: int, yes: bool) -> None:
    """Raises UsageError unless so many cells are meant."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{cells:,} cells are many", "--yes says that they are meant")
    if not typer.confirm(f"{cells:,} cells: are they meant?", err=True):
        raise UsageError(f"{cells:,} cells were not meant", "vary fewer settings, or fewer values")


def _show_cells(cells: list[list[str]], as_json: bool) -> None:
    if as_json:
        print_json(cells)
        return
    from shlex import quote

    for number, flags in enumerate(cells, 1):
        print(f"{number}  " + " ".join(f"--set {quote(flag)}" for flag in flags))
