"""`aecli report`: runs as one page to look at and to send on. With `make`, what is missing is drawn and measured first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aecli.errors import AecliError, RunError, StorageError
from aecli.evaluation.request import EvalRequest, check_measured, options_of
from aecli.reports import charts, facts
from aecli.reports.comparison import Comparison
from aecli.reports.facts import About, Page
from aecli.runs import numbers
from aecli.runs.directory import Run
from aecli.system.files import write_atomic
from aecli.verbs import compare as comparing
from aecli.verbs.telling import command


class Report(NamedTuple):
    """Where the page is, and what of it could not be made, each with why."""

    path: Path
    bytes: int
    failures: tuple[tuple[str, AecliError | OSError], ...]


class _Wanted(NamedTuple):
    """Something that a page shows, the command that makes it, and how it is made here."""

    what: str
    command: str
    make: Callable[[], object] | None


def report(
    runs: Sequence[Run],
    target: Path,
    *,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    make: bool = False,
    anyway: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Writes the page of a run, or of several side by side, to `target`. `make`: what can be drawn and measured of them is made
    first, where it is not there. `metrics` are those that stand in the table of several runs, all if none are named. A run of
    several that cannot be read has a box that says so.

    Raises UsageError if a package that it needs is not installed, RunError if the only run cannot be read or, without
    `anyway`, numbers were measured in different ways, StorageError if `target` is another file and not to be overwritten by
    `force`."""
    from aecli.reports import page as pages

    charts.check_installed()
    check_measured(split)
    if not runs:
        raise RunError("there is no run to report", "`aecli runs` lists them")
    runs = list({run.path.resolve(): run for run in runs}.values())
    _check_target(target, pages.MARK, force)

    def compared() -> Comparison:
        return comparing.compare(runs, split=split, metrics=metrics, anyway=anyway, skip_unreadable=runs)

    # What is refused is so before anything is drawn, unless that may be what there is to compare.
    comparison = compared() if len(runs) > 1 and not make else None
    failures: list[tuple[str, AecliError | OSError]] = []
    made: dict[str, Page] = {}
    whole = runs[: pages.MOST_WHOLE]
    for run in whole:
        try:
            about = _about(run)
            wanted = list(_wanted(run, split, about))
            if make:
                wanted = [each for each in wanted if not _made(run, each, failures, say)]
            made[run.id] = facts.page(run, split, about, [(each.what, each.command) for each in wanted])
        except (RunError, OSError) as error:
            if len(runs) == 1:
                raise
            failures.append((run.id, error))
            made[run.id] = facts.unreadable(run, error)
    if len(runs) == 1:
        [only] = made.values()
        text = pages.render(only.name, [only])
    else:
        comparison = comparison or compared()
        title = " and ".join(group.name for group in comparison.groups[:2]) if len(comparison.groups) == 2 else ""
        title = title or f"{len(runs)} runs in {len(comparison.groups)} groups"
        text = pages.render(title, list(made.values()), pages.beside(comparison, made), len(runs) - len(whole))
    content = text.encode("utf-8", "backslashreplace")
    try:
        write_atomic(target, content)
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(f"{target.parent} is no folder", "make it, or name another with -o") from None
    return Report(target, len(content), tuple(failures))


def _check_target(target: Path, mark: str, force: bool) -> None:
    if target.is_dir():
        raise StorageError(f"{target} is a folder", f"-o {target / 'report.html'}")
    if force or not os.path.lexists(target):
        return
    try:
        with target.open("rb") as file:
            begins = file.read(len(mark))
    except OSError:
        begins = b""
    if not begins.startswith(mark.encode()):
        raise StorageError(f"{target} is there and is no report", "-o another, or --force to overwrite it")


def _about(run: Run) -> About:
    """What the code of its variant tells; nothing where that cannot be loaded, which what is missing then says."""
    from aecli.config.variants import about
    from aecli.core.abilities import abilities
    from aecli.runs.trained import stored_experiment
    from aecli.sampling.modes import MODES, modes_of

    run.info()  # what cannot be read at all is no matter of the code
    try:
        model = stored_experiment(run).model
    except AecliError:
        return About(modes={name: mode.help for name, mode in MODES.items()})
    known = modes_of(model, run.info().data.spec.kind)
    return About(about(type(model)).summary, abilities(model), {name: MODES[name].help for name in known})


def _wanted(run: Run, split: str, about: About) -> Iterator[_Wanted]:
    """What is not there. A run without any number is measured by all evaluators that cost little, one that has some by what was
    asked for."""
    from aecli.reports.embedding import mode_of, newest
    from aecli.sampling.request import SampleRequest
    from aecli.verbs.evaluate import evaluate
    from aecli.verbs.sample import sample

    state = run.state()
    if state in ("interrupted", "crashed", "failed"):
        yield _Wanted("the rest of its training", command(run, "train", ["--resume", run.id]), None)
    if not run.recorded().step:
        return
    if not numbers.read(run.path / "eval", split, run.info().identity).numbers:
        held_out, *more = split.split("-")
        words = command(run, "eval", [run.id, *options_of(split)])
        make = None if more else lambda: evaluate(run, EvalRequest(held_out))
        yield _Wanted(f"numbers of the {split} split", words, make)
    shown = {(mode_of(asked), asked) for asked in newest(run.path / "samples")}
    for mode, help in about.modes.items():
        if not about.abilities:
            break
        requests = [SampleRequest(mode)] + ([SampleRequest(mode, projection="tsne")] if mode == "map" else [])
        for request in requests:
            flags = ["--projection", request.projection] if request.projection != SampleRequest().projection else []
            asked = "-".join([mode, *flags[1:]])
            if not any(of == mode and (name == asked or len(requests) == 1) for of, name in shown):
                words = command(run, "sample", [run.id, "--mode", mode, *flags])
                yield _Wanted(f"a picture of {help}", words, lambda request=request: sample(run, request))


def _made(run: Run, wanted: _Wanted, failures: list[tuple[str, AecliError | OSError]], say: Callable[[str], None]) -> bool:
    if wanted.make is None:
        return False
    say(f"{run.id}: {wanted.what}")
    try:
        wanted.make()
        return True
    except (AecliError, OSError) as error:
        failures.append((f"{run.id}: {wanted.what}", error))
        return False
