"""The verbs that carry runs from place to place, and look at one from afar: archive, import and watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aecli.cli.options import RUNS, RunNames, RunsDir


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
    from aecli.system.progress import say
    from aecli.verbs.unpack import unpack

    for run, same in unpack(file, runs_dir, say):
        if same:
            say(f"{run.id} is there already, and the same")
        print(run.id)
