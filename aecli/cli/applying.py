"""The verbs that apply a run to images: encode, reconstruct and score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aecli.cli.options import RUNS, DataPath, RunName, RunsDir, Which, keep_programs
from aecli.evaluation.request import MOST

Source = Annotated[
    Path | None,
    typer.Argument(metavar="FILE|FOLDER", readable=False, help="Images: .npz, .npy, a picture or a folder of them; or vectors."),
]
Split = Annotated[
    str | None, typer.Option(metavar="test|validation|train", help="In place of a file, a split of the run's own data.")
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="FILE.npz", readable=False, help="Where the arrays are written.")]
Force = Annotated[bool, typer.Option("--force", help="Replace FILE.npz if it is there.")]
Reads = Annotated[
    list[str], typer.Option("--set", metavar="data.KEY=VALUE", help="How the file is read, such as data.size=[28,28].")
]


def encode(
    context: typer.Context,
    run_name: RunName,
    out: Out,
    source: Source = None,
    split: Split = None,
    sets: Reads = [],  # noqa: B006 (typer reads the default, nothing changes it)
    force: Force = False,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    runs_dir: RunsDir = RUNS,
) -> None:
    """Write the codes of the images of a file, a folder or a split. Prints the path of the npz, which holds code [n, latent]."""
    _apply(context, "encode", run_name, runs_dir, out, source, split, sets, force, data_path, checkpoint)


def reconstruct(
    context: typer.Context,
    run_name: RunName,
    out: Out,
    source: Source = None,
    split: Split = None,
    sets: Reads = [],  # noqa: B006
    force: Force = False,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    runs_dir: RunsDir = RUNS,
) -> None:
    """Write what a run makes of images as they are. Prints the path of the npz, which holds image, or vector, of each."""
    _apply(context, "reconstruct", run_name, runs_dir, out, source, split, sets, force, data_path, checkpoint)


def score(
    context: typer.Context,
    run_name: RunName,
    out: Out,
    source: Source = None,
    split: Split = None,
    samples: Annotated[
        int,
        typer.Option(
            "--importance-samples",
            "--samples",
            min=1,
            max=MOST,
            help="Importance samples per image, where the likelihood is not exact.",
        ),
    ] = 500,
    sets: Reads = [],  # noqa: B006
    force: Force = False,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    runs_dir: RunsDir = RUNS,
) -> None:
    """Write how likely images are. Prints the path of the npz, which holds nll_nats [n], -log p(x) of each image."""
    _apply(context, "score", run_name, runs_dir, out, source, split, sets, force, data_path, checkpoint, samples)


def _apply(
    context: typer.Context,
    doing: str,
    run_name: str,
    runs_dir: Path,
    out: Path,
    source: Path | None,
    split: str | None,
    sets: list[str],
    force: bool,
    data_path: str | None,
    checkpoint: str,
    samples: int = 500,
) -> None:
    from aecli.cli.tables import cost
    from aecli.runs import directory
    from aecli.system.progress import Meter, say
    from aecli.verbs.apply_files import Request, apply_to_files
    from aecli.verbs.telling import Watch

    request = Request(doing, out, source, split, sets, samples, force)
    request.check()  # a wrong flag is told before a missing run
    run = directory.find(runs_dir, run_name)
    keep_programs(context)
    with Meter() as meter:
        n = apply_to_files(run, request, checkpoint, data_path, Watch(meter.begin, meter.tell))
    say(f"{doing}: {n:,} of {split or source}, {cost(meter.seconds)}")
    print(out)
