"""The verbs. Results go to stdout, messages to stderr. jax, flax, orbax and tensorflow_datasets take seconds to import, so
each verb imports what it needs when it is called."""

from __future__ import annotations

import gc
import io
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from aecli import __version__
from aecli.errors import InterruptedRun, UsageError, printable_lines, translate
from aecli.evaluation.request import EvalRequest
from aecli.sampling.request import DEFAULT, SampleRequest
from aecli.system.terminal import escaping, open_standard_streams, silence


class _Group(TyperGroup):
    """Turns every error into a message and an exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        from aecli.system.signals import leave_to_python

        with escaping():
            try:
                try:
                    return super().main(*arguments, **options)
                finally:
                    sys.stdout.flush()
            except OSError as error:  # stdout is full
                known = translate(error)
                if known is None:
                    raise
                silence(sys.stdout)  # which Python flushes once more at its end
                print(printable_lines(known.render()), file=sys.stderr)
                raise SystemExit(known.code) from None
            finally:
                leave_to_python()

    def invoke(self, ctx: Any) -> Any:
        from aecli.system.signals import Terminated, end_on_signals, raise_on_signals

        try:
            raise_on_signals()
            return self._invoke(ctx)
        except (KeyboardInterrupt, Terminated) as error:
            code = 128 + (error.signum if isinstance(error, Terminated) else signal.SIGINT)
            print("interrupted", file=sys.stderr)
            raise typer.Exit(code) from None
        finally:
            end_on_signals()

    def _invoke(self, ctx: Any) -> Any:
        debug = bool(ctx.params.get("debug"))
        try:
            return super().invoke(ctx)
        except Exception as error:
            known = translate(error)
            if known is None and _is_usage(error):
                raise
            if debug:
                raise
            if known is None:
                text = str(error).splitlines()
                print(f"internal error: {type(error).__name__}: {text[0] if text else ''}", file=sys.stderr)
                print("  help: this is a bug in aecli; run the same with --debug for the traceback", file=sys.stderr)
                raise typer.Exit(1) from None
            print(printable_lines(known.render()), file=sys.stderr)
            raise typer.Exit(128 + known.signum if isinstance(known, InterruptedRun) else known.code) from None


def _is_usage(error: Exception) -> bool:
    """Whether the error is typer's own way of ending: a wrong flag, or an exit."""
    return type(error).__module__.startswith(("click", "typer"))


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich for its boxes would take longer than everything else that it shows
    help="Train, sample and compare autoencoders and their generative relatives from one YAML file.",
    epilog="Start with: aecli train configs/quickstart.yaml. RUN is a run's id, the start of one, or 'last'.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and prepare data sets.")
app.add_typer(data_app, name="data")

RunsDir = Annotated[  # typer would refuse one that cannot be read as a mistake in the command
    Path, typer.Option("--runs-dir", envvar="AECLI_RUNS_DIR", readable=False, help="Where run directories live.")
]
Sets = Annotated[list[str], typer.Option("--set", metavar="BLOCK.KEY=VALUE", help="Change a setting; may be repeated.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the start of one, or 'last'.")]
Which = Annotated[str, typer.Option("--checkpoint", metavar="best|last", help="The best by validation, or the newest.")]
DataPath = Annotated[
    str | None, typer.Option("--data-path", metavar="PATH", help="Where the run's data is by now, if moved or renamed.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
Only = Annotated[list[str], typer.Option(metavar="NAME,...", help="These evaluators alone; may be repeated.")]
Skip = Annotated[list[str], typer.Option(metavar="NAME,...", help="All but these evaluators; may be repeated.")]
RUNS = Path("runs")
SAMPLE, EVAL = DEFAULT, EvalRequest()


def _print_json(value: Any) -> None:
    """NaN and infinity, which are no JSON, raise ValueError."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _keep_programs(context: typer.Context) -> None:
    """Until the verb ends, what it compiles is kept for the next process."""
    from aecli.system.compile_cache import kept_programs
    from aecli.system.folders import cache_root

    context.with_resource(kept_programs(cache_root()))


def _version(value: bool) -> None:
    if value:
        print(f"aecli {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


@app.command()
def train(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file.")] = None,
    sets: Sets = [],  # noqa: B006 (typer reads the default, nothing changes it)
    name: Annotated[str | None, typer.Option(help="The start of the run's id; by default the config's file name.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with a run from its newest checkpoint.")] = None,
    data_path: DataPath = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Train what a config describes. Prints the run's id, alone, on stdout."""
    if (config is None) == (resume is None):
        raise UsageError("train takes a CONFIG, or --resume RUN", "aecli train configs/quickstart.yaml")
    if resume is not None and name is not None:
        raise UsageError("--name is for a new run, not for --resume")
    if resume is None and data_path is not None:
        raise UsageError("--data-path is for --resume", f"a new run is told by --set data.path={data_path}")
    from aecli.config.load import load
    from aecli.data.sources.registry import check_name
    from aecli.runs import directory
    from aecli.verbs import train

    if config is not None:
        loaded = load(config, sets, check_name)
        _keep_programs(context)
        run = train.start(loaded, sets, name or config.stem, runs_dir)
    else:
        assert resume is not None
        run = directory.find(runs_dir, resume)
        _keep_programs(context)
        train.resume(run, sets, data_path)
    print(run.id)


@app.command()
def sample(
    context: typer.Context,
    run_name: RunName,
    mode: Annotated[
        str,
        typer.Option(help="prior, class, neighbours, reconstruct, denoise, complete, interpolate, traverse, codes."),
    ] = SAMPLE.mode,
    sampler: Annotated[
        str | None, typer.Option(help="Draw codes from a distribution fitted to them: gaussian, gmm, vamp.")
    ] = SAMPLE.sampler,
    components: Annotated[int | None, typer.Option(min=1, help="Of the sampler: 10 for gmm, 500 for vamp.")] = SAMPLE.components,
    n: Annotated[
        int | None, typer.Option("-n", min=1, max=10_000, help="How many images, pairs, latents, units, or images a class.")
    ] = SAMPLE.n,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same picture.")] = SAMPLE.seed,
    temperature: Annotated[
        float, typer.Option(min=0.01, max=100, help="Below 1, draws are more likely and less varied.")
    ] = SAMPLE.temperature,
    region: Annotated[
        str, typer.Option(metavar="upper|left|block|FILE", help="Of complete: what is given; of a mask file, what is white.")
    ] = SAMPLE.region,
    path: Annotated[str, typer.Option(metavar="linear|spherical", help="Of interpolate.")] = SAMPLE.path,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    runs_dir: RunsDir = RUNS,
) -> None:
    """Draw pictures from a run. Writes a labelled PNG grid and the arrays as npz, and prints their paths."""
    from aecli.runs import directory
    from aecli.verbs.sample import check_request
    from aecli.verbs.sample import sample as draw

    request = SampleRequest(mode, sampler, components, n, seed, temperature, region, path)
    check_request(request)  # a wrong flag is told before a missing run
    run = directory.find(runs_dir, run_name)
    _keep_programs(context)
    for file in draw(run, request, checkpoint, data_path):
        print(file)


@app.command()
def eval(
    context: typer.Context,
    run_name: RunName,
    split: Annotated[str, typer.Option(metavar="test|validation", help="Which held-out images.")] = EVAL.split,
    only: Only = [],  # noqa: B006 (typer reads the default, nothing changes it)
    skip: Skip = [],  # noqa: B006
    samples: Annotated[
        int,
        typer.Option(min=1, max=100_000, help="Importance samples per image; the published protocols take 5000."),
    ] = EVAL.samples,
    draws: Annotated[
        int, typer.Option(min=1, max=100_000, help="Images to draw, at most as many as the split has.")
    ] = EVAL.draws,
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Weights (npz) of the Inception network, for its Frechet distance.")
    ] = EVAL.inception,
    data_path: DataPath = None,
    checkpoint: Which = "best",
    as_json: Json = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Measure a run on held-out images, by every evaluator that fits. Writes eval/SPLIT.json and per-image values into the run.

    Evaluators: objective, reconstruction, likelihood, sparsity, codebook, representation, clustering, denoising,
    classification, generation. What Ctrl-C interrupts goes on where it stopped."""
    from aecli.cli.tables import cost, show_metrics
    from aecli.runs import directory
    from aecli.system.progress import Meter, say
    from aecli.verbs.evaluate import Watch, evaluate

    request = EvalRequest(split, _names(only), _names(skip), samples, draws, inception)
    request.check()  # a wrong flag is told before a missing run
    run = directory.find(runs_dir, run_name)
    _keep_programs(context)
    with Meter() as meter:
        measured = evaluate(run, request, checkpoint, Watch(meter.begin, meter.tell), data_path)
    for note in measured.notes:
        say(f"note: {note}")
    if as_json:
        _print_json({name: found.as_json() for name, found in measured.metrics.items()})
    elif measured.metrics:
        show_metrics(run.id, measured.metrics)
    say(f"{run.path / 'eval' / f'{split}.json'}: {cost(meter.seconds)}")
    for evaluator, error in measured.failed.items():
        if context.find_root().params["debug"]:
            sys.excepthook(type(error), error, error.__traceback__)
        known = translate(error)
        text = (str(error).splitlines() or [""])[0]
        say(f"error: evaluator '{evaluator}' failed: " + (known.message if known else f"{type(error).__name__}: {text}"))
    if measured.failed:
        say(f"  help: the numbers of the others are written; --skip {','.join(measured.failed)} leaves these out")
        codes = [known.code if (known := translate(error)) else 1 for error in measured.failed.values()]
        raise typer.Exit(codes[0] if len(set(codes)) == 1 else 1)


def _names(given: list[str]) -> list[str]:
    """`--only a,b --only c` is three names."""
    return [name.strip() for one in given for name in one.split(",") if name.strip()]


@app.command()
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
        _print_json(facts)
    else:
        show_runs(facts, runs_dir)


@app.command()
def show(run_name: RunName, as_json: Json = False, runs_dir: RunsDir = RUNS) -> None:
    """Tell everything about one run. Its state, data, origin, config, numbers and pictures."""
    from aecli.cli.tables import show_run
    from aecli.runs import directory, provenance
    from aecli.runs.directory import run_facts

    run = directory.find(runs_dir, run_name)
    if as_json:
        info = run.info().as_json()
        facts = {**info, **run_facts(run), "data": info["data"], "code_changed": provenance.code_now(run.info()).changed}
        _print_json(facts)
    else:
        show_run(run)


@app.command()
def check(
    context: typer.Context,
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG", help="YAML files.")],
    sets: Sets = [],  # noqa: B006 (typer reads the default, nothing changes it)
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Also train 2 steps, evaluate and sample, in a temporary place.")
    ] = False,
    data: Annotated[bool, typer.Option("--data", help="Also prepare the data and decode every image.")] = False,
) -> None:
    """Validate configs, and try them with --smoke. What a CI would call."""
    from aecli.config.load import load
    from aecli.data.sources.registry import check_name
    from aecli.verbs import check

    if smoke:
        _keep_programs(context)
    code = 0
    for path in configs:
        try:
            config = load(path, sets, check_name)
            facts = check.smoke(config) if smoke else check.hold_against_data(config, data)
            print(f"{path}: ok ({config.experiment.model.variant}, {facts})", flush=True)
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            if context.find_root().params["debug"]:
                sys.excepthook(type(error), error, error.__traceback__)
            if not str(known.render()).startswith(str(path)):
                print(f"{path}:", file=sys.stderr)
            print(printable_lines(known.render()), file=sys.stderr)
            code = code or known.code
    if code:
        raise typer.Exit(code)


@app.command()
def bench(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file.")],
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
        _print_json(speed._asdict())
    else:
        show_speed(str(config), speed)


@app.command()
def variants(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="This one alone.")] = None, as_json: Json = False
) -> None:
    """List model families with abilities, settings, modes and evaluators."""
    from aecli.cli.tables import show_variants
    from aecli.verbs.variants import variants as describe

    told = describe(name)
    if as_json:
        _print_json([variant.as_json() for variant in told.sound])
    else:
        show_variants(told.sound)
    for error in told.broken:
        print(error.line_of_text(), file=sys.stderr)
    if told.broken:  # so that a CI sees it
        raise typer.Exit(told.broken[0].code)


@data_app.command("list")
def data_list(every: Annotated[bool, typer.Option("--all", help="Also every name that TFDS knows.")] = False) -> None:
    """List data sets that are here, and where they are kept."""
    from aecli.cli.tables import show_data
    from aecli.verbs.data import data_sets

    show_data(data_sets(every))


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="digits, shapes, fashion_mnist, or any TFDS name.")],
    manual_dir: Annotated[str | None, typer.Option(help="A folder with the original files, instead of a download.")] = None,
) -> None:
    """Prepare and decode a data set now, for training without a network later. Prints where it is."""
    from aecli.verbs.data import prepare

    print(prepare(name, manual_dir))


FEW_COLLECTIONS = (100_000, 20, 50)
"""Thresholds of the garbage collector. Tracing makes hundreds of thousands of small objects, nearly all of which stay: to look
through them after every 700, Python's default, takes an eighth of the time until the first step."""


def main() -> None:
    gc.set_threshold(*FEW_COLLECTIONS)
    open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: names of classes are in any letters
    # `--debug` may stand anywhere, also behind the verb.
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    app(arguments, prog_name="aecli")
