"""The verbs that train what a config describes: train and bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aecli.cli import completing
from aecli.cli.options import RUNS, DataPath, Json, RunsDir, Sets, keep_programs, names, print_json
from aecli.errors import UsageError


def train(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A YAML file.", autocompletion=completing.configs)
    ] = None,
    sets: Sets = [],  # noqa: B006 (typer reads the default, nothing changes it)
    name: Annotated[str | None, typer.Option(help="The start of the run's id; by default the config's file name.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with a run from its newest checkpoint.", autocompletion=completing.runs),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Start from the weights of another run's best checkpoint.",
            autocompletion=completing.runs,
        ),
    ] = None,
    freeze: Annotated[
        list[str], typer.Option(metavar="PART,...", help="Keep the weights of these parts of the network as they start.")
    ] = [],  # noqa: B006 (typer reads the default, nothing changes it)
    data_path: DataPath = None,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT|auto", help="Train with other processes, which meet at a port of process 0's machine."),
    ] = None,
    process: Annotated[int | None, typer.Option(metavar="I", help="Which of them this is, from 0.")] = None,
    processes: Annotated[int | None, typer.Option(metavar="N", help="How many there are.")] = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Train what a config describes. Prints the run's id, alone, on stdout.

    With --from, what fits by name and shape is taken over, and what does not is told; --freeze encoder is short for
    --set optimizer.freeze=[encoder]. With --coordinator the same command is started on each machine, with its own --process
    (with auto, JAX finds out by itself which it is): process 0 keeps the run, the others print nothing."""
    if (config is None) == (resume is None):
        raise UsageError("train takes a CONFIG, or --resume RUN", "aecli train quickstart")
    if resume is not None and name is not None:
        raise UsageError("--name is for a new run, not for --resume")
    if resume is not None and (source is not None or freeze):
        raise UsageError("--from and --freeze are for a new run, not for --resume", "aecli train CONFIG --from RUN")
    if resume is None and data_path is not None:
        raise UsageError("--data-path is for --resume", f"a new run is told by --set data.path={data_path}")
    if coordinator is None and (process is not None or processes is not None):
        raise UsageError("--process and --processes need --coordinator", "aecli train CONFIG --coordinator HOST:PORT ...")
    from aecli.system import hosts

    try:
        with hosts.joined(coordinator, process, processes) as crew:
            from aecli.config.load import load
            from aecli.data.sources.registry import check_name
            from aecli.runs import directory
            from aecli.verbs import train

            if config is not None:
                sets = [*sets, *([f"optimizer.freeze=[{','.join(names(freeze))}]"] if freeze else [])]
                loaded = load(config, sets, check_name)
                weights = None if source is None or isinstance(crew, hosts.Follower) else directory.find(runs_dir, source)
                keep_programs(context)
                if isinstance(crew, hosts.Follower):
                    train.follow_new(loaded, crew)
                run = train.start(loaded, sets, name or config.stem, runs_dir, weights, crew=crew)
            else:
                assert resume is not None
                run = directory.find(runs_dir, resume)
                keep_programs(context)
                if isinstance(crew, hosts.Follower):
                    train.follow_resumed(run, sets, data_path, crew)
                train.resume(run, sets, data_path, crew)
    except hosts.Ended:  # process 0 tells of the run
        return
    print(run.id)


def bench(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.", autocompletion=completing.configs)],
    sets: Sets = [],  # noqa: B006 (typer reads the default, nothing changes it)
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long to train for.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Measure how fast a config trains, and what share of this machine's matrix products that is. Keeps nothing."""
    from aecli.cli.tables import show_speed
    from aecli.config.load import load
    from aecli.data.sources.registry import check_name
    from aecli.verbs.bench import bench as measure

    speed = measure(load(config, sets, check_name), seconds)
    if as_json:
        print_json(speed._asdict())
    else:
        show_speed(str(config), speed)
