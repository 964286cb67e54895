"""The verb that makes files of a trained model for programs that know nothing of aecli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aecli.cli.options import RUNS, DataPath, RunName, RunsDir, Which, keep_programs, names


def export(
    context: typer.Context,
    run_name: RunName,
    form: Annotated[str, typer.Option("--format", metavar="safetensors|stablehlo|onnx", help="What is written.")],
    what: Annotated[
        list[str],
        typer.Option(metavar="NAME,...", help="Of encode, decode, reconstruct, sample and score; by default all it can do."),
    ] = [],  # noqa: B006 (typer reads the default, nothing changes it)
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", readable=False, help="A new folder; by default RUN-FORMAT here.")
    ] = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="For N examples at once, in place of any number.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that is there.")] = False,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    runs_dir: RunsDir = RUNS,
) -> None:
    """Write a model for programs without aecli: its weights, or what it does. Prints the folder's path.

    The folder holds the files, use.py, a model card and example.npz; it is compared with the run before it is there."""
    from aecli.cli.tables import cost
    from aecli.runs import directory
    from aecli.runs.trained import load
    from aecli.system.progress import Meter, say, warn
    from aecli.verbs.export import ExportRequest, check_request
    from aecli.verbs.export import export as write

    request = ExportRequest(form, names(what), out, batch, force)
    request.check()  # a wrong flag is told before a missing run
    run = directory.find(runs_dir, run_name)
    check_request(run, request)
    keep_programs(context)
    with Meter() as meter:
        done = write(run, load(run, checkpoint, warn), request, data_path, meter.begin)
    for note in done.notes:
        say(f"note: {note}")
    for name, difference in done.differences.items():
        say(f"{name}: at most {difference:.2g} from the run")
    say(f"{form}: compared on {done.checked}, {cost(meter.seconds)}")
    print(done.path)
