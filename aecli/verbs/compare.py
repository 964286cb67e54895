"""Puts the numbers of runs side by side, and tells how far they are apart and what may be said of it.
Imports no jax, but to say what measures a metric that no run has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aecli.errors import RunError, UsageError, closest, did_you_mean
from aecli.evaluation.request import HELD_OUT, EvalRequest, check_measured, is_against, options_of
from aecli.reports import judging, protocols
from aecli.reports import member as reading
from aecli.reports.comparison import Cell, Comparison, Metric, Missing, Pair, Pareto
from aecli.reports.groups import Group, differing, grouped, setting_text, spread, without_twins
from aecli.reports.judging import Judge, Key
from aecli.reports.member import COSTS, SEED, Member
from aecli.reports.plain import plain_methods
from aecli.reports.protocols import Conflict
from aecli.runs.directory import Run
from aecli.verbs.telling import command

_REQUEST = EvalRequest()


def compare(
    runs: Sequence[Run],
    *,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    by: str | None = None,
    baseline: Run | None = None,
    all_settings: bool = False,
    anyway: bool = False,
    pareto: Sequence[str] | None = None,
    intervals: bool | None = None,
    skip_unreadable: Sequence[Run] = (),
) -> Comparison:
    """Runs that differ in the seed alone, or that have an equal setting `by`, are a group. `metrics` are those that are shown,
    all if none are named; `pareto` names at least two metrics or costs. Each group is held against that of `baseline`, or the
    second of two against the first. Of more groups without a baseline differences are made only if `intervals` asks for them: of
    each and the first. `intervals=False` makes none, and reads no values of single images, so that groups of several runs have
    no error over images.

    A run that is given twice counts once. Numbers that are missing are told with the command that makes them.

    Raises RunError if a run cannot be read, but for those of `skip_unreadable`, which are then left out and told; if there is no
    run; and, without `anyway`, if numbers were measured in different ways. Raises UsageError for a split, a metric or a setting
    that is not there. `split` may also be what numbers on or against other data are kept as, as `test-against-0123456789ab`."""
    check_measured(split)
    notes: list[str] = []
    members = _read(_once(runs, baseline, notes.append), split, skip_unreadable, notes.append)
    for member in members:
        if member.wrong is not None:
            notes.append(f"eval/{split}.json of {member.id} is not believed: {member.wrong}; `aecli eval` measures anew")
        if member.state != "completed":
            notes.append(f"{member.id} is {member.state}, at step {member.step:,}")
        if member.of_step is not None:
            at = f"of step {member.of_step:,}, and it is at step {member.step:,} by now"
            notes.append(f"the numbers of {member.id} are {at}; `aecli eval` measures anew")
    members = without_twins(members, notes.append)
    found = grouped(members, by)
    for group in found:
        if group.varied:
            varied = _some(group.varied)
            notes.append(f"the runs of '{group.name}' differ in {varied} too: their spread is not over seeds alone")
    base = None if baseline is None else 0  # whose run, or the twin that stands for it, is the first
    pairs = _pairs(found, base, intervals, notes.append)
    every = _keys(members)
    shown = _chosen(every, metrics, split)
    asked = _pareto_keys(every, pareto, split)
    used = list(dict.fromkeys([*shown, *(key for key in asked if isinstance(key, tuple))]))
    clashes = _clashes(members, used)
    if clashes and not anyway:
        raise RunError(
            f"these numbers do not stand side by side, they were measured in different ways:\n{protocols.told(clashes)}",
            "measure anew alike with `aecli eval`, name others with --metric, or mark them with --anyway",
        )
    # Of a single run the error over images is known; of several it is that of their mean, image by image.
    of_images = members if pairs else [member for group in found if len(group.members) > 1 for member in group.members]
    values = {} if intervals is False else _values(of_images, split, shown, notes.append)
    # An area is better where it is larger, whichever objective it is by.
    neutral = () if is_against(split) else _differs_in_model(found)
    if neutral and any(evaluator == judging.OBJECTIVE for evaluator, _ in shown) and len(found) > 1:
        own = f"the objective is each model's own, and these differ in {_some(neutral)}"
        notes.append(f"{own}: none of its numbers is said to be better")
    notes += _reasons(members, shown)
    judge = Judge(found, pairs, values, bool(neutral), {name for clash in clashes for name in clash.metrics})
    rows = judge.rows(shown)
    costs = {name: tuple(_cost(group, name) for group in found) for name in COSTS}
    notes += _unequal(costs)
    front = None if pareto is None else _front(found, asked, judge, notes.append)
    settings = tuple(dict.fromkeys(key for member in members for key in member.settings if key != SEED))
    keys = settings if all_settings else differing(members)
    return Comparison(
        split=split,
        groups=tuple(found),
        settings={key: tuple(_setting(group, key) for group in found) for key in keys},
        metrics=rows,
        costs=costs,
        pairs=tuple(pairs),
        baseline=base,
        pareto=front,
        conflicts=tuple(clashes),
        missing=tuple(_missing(members, shown, split)),
        how=tuple(_how(rows)),
        notes=tuple(notes),
        plain=plain_methods(found, shown),
    )


def _once(runs: Sequence[Run], baseline: Run | None, say: Callable[[str], None]) -> list[Run]:
    """Each run once, by the folder that it is, and the baseline first, whether it is among them or not."""
    kept: dict[Path, Run] = {}
    for run in runs:
        place = run.path.resolve()
        if place in kept:
            say(f"{run.id} is given twice, and counts once")
        kept.setdefault(place, run)
    if baseline is not None:
        place = baseline.path.resolve()
        kept = {place: kept.pop(place, baseline), **kept}
    return list(kept.values())


def _read(runs: Sequence[Run], split: str, skipped: Sequence[Run], say: Callable[[str], None]) -> list[Member]:
    members: list[Member] = []
    for run in runs:
        try:
            members.append(reading.read(run, split))
        except (RunError, OSError) as error:
            if run not in skipped:
                raise
            say(f"{run.id} is left out: {error.message if isinstance(error, RunError) else error}")
    if not members:
        raise RunError("there is no run to compare", "`aecli runs` lists them")
    return members


def _pairs(found: Sequence[Group], base: int | None, wanted: bool | None, say: Callable[[str], None]) -> list[Pair]:
    if len(found) < 2 or wanted is False:
        return []
    if base is not None or len(found) == 2:
        return [Pair(0, other) for other in range(1, len(found))]
    if wanted:
        say(f"each group is held against the first, '{found[0].name}'; --baseline names another")
        return [Pair(0, other) for other in range(1, len(found))]
    say("more than two groups: --baseline RUN holds each against that one, --intervals against the first")
    return []


def _keys(members: Sequence[Member]) -> list[Key]:
    """Every metric of any run, those of an evaluator together, in the order in which they are measured."""
    by_evaluator: dict[str, dict[Key, None]] = {}
    for member in members:
        for name, number in member.numbers.items():
            by_evaluator.setdefault(number.evaluator, {})[number.evaluator, name] = None
    return [key for keys in by_evaluator.values() for key in keys]


def _chosen(every: Sequence[Key], wanted: Sequence[str] | None, split: str) -> list[Key]:
    """The metrics of these names, all if none are given. A name may hold a comma, as that of a corruption does."""
    if wanted is None:
        return list(every)
    known = dict.fromkeys(name for _, name in every)
    names = [one for text in wanted for one in ([text] if text in known else _split(text))]
    if not names:
        raise UsageError("--metric names no metric", "--metric mse,nll_nats")
    for name in names:
        if name not in known:
            raise UsageError(f"no run has a metric '{name}' of the {split} split", _known(name, known, split))
    return [key for key in every if key[1] in names]


def _split(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _known(name: str, known: Iterable[str], split: str) -> str:
    from aecli.evaluation.registry import EVALUATORS, measuring

    names = list(known)
    measures = " ".join(["aecli eval RUN", *options_of(split)])
    if split in HELD_OUT and (evaluator := measuring(name)) is not None:
        return f"`{measures} --only {evaluator}` measures it, where the variant can be measured so"
    if near := did_you_mean(name, names):
        return near
    declared = [metric for each in EVALUATORS.values() for metric in each.metrics]
    if split in HELD_OUT and (close := closest(name, declared)) is not None:
        return f"did you mean '{close}'? `{measures} --only {measuring(close)}` measures it"
    return f"there are: {', '.join(names)}" if names else f"`{measures}` measures them"


_WAYS = ("lower", "higher")
SLACK = 0.05
"""The share by which budgets of training may differ and pass for equal."""


def _pareto_keys(every: Sequence[Key], wanted: Sequence[str] | None, split: str) -> dict[Key | str, str | None]:
    """Metrics by evaluator and name, costs by their name; of each the way that is better, where it is named: `l0:lower`."""
    if wanted is None:
        return {}
    known = {**{name: (evaluator, name) for evaluator, name in reversed(every)}, **{name: name for name in COSTS}}
    asked: dict[Key | str, str | None] = {}
    for each in (one for text in wanted for one in ([text] if text in known else _split(text))):
        name, _, way = each.rpartition(":")
        name, way = (name, way) if way in _WAYS else (each, None)
        if name not in known:
            raise UsageError(f"--pareto {name}: there is no such metric or cost", _known(name, known, split))
        asked[known[name]] = way
    if len(asked) < 2:
        raise UsageError("--pareto needs two names", "--pareto nll_nats,seconds")
    return asked


def _clashes(members: Sequence[Member], keys: Sequence[Key]) -> list[Conflict]:
    """Also of runs without numbers, which were trained on other data."""
    found: list[Conflict] = []
    on: dict[str, list[str]] = {}
    for member in members:
        on.setdefault(member.measured_on, []).append(member.id)
    if len(on) > 1:
        names = tuple(name for _, name in keys)
        found.append(Conflict("fingerprint", tuple((value, tuple(ids)) for value, ids in on.items()), names or ("the data",)))
    for evaluator, name in keys:
        numbers = {m.id: number for m in members if (number := m.number(evaluator, name)) is not None}
        found += [clash for clash in protocols.conflicts(name, numbers) if len(on) < 2 or clash.key != "fingerprint"]
    return protocols.joined(found)


def _values(
    members: Sequence[Member], split: str, keys: Sequence[Key], say: Callable[[str], None]
) -> Mapping[str, Mapping[str, Any]]:
    return {member.id: reading.values(member, split, keys, say) for member in members}


def _reasons(members: Sequence[Member], keys: Sequence[Key]) -> list[str]:
    """Why numbers have no value: a line a reason."""
    alike: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for evaluator, name in keys:
        for member in members:
            number = member.number(evaluator, name)
            if number is not None and number.value is None:
                metrics, runs = alike.setdefault(number.note or "it has no value", ({}, {}))
                metrics[name] = runs[member.id] = None
    return [
        f"no {_some(list(metrics))} of {next(iter(runs)) if len(runs) == 1 else f'{len(runs):,} runs'}: {note}"
        for note, (metrics, runs) in alike.items()
    ]


def _differs_in_model(found: Sequence[Group]) -> tuple[str, ...]:
    """The settings of the model in which the groups, or the runs of one, differ."""
    every = [member for group in found for member in group.members]
    return tuple(key for key in differing(every) if key.startswith("model."))


def _unequal(costs: Mapping[str, Sequence[Cell]]) -> list[str]:
    """What is to be known where groups had unequal budgets of training."""
    means = {name: [cell.spread.value for cell in costs[name] if cell.spread is not None] for name in ("images", "flop")}
    apart = [name for name, found in means.items() if len(found) > 1 and max(found) > (1 + SLACK) * min(found)]
    if not apart:
        return []
    spans = [f"{min(means[name]):.3g} to {max(means[name]):.3g} {COSTS[name].title}" for name in apart]
    return [f"unequal budgets of training: {' and '.join(spans)}; train.steps or train.flop make them alike"]


def _cost(group: Group, name: str) -> Cell:
    by_run = {member.id: cost for member in group.members if (cost := member.costs[name]) is not None}
    return Cell(spread(list(by_run.values())), by_run)


def _setting(group: Group, key: str) -> str:
    return ", ".join(dict.fromkeys(setting_text(member.settings, key) for member in group.members))


def _front(found: Sequence[Group], asked: Mapping[Key | str, str | None], judge: Judge, say: Callable[[str], None]) -> Pareto:
    """Raises UsageError for a metric of which no way is better and none is named, or the other one is."""
    names = tuple(key if isinstance(key, str) else key[1] for key in asked)
    points: dict[int, list[float]] = {}
    signs: list[float] = []
    for (key, way), name in zip(asked.items(), names, strict=True):
        better = "lower" if isinstance(key, str) else judge.better(key)
        if better is None and way is None:
            message = f"--pareto {name}: of these runs neither lower nor higher values of it are better"
            raise UsageError(message, f"name another, or say which you prefer: {name}:lower")
        if better is not None and way not in (None, better):
            raise UsageError(f"--pareto {name}:{way}: {better} values of it are better", f"--pareto {name}")
        signs.append(1.0 if (better or way) == "lower" else -1.0)
    for at, group in enumerate(found):
        cells = [_cost(group, key) if isinstance(key, str) else judge.cells(key)[at] for key in asked]
        point = [cell.spread.value for cell in cells if cell.spread is not None]
        if len(point) == len(asked):
            points[at] = [sign * value for sign, value in zip(signs, point, strict=True)]
        else:
            lacking = [name for name, cell in zip(names, cells, strict=True) if cell.spread is None]
            say(f"'{group.name}' has no {_some(lacking)}: left out of --pareto")
    best = [at for at, point in points.items() if not any(_dominates(other, point) for other in points.values())]
    return Pareto(names, tuple(best), tuple(at for at in range(len(found)) if at not in points))


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def _missing(members: Sequence[Member], keys: Sequence[Key], split: str) -> list[Missing]:
    """A run that an evaluator has measured has all that there is of it; of another the evaluator's metrics are missing."""
    evaluators: dict[str, list[str]] = {}
    for evaluator, name in keys:
        evaluators.setdefault(evaluator, []).append(name)
    done = {m.id: {number.evaluator for number in m.numbers.values()} for m in members}
    variants = {(m.settings.get("model.variant"), evaluator) for m in members for evaluator in done[m.id]}
    if not evaluators:
        return [Missing(m.id, ("numbers",), _command(m, split, (), members), True) for m in members]
    found: list[Missing] = []
    for member in members:
        lacking = [evaluator for evaluator in evaluators if evaluator not in done[member.id]]
        for certain in (True, False):
            these = [e for e in lacking if ((member.settings.get("model.variant"), e) in variants) == certain]
            if these:
                names = tuple(name for evaluator in these for name in evaluators[evaluator])
                found.append(Missing(member.id, names, _command(member, split, these, members), certain))
    return found


def _command(member: Member, split: str, evaluators: Sequence[str], members: Sequence[Member]) -> str:
    """What measures a run as the others were."""
    words = [member.id, *options_of(split)]
    words += ["--only", ",".join(evaluators)] if evaluators else []
    for evaluator, key, flag, usual in (
        ("likelihood", "samples", "--importance-samples", _REQUEST.samples),
        ("generation", "draws", "--draws", _REQUEST.draws),
        ("augmentation", "per_class", "--per-class", _REQUEST.per_class),
    ):
        of = [n.protocol.get(key) for m in members for n in m.numbers.values() if n.evaluator == evaluator]
        asked = next((value for value in of if isinstance(value, int)), usual)
        words += [flag, str(asked)] if evaluator in evaluators and asked != usual else []
    return command(member.run, "eval", words)


def _how(rows: Sequence[Metric]) -> list[str]:
    found = [each for row in rows for each in row.found if each is not None]
    tests = sum(each.corrected is not None for each in found)
    lines: list[str] = []
    if tests:
        holm = f", corrected by Holm for the {tests} tests of this table" if tests > 1 else ""
        lines.append(f"intervals over seeds: 95 %, Welch's t on the seeds' means; verdicts by its p{holm}, at 0.05")
    if any(each.difference.over == "images" for each in found):
        lines.append(
            "where a side has one seed: 95 % interval over images, image by image, of these trained models alone;"
            " what other seeds would give is not known"
        )
    return lines


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
