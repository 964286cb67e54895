"""The verbs. Results go to stdout, messages to stderr. jax, flax, orbax and tensorflow_datasets take seconds to import, so
each verb imports what it needs when it is called."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from aecli import __version__
from aecli.errors import InterruptedRun, UsageError, translate

if TYPE_CHECKING:
    from aecli.config import Config
    from aecli.runs import Run


class _Group(TyperGroup):
    """Turns every error into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        from aecli.signals import Terminated, raise_on_signals

        debug = bool(ctx.params.get("debug"))
        raise_on_signals()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:  # whoever read our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (KeyboardInterrupt, Terminated) as error:
            code = 143 if isinstance(error, Terminated) else 130
            print("interrupted", file=sys.stderr)
            raise typer.Exit(code) from None
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
            print(known.render(), file=sys.stderr)
            raise typer.Exit(128 + known.signum if isinstance(known, InterruptedRun) else known.code) from None


def _is_usage(error: Exception) -> bool:
    """Whether the error is typer's own way of ending: a wrong flag, or an exit."""
    return type(error).__module__.startswith(("click", "typer"))


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, sample and compare autoencoders and their generative relatives from one YAML file.",
    epilog="Start with: aecli train configs/quickstart.yaml. RUN is a run's id, the start of one, or 'last'.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, help="List and prepare data sets.")
app.add_typer(data_app, name="data")

RunsDir = Annotated[Path, typer.Option("--runs-dir", envvar="AECLI_RUNS_DIR", help="Where run directories live.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="BLOCK.KEY=VALUE", help="Change a setting; may be repeated.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the start of one, or 'last'.")]
Which = Annotated[str, typer.Option("--checkpoint", metavar="best|last", help="The best by validation, or the newest.")]
Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
RUNS = Path("runs")


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
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="A YAML file.")] = None,
    sets: Sets = [],  # noqa: B006 (typer reads the default, nothing changes it)
    name: Annotated[str | None, typer.Option(help="The start of the run's id; by default the config's file name.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with a run from its newest checkpoint.")] = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Train what a config describes. Prints the run's id, alone, on stdout."""
    if (config is None) == (resume is None):
        raise UsageError("train takes a CONFIG, or --resume RUN", "aecli train configs/quickstart.yaml")
    if resume is not None:
        if name is not None:
            raise UsageError("--name is for a new run, not for --resume")
        run = _resume(runs_dir, resume, sets)
    else:
        assert config is not None
        run = _train_new(config, sets, name, runs_dir)
    print(run.id)


def _train_new(path: Path, sets: list[str], name: str | None, runs_dir: Path) -> Run:
    from aecli import provenance, runs
    from aecli.config import SettingError, load
    from aecli.data.dataset import open_dataset
    from aecli.progress import say
    from aecli.train import state_template, train

    config = load(path, sets)
    experiment = config.experiment
    try:
        dataset = open_dataset(experiment.data, say)
        from aecli.mesh import placement

        place = placement(experiment.data.batch_size)
        template = state_template(experiment, dataset.spec, len(dataset.train), place)
    except SettingError as error:
        raise config.locate(error) from None
    sizes = {split: len(dataset.split(split)) for split in ("train", "validation", "test")}
    facts = {
        **provenance.collect(),
        "overrides": list(sets),
        "variant": experiment.model.variant,
        "parameters": parameter_count(template),
        "data": {
            "name": experiment.data.name,
            "spec": dataset.spec._asdict(),
            "sizes": sizes,
            "tier": dataset.tier,
            "fingerprint": dataset.fingerprint,
        },
    }
    run = runs.create(runs_dir, name or path.stem, config.text, config.resolved(), facts)
    model, images = f"{experiment.model.variant} with {facts['parameters']:,} parameters", f"{sizes['train']:,} images"
    steps, devices = f"{experiment.steps(sizes['train']):,} steps", f"{place.devices} x {device_kind()}"
    say(f"{run.id}: {model}, {images} of {experiment.data.name}, {steps} on {devices}")
    with run.locked():
        try:
            train(experiment, run, dataset, _warn)
        except SettingError as error:
            raise config.locate(error) from None
    _say_end(run)
    return run


def _resume(runs_dir: Path, name: str, sets: list[str]) -> Run:
    from aecli import runs
    from aecli.config import dump, parse
    from aecli.data.dataset import open_dataset
    from aecli.errors import DataError, RunError
    from aecli.files import write_atomic
    from aecli.progress import say
    from aecli.restored import stored_experiment
    from aecli.train import train

    run = runs.find(runs_dir, name)
    for flag in sets:
        if flag.split("=")[0].strip() not in ("train.steps", "train.epochs"):
            raise UsageError(f"--set {flag}: a resumed run keeps its settings; only train.steps and train.epochs may change")
    with run.locked():
        experiment = stored_experiment(run)
        if sets:
            experiment = parse(run.resolved_config(), str(run.path / "config.resolved.yaml"), sets).experiment
        recorded, info = run.recorded(), run.info()["data"]
        steps = experiment.steps(info["sizes"]["train"])
        if recorded["state"] == "diverged":
            raise RunError(
                f"run {run.id} diverged and would do so again: {recorded.get('reason')}", "train anew with other settings"
            )
        done = recorded["state"] == "completed" and (not sets or recorded["step"] >= steps)
        if done:
            say(f"{run.id} is complete at step {recorded['step']}; --set train.steps=N makes it longer")
            return run
        dataset = open_dataset(experiment.data, say)
        if dataset.fingerprint != info["fingerprint"]:
            raise DataError(
                f"the data is not what run {run.id} was trained on: its fingerprint differs", "restore the data, or train anew"
            )
        if sets:
            write_atomic(run.path / "config.resolved.yaml", dump(experiment).encode())
        from aecli import checkpoint

        if not checkpoint.steps(run.checkpoints):
            say(f"{run.id} has no checkpoint yet: starting at step 0")
        train(experiment, run, dataset, _warn)
    _say_end(run)
    return run


def _say_end(run: Run) -> None:
    from aecli.progress import say

    state = run.recorded()
    best = f", best {state['best_value']:.5g} at step {state['best_step']}" if state.get("best_step") else ""
    say(f"{run.id}: {state['reason']} at step {state['step']}{best}")


def _warn(text: str) -> None:
    from aecli.progress import say

    say(text if text.startswith("resuming") else f"warning: {text}")


@app.command()
def sample(
    run_name: RunName,
    mode: Annotated[str, typer.Option(help="prior, reconstruct.")] = "prior",
    n: Annotated[int, typer.Option("-n", min=1, max=10_000, help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same picture.")] = 0,
    checkpoint: Which = "best",
    runs_dir: RunsDir = RUNS,
) -> None:
    """Draw pictures from a run: a labelled PNG grid and the arrays as npz. Prints their paths."""
    from aecli import runs
    from aecli.data.dataset import open_dataset
    from aecli.progress import say
    from aecli.restored import load, stored_experiment
    from aecli.sample import check_mode, write

    run = runs.find(runs_dir, run_name)
    chosen = check_mode(stored_experiment(run).model, mode)
    trained = load(run, _which(checkpoint), _warn)
    rows = open_dataset(trained.experiment.data, say).test
    shown = chosen.show(trained, rows, n, seed)
    for path in write(run.path / "samples", f"{mode}-step{trained.step}-seed{seed}-n{n}", shown):
        print(path)


@app.command()
def eval(
    run_name: RunName,
    split: Annotated[str, typer.Option(metavar="test|validation", help="Which held-out images.")] = "test",
    checkpoint: Which = "best",
    as_json: Json = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Measure a run on held-out images; writes eval/SPLIT.json into the run."""
    from aecli import runs
    from aecli.restored import load

    if split not in ("test", "validation"):
        raise UsageError(f"--split {split}: there are test and validation")
    run = runs.find(runs_dir, run_name)
    result = _evaluate(run, load(run, _which(checkpoint), _warn), split)
    if as_json:
        print(json.dumps(result, indent=2, allow_nan=False, ensure_ascii=False))
        return
    from aecli.tables import show_metrics

    show_metrics(run.id, result)


def _evaluate(run: Run, trained: Any, split: str, dataset: Any = None) -> dict[str, Any]:
    import jax

    from aecli.data.dataset import open_dataset
    from aecli.errors import DataError
    from aecli.evaluate.batches import BATCH
    from aecli.evaluate.run import evaluate
    from aecli.files import write_json
    from aecli.progress import say

    experiment = trained.experiment
    dataset = dataset or open_dataset(experiment.data, say)
    if dataset.fingerprint != run.info()["data"]["fingerprint"]:
        raise DataError(f"the data is not what run {run.id} was trained on: its fingerprint differs", "restore the data")
    rows = dataset.split(split)
    if not len(rows):
        raise UsageError(f"run {run.id} has no validation split: data.validation is 0", "use --split test")
    root = jax.random.key(experiment.seed)
    metrics = evaluate(trained.model, trained.state, rows, experiment.data.binarize, root, trained.place)
    protocol = {
        "split": split,
        "step": trained.step,
        "binarize": experiment.data.binarize,
        "seed": experiment.seed,
        "batch": BATCH,
        "fingerprint": dataset.fingerprint,
    }
    result = {name: {**metric.as_json(), "protocol": protocol} for name, metric in metrics.items()}
    write_json(run.path / "eval" / f"{split}.json", result)
    return result


@app.command()
def runs(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only runs of this variant.")] = None,
    as_json: Json = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """List runs, the newest first."""
    from aecli import runs as store
    from aecli.errors import did_you_mean
    from aecli.tables import run_facts, show_runs

    if state is not None and state not in store.STATES:
        raise UsageError(
            f"there is no state '{state}'", did_you_mean(state, store.STATES) or "states: " + ", ".join(store.STATES)
        )
    facts = [run_facts(run) for run in reversed(store.every(runs_dir))]
    facts = [f for f in facts if (state is None or f["state"] == state) and (variant is None or f["variant"] == variant)]
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        show_runs(facts, runs_dir)


@app.command()
def show(run_name: RunName, as_json: Json = False, runs_dir: RunsDir = RUNS) -> None:
    """Tell everything about one run: its state, data, origin, config, numbers and pictures."""
    from aecli import runs
    from aecli.tables import run_facts, show_run

    run = runs.find(runs_dir, run_name)
    if as_json:
        print(json.dumps({**run.info(), **run_facts(run)}, indent=2, ensure_ascii=False))
    else:
        show_run(run)


@app.command()
def check(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="YAML files.")],
    sets: Sets = [],  # noqa: B006 (typer reads the default, nothing changes it)
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Also train 2 steps, evaluate and sample, in a temporary place.")
    ] = False,
) -> None:
    """Validate configs, and with --smoke try them: what a CI would call."""
    from aecli.config import SettingError, load

    code = 0
    for path in configs:
        try:
            config = load(path, sets)
            try:
                facts = _smoke(config) if smoke else _peek(config)
            except SettingError as error:
                raise config.locate(error) from None
            print(f"{path}: ok ({config.experiment.model.variant}, {facts})", flush=True)
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            if not str(known.render()).startswith(str(path)):
                print(f"{path}:", file=sys.stderr)
            print(known.render(), file=sys.stderr)
            code = code or known.code
    if code:
        raise typer.Exit(code)


def _peek(config: Config) -> str:
    """What can be told, and refused, without preparing data or compiling."""
    from aecli.data.dataset import peek

    experiment = config.experiment
    spec = peek(experiment.data)
    if spec is None:
        return f"{experiment.data.name}, not yet prepared: the model was not held against the images"
    return f"{experiment.data.name}, {_count(experiment, spec):,} parameters"


def _smoke(config: Config) -> str:
    import tempfile
    import time

    from aecli import runs
    from aecli.data.dataset import open_dataset, subset
    from aecli.progress import say
    from aecli.restored import load
    from aecli.sample import MODES, modes_of, write
    from aecli.train import train

    begun = time.monotonic()
    full = config.experiment
    dataset = subset(open_dataset(full.data, say), 2 * full.data.batch_size, 64)
    two = {"steps": 2, "epochs": None, "eval_every": 1, "checkpoint_every": None}
    experiment = full.model_copy(update={"train": full.train.model_copy(update=two)})
    with tempfile.TemporaryDirectory(prefix="aecli-smoke-") as folder:
        sizes = {split: len(dataset.split(split)) for split in ("train", "validation", "test")}
        data = {"name": full.data.name, "spec": dataset.spec._asdict(), "sizes": sizes, "fingerprint": dataset.fingerprint}
        from aecli.config import dump

        run = runs.create(Path(folder), "smoke", config.text, dump(experiment), {"data": data})
        with run.locked():
            train(experiment, run, dataset, _warn)
        trained = load(run, "last", _warn)
        _evaluate(run, trained, "test", dataset)
        modes = modes_of(trained.model)
        for mode in modes:
            write(run.path / "samples", mode, MODES[mode].show(trained, dataset.test, 4, 0))
    return f"{full.data.name}, 2 steps, eval, {', '.join(modes)} in {time.monotonic() - begun:.1f} s"


@app.command()
def variants(as_json: Json = False) -> None:
    """List the model families, what each can do and its settings."""
    from aecli.catalog import load
    from aecli.catalog import variants as names
    from aecli.core import abilities
    from aecli.tables import show_variants

    facts = [
        {
            "variant": name,
            "abilities": list(abilities(cls)),
            "summary": (sys.modules[cls.__module__].__doc__ or "").strip().splitlines()[0],
            "settings": {key: _plain(field.default) for key, field in cls.model_fields.items()},
        }
        for name in names()
        for cls in [load(name)]
    ]
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        show_variants(facts)


@data_app.command("list")
def data_list(every: Annotated[bool, typer.Option("--all", help="Also every name that TFDS knows.")] = False) -> None:
    """List data sets that are here, and where they are kept."""
    from aecli.tables import show_data

    show_data(every)


@data_app.command("prepare")
def data_prepare(
    name: Annotated[str, typer.Argument(help="digits, shapes, fashion_mnist, or any TFDS name.")],
    manual_dir: Annotated[str | None, typer.Option(help="A folder with the original files, instead of a download.")] = None,
) -> None:
    """Prepare and decode a data set now, for training without a network later. Prints where it is."""
    from aecli.config import Data, SettingError
    from aecli.data.dataset import cache_root, open_dataset
    from aecli.progress import say

    if name in ("folder", "npz"):
        raise UsageError(f"{name} needs no preparing: name it in a config with data.path")
    try:
        dataset = open_dataset(Data(name=name, manual_dir=manual_dir, batch_size=1), say)
    except SettingError as error:
        raise UsageError(error.text + (f": {error.label}" if error.label else ""), error.help) from None
    sizes = f"{len(dataset.train) + len(dataset.validation):,} train and {len(dataset.test):,} test images"
    say(f"{name}: {sizes} of {'x'.join(map(str, dataset.spec.shape))}, fingerprint {dataset.fingerprint[:12]}")
    print(cache_root())


def parameter_count(template: Any) -> int:
    """The number of weights in a state: leaves below a `params`, of however many networks."""
    from math import prod

    from aecli.checkpoint import leaves

    return sum(prod(leaf.shape) for path, leaf in leaves(template).items() if "params" in path.split("/"))


def device_kind() -> str:
    from aecli.mesh import local_devices

    return str(local_devices()[0].device_kind)


def _count(experiment: Any, spec: Any) -> int:
    from aecli.mesh import placement
    from aecli.train import state_template

    return parameter_count(state_template(experiment, spec, 10**6, placement(1)))


def _which(value: str) -> str:
    if value not in ("best", "last"):
        raise UsageError(f"--checkpoint {value}: there are best and last")
    return value


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool, type(None), list, tuple)) else str(value)


def main() -> None:
    # `--debug` may stand anywhere, also behind the verb.
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    app(arguments, prog_name="aecli")
