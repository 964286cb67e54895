"""The verbs that carry runs from place to place, and look at one from afar: archive, import and watch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aecli.cli.options import RUNS, RunName, RunNames, RunsDir


def archive(
    run_names: RunNames,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The archive: .tar.gz, .tgz or .tar.")],
    no_checkpoints: Annotated[
        bool, typer.Option("--no-checkpoints", help="Numbers, pictures and configs alone: much smaller, and no model.")
    ] = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Write runs into one file, with hashes, for `aecli import`. Prints its path."""
    from aecli.runs import directory
    from aecli.system.progress import say
    from aecli.system.room import gigabytes
    from aecli.verbs.archive import archive as write
    from aecli.verbs.archive import check_target

    check_target(output)  # a wrong flag is told before a missing run
    runs = [directory.find(runs_dir, name) for name in run_names]
    done = write(runs, output, checkpoints=not no_checkpoints)
    say(f"{done.runs:,} run{'s' * (done.runs != 1)}, {done.files:,} files, {gigabytes(done.size)}")
    print(output)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="What `aecli archive` wrote.")],
    runs_dir: RunsDir = RUNS,
) -> None:
    """Bring runs out of an archive, every file held against its hash. Prints their ids."""
    from aecli.system.progress import say, tell
    from aecli.verbs.unpack import unpack

    for run, same in unpack(file, runs_dir, tell):
        if same:
            say(f"{run.id} is there already, and the same")
        print(run.id)


def watch(run_name: RunName, runs_dir: RunsDir = RUNS) -> None:
    """Look at a run while it trains, from its files alone, until it ends. Prints how it ended.

    Ends with 0 if the run is complete, 6 if it diverged, and 4 if it ended otherwise. Ctrl-C ends the watch, not the run."""
    from aecli.runs import directory
    from aecli.system.progress import Progress, say
    from aecli.verbs.watch import CODES, ended, follow, length

    run = directory.find(runs_dir, run_name)
    if run.is_locked():
        total, batch = length(run)
        recorded = run.recorded()
        say(f"{run.id}: {recorded.state} at step {recorded.step:,} of {total:,}")
        with Progress(total, recorded.step, kind=run.info().data.spec.kind) as progress:
            for number, rows in enumerate(follow(run)):
                for row in rows:
                    per_s = row.values.get("images_per_s", 0.0)
                    if row.split == "train" and per_s > 0:
                        progress.update(row.step, row.values, per_s, (total - row.step) * batch / per_s)
                    elif row.split == "validation" and number and sys.stderr.isatty():
                        shown = "  ".join(f"{name} {value:.5g}" for name, value in row.values.items())
                        progress.line(f"epoch {row.epoch:<5.4g} validation {shown}")
    state, text = ended(run)
    print(text)
    if code := CODES.get(state, 4):
        raise typer.Exit(code)
