"""aecli from Python: what `import aecli` offers. This file, `handle.py` and the run folder are the public promise;
`docs/python.md` and `docs/run-folder.md` describe both. Reading small files needs no jax, which is imported when a model is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from aecli.errors import UsageError, told
from aecli.handle import Checkpoint, Number, Split, TrainedRun, run_of
from aecli.runs import directory
from aecli.runs.directory import Run

if TYPE_CHECKING:
    from aecli.reports.comparison import Comparison

__all__ = ["Number", "Split", "SweepResult", "TrainedRun", "compare", "frame", "list_runs", "load", "report", "sweep", "train"]

RunName: TypeAlias = str | os.PathLike[str] | TrainedRun


@told
def load(
    run: RunName = "last", *, runs_dir: str | os.PathLike[str] | None = None, checkpoint: Checkpoint | str = "best"
) -> TrainedRun:
    """A run by its id, the start of one, `last`, or the path of its folder. `runs_dir` is AECLI_RUNS_DIR or `runs` if it is not
    given. `checkpoint`: the best by validation, the last, or the number of a step. Raises RunError if there is no such run."""
    if isinstance(run, TrainedRun):
        return TrainedRun(run.path, checkpoint)
    text = os.fspath(run)
    if isinstance(run, str) and os.sep not in text:
        return TrainedRun(directory.find(_root(runs_dir), text).path, checkpoint)
    path = Path(os.path.abspath(os.path.expanduser(text)))
    return TrainedRun(directory.find(path.parent, path.name).path, checkpoint)


@told
def train(
    config: str | os.PathLike[str] | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    start_from: RunName | None = None,
    freeze: Sequence[str] = (),
    runs_dir: str | os.PathLike[str] | None = None,
) -> TrainedRun:
    """Trains a new run to its end. `config` is the path of a YAML file, or its blocks as a dict, which is written to the run's
    `config.yaml`; `overrides` are settings by their path, `{"train.epochs": 2}`. It starts from the weights of the best
    checkpoint of `start_from`, as far as they fit; parts of the network that `freeze` names stay as they start. Progress goes to
    stderr.

    Ctrl-C, SIGTERM and SIGHUP save the run at the next step; then the signal is raised again, so that Ctrl-C ends in a
    KeyboardInterrupt and `load("last").resume()` goes on. In another thread than the main one no signal is heeded."""
    from aecli.config.load import load as load_config
    from aecli.config.load import parse
    from aecli.config.values import as_config, as_flags
    from aecli.data.sources.registry import check_name
    from aecli.system.again import signalled_again
    from aecli.system.compile_cache import kept_programs
    from aecli.system.folders import cache_root
    from aecli.system.progress import say
    from aecli.verbs import train

    sets = as_flags({**(overrides or {}), **({"optimizer.freeze": list(freeze)} if freeze else {})})
    if isinstance(config, Mapping):
        loaded = parse(as_config(config), "config", sets, check_name).beside(Path(), say)
        stem = loaded.experiment.model.variant
    else:
        path = Path(os.path.expanduser(os.fspath(config)))
        loaded, stem = load_config(path, sets, check_name), path.stem
    with kept_programs(cache_root()):
        source = None if start_from is None else run_of(load(start_from, runs_dir=runs_dir).path)
        return TrainedRun(signalled_again(lambda: train.start(loaded, sets, name or stem, _root(runs_dir), source)).path)


@told
def list_runs(
    where: Mapping[str, Any] | Sequence[str] | None = None, *, runs_dir: str | os.PathLike[str] | None = None
) -> list[TrainedRun]:
    """The runs below a folder, the newest first, for which every condition holds: settings and facts by name, `{"variant": "vae",
    "model.beta": 4}`, or conditions as of `aecli runs --where`. One that cannot be read is among them, with the state
    `unreadable`; to use it raises what is wrong."""
    from aecli.config.values import as_text
    from aecli.runs.query import select

    if isinstance(where, str):
        where = [where]
    conditions = [f"{key}={as_text(key, value)}" for key, value in where.items()] if isinstance(where, Mapping) else where
    return [TrainedRun(run.path) for run in select(_root(runs_dir), list(conditions or ()))]


@told
def compare(
    runs: Iterable[RunName],
    *,
    baseline: RunName | None = None,
    runs_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Comparison:
    """Runs beside each other, as `aecli compare` has them: print it, or take `as_json()`. With a `baseline` every other group is
    held against that run's. `options` are those of `aecli.verbs.compare.compare`: split, metrics, by, all_settings, anyway,
    pareto, intervals. Raises RunError if their numbers may not stand side by side."""
    from aecli.verbs.compare import compare as beside

    first = None if baseline is None else run_of(load(baseline, runs_dir=runs_dir).path)
    return beside([run_of(each.path) for each in _each(runs, runs_dir)], baseline=first, **options)


@told
def report(
    runs: RunName | Iterable[RunName],
    path: str | os.PathLike[str] = "report.html",
    *,
    runs_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Path:
    """Writes the page of a run, or of several side by side, as `aecli report` does (docs/report.md); returns where it is.
    `options` are those of `aecli.verbs.report.report`: split, metrics, make, anyway, force. Raises UsageError if
    `aecli[report]` is not installed, and the first error of what could not be made, after the page is written."""
    from aecli.system.progress import say
    from aecli.verbs.report import report as page_of

    if isinstance(runs, str | os.PathLike | TrainedRun):
        runs = [runs]
    made = page_of(
        [run_of(each.path) for each in _each(runs, runs_dir)], Path(os.path.expanduser(os.fspath(path))), say=say, **options
    )
    for _, error in made.failures:
        raise error
    return made.path


class SweepResult(NamedTuple):
    """`runs` in the order of the cells, those that are there. `states` are those of all cells: `completed`, `diverged`, ...;
    `code` is 0 if all is done, 6 if a cell diverged, else the exit code of the first that failed. `chosen`: the runs that a
    `select` chose on validation, the only ones that were measured on test."""

    id: str
    path: Path
    runs: list[TrainedRun]
    states: list[str]
    code: int
    chosen: list[TrainedRun]


@told
def sweep(
    config: str | os.PathLike[str],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    zipped: Mapping[str, Sequence[Any]] | None = None,
    seeds: int | Sequence[int] | None = None,
    overrides: Mapping[str, Any] | None = None,
    evaluate: bool | Sequence[str] = False,
    select: str | None = None,
    jobs: int = 1,
    threads: int | None = None,
    name: str | None = None,
    runs_dir: str | os.PathLike[str] | None = None,
) -> SweepResult:
    """Trains a config in many ways, as `aecli sweep` does (docs/sweep.md): every combination of the values of `grid` and of those
    of `zipped`, which vary together, each with `seeds` seeds from the config's own on, or these; `jobs` at once in processes of
    their own. `evaluate` measures each on test, by all evaluators that fit or those named; `select` names the metric by which the
    best is chosen on validation, and then measured on test alone. Raises ConfigError for what is wrong with any cell, before
    the first begins. What becomes of cells is told by `states` and `code`, not by an error."""
    from aecli.config.values import as_flags, as_text
    from aecli.sweeps.api import start
    from aecli.sweeps.asked import from_flags
    from aecli.sweeps.flow import Watch
    from aecli.system.progress import say

    def lists(varied: Mapping[str, Sequence[Any]] | None) -> list[str]:
        return [f"{key}={', '.join(as_text(key, value) for value in values)}" for key, values in (varied or {}).items()]

    measured = () if evaluate is True else tuple(evaluate or ())
    if evaluate is not False and evaluate is not True and not measured:
        raise UsageError("an empty list of evaluators measures nothing", "evaluate=True measures by all that fit")
    asked = from_flags(
        Path(os.path.expanduser(os.fspath(config))),
        as_flags(overrides),
        lists(grid),
        lists(zipped),
        seeds if isinstance(seeds, int) else None,
        None if seeds is None or isinstance(seeds, int) else ",".join(map(str, seeds)),
        only=None if evaluate is False else measured,
        select=select,
        threads=threads,
        name=name,
    )
    done = start(asked, _root(runs_dir), jobs, watch=Watch(say))
    group = None if done.selected is None else done.selected.group
    chosen = [state.run_id for state in done.states if state.cell.group == group]
    runs = [TrainedRun(run.path) for run in done.runs]
    states = [state.state for state in done.states]
    return SweepResult(done.id, done.path, runs, states, done.code, [run for run in runs if run.id in chosen])


@told
def frame(runs: RunName | Iterable[RunName] | None = None, *, split: str = "test", runs_dir: Any = None) -> Any:
    """A pandas DataFrame, one row a run: `id`, `state`, `variant`, `step`, what it cost (`parameters`, `seconds`, `peak_bytes`,
    `flop_per_step`), every setting by its path (`model.beta`), and every number of a split by its name. All runs if none are
    given. Raises UsageError where pandas is not installed."""
    from importlib import import_module

    from aecli.evaluation.request import check_measured
    from aecli.verbs.frame import row

    check_measured(split)
    try:
        pandas: Any = import_module("pandas")  # which has types only where it is installed
    except ImportError:
        raise UsageError("pandas is not installed, and frame needs it", "pip install 'aecli[frame]'") from None
    each = list_runs(runs_dir=runs_dir) if runs is None else _each(runs, runs_dir)
    return pandas.DataFrame([row(Run(one.path), split) for one in each])


def _each(runs: RunName | Iterable[RunName], runs_dir: Any) -> list[TrainedRun]:
    """Runs by whatever names them."""
    named = [runs] if isinstance(runs, str | os.PathLike | TrainedRun) else runs
    return [each if isinstance(each, TrainedRun) else load(each, runs_dir=runs_dir) for each in named]


def _root(runs_dir: str | os.PathLike[str] | None) -> Path:
    """Where run folders live, as the command line has it."""
    return Path(os.path.expanduser(runs_dir)) if runs_dir is not None else Path(os.environ.get("AECLI_RUNS_DIR") or "runs")
