"""What a page tells of one run, from its folder alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aecli.config.values import called
from aecli.errors import RunError, printable
from aecli.measures.metric import best_of, verdict
from aecli.reports.charts import Bar, Series, bars, histogram, lines, steps
from aecli.reports.embedding import Picture, pictures
from aecli.reports.table import latex_text, number_text
from aecli.runs import commits, labels, numbers, provenance, query
from aecli.runs.directory import Run, run_facts
from aecli.runs.records import Number, RunFile
from aecli.system.arrays import read_arrays
from aecli.system.progress import duration
from aecli.system.reading import Unreadable

BASIC = ("version", "split", "step", "binarize", "seed", "batch", "fingerprint", "code")
"""Parts of a protocol that all numbers of a split have."""
ACTIVE_VARIANCE = 0.01
"""Of a latent's mean over images, from which on it counts as active (Burda et al. 2016, "Importance weighted autoencoders")."""
MOST_CHARTS = 8
MOST_BARS = 12
_RATE = "images_per_s"


class Fact(NamedTuple):
    """`alarm`: to be seen, as that a number may be of other code than the commit says."""

    label: str
    text: str
    alarm: bool = False


class Row(NamedTuple):
    """A number: texts for a table, and what was found beside a plain method."""

    evaluator: str
    name: str
    value: str
    error: str
    unit: str
    arrow: str
    plain: str
    verdict: str
    note: str


class Split(NamedTuple):
    """Numbers of a file of `eval/`: `protocol` is what they all have, `how` what those of an evaluator have beside it."""

    name: str
    rows: tuple[Row, ...]
    protocol: tuple[Fact, ...]
    how: tuple[Fact, ...]
    charts: tuple[str, ...]
    wrong: str | None


class About(NamedTuple):
    """What is known of a run from its variant's code: what it is, in a line, and what its model can do; nothing of a variant that
    cannot be loaded. `modes` are those that show it, with their help."""

    summary: str = ""
    abilities: tuple[str, ...] = ()
    modes: Mapping[str, str] = {}


class Page(NamedTuple):
    """All of it. `missing` are pairs of what there is not and the command that makes it."""

    id: str
    name: str
    state: str
    sentence: str
    summary: str
    notes: tuple[str, ...]
    tags: tuple[str, ...]
    splits: tuple[Split, ...]
    curves: tuple[str, ...]
    pictures: tuple[Picture, ...]
    captions: Mapping[str, str]
    structure: tuple[str, ...]
    provenance: tuple[Fact, ...]
    config: str
    cite: str
    missing: tuple[tuple[str, str], ...] = ()


def page(run: Run, split: str, about: About, missing: Sequence[tuple[str, str]] = ()) -> Page:
    """Numbers of `split` come first. Raises RunError if `run.json` or the config cannot be read, OSError as the system does."""
    info, facts = run.info(), run_facts(run)
    recorded, wrong = run.look()
    told, wrong_labels = labels.look(run)
    shown = pictures(run.path / "samples", list(about.modes))
    rows, damaged = run.read_rows()
    notes = [wrong or facts["note"], wrong_labels, *shown.wrong, told.note]
    notes.append(f"metrics.jsonl: {damaged:,} lines cannot be read, and are left out" if damaged else None)
    splits = [_split(run, name, info) for name in _names(run, split)]
    structure, unread = _structure(shown.pictures, about)
    batch = query.settings(run).get("data.batch_size")
    return Page(
        run.id,
        info.name,
        facts["state"] + (f" ({recorded.reason})" if recorded.reason else ""),
        _sentence(info, _data(run, info), facts["step"] or 0, recorded.seconds),
        about.summary,
        tuple(printable(note) for note in [*notes, *unread] if note),
        tuple(told.tags),
        tuple(splits),
        tuple(_curves(rows, batch)),
        shown.pictures,
        {each.asked: about.modes.get(each.mode, each.mode) for each in shown.pictures},
        tuple(structure),
        tuple(_provenance(run, info)),
        run.resolved_config(),
        _cite(run, info),
        tuple(missing),
    )


def _data(run: Run, info: RunFile) -> str:
    """What a person calls the data: own files by the name of their file or folder."""
    path = query.settings(run).get("data.path")
    return called(info.data.name, path if isinstance(path, str) else None)


def _sentence(info: RunFile, data: str, step: int, seconds: float | None) -> str:
    spec, sizes = info.data.spec, info.data.sizes
    size = f"{spec.height} by {spec.width} pixels" + (" in colour" if spec.channels == 3 else "")
    what = f"{spec.width} values" if spec.kind == "vector" else size
    classes = f" of {spec.classes} classes" if spec.classes else ""
    took = f" in {duration(seconds)}" if seconds else ""
    kind = "vectors" if spec.kind == "vector" else "images"
    return (
        f"A '{info.variant}' of {info.parameters:,} weights, trained for {step:,} steps{took} on the {sizes.train:,} train"
        f" {kind}{classes} of {printable(data)}, {what} each."
    )


def _names(run: Run, first: str) -> list[str]:
    """What is kept in `eval/`, the split that is asked for before all others."""
    names = sorted(path.stem for path in (run.path / "eval").glob("*.json") if not path.name.startswith("."))
    return sorted(names, key=lambda name: (name != first, name))


def _split(run: Run, name: str, info: RunFile) -> Split:
    stored = numbers.read(run.path / "eval", name, info.identity)
    found = stored.numbers
    alike = {key: of for key in BASIC if len(of := _of(found, key)) == 1}
    protocol = [Fact(key, printable(str(of[0])), key == "code") for key, of in alike.items()]
    how: list[Fact] = []
    for evaluator in dict.fromkeys(number.evaluator for number in found.values()):
        mine = {key: number for key, number in found.items() if number.evaluator == evaluator}
        keys = dict.fromkeys(key for number in mine.values() for key in number.protocol if key not in alike)
        texts = [f"{key} {', '.join(printable(str(value)) for value in _of(mine, key))}" for key in keys]
        sizes = ", ".join(f"{n:,}" for n in sorted({number.n for number in mine.values()}))
        how.append(Fact(evaluator, "; ".join([f"n {sizes}", *texts])))
    beside = [(key, number) for key, number in found.items() if number.baselines and number.value is not None]
    charts = [_bars(key, number) for key, number in beside[:MOST_BARS]]
    return Split(name, tuple(_rows(found)), tuple(protocol), tuple(how), tuple(charts), stored.wrong)


def _of(found: Mapping[str, Number], key: str) -> list[Any]:
    values: list[Any] = []
    for number in found.values():
        if key in number.protocol and number.protocol[key] not in values:
            values.append(number.protocol[key])
    return values


def _rows(found: Mapping[str, Number]) -> Iterator[Row]:
    for name, number in found.items():
        best = best_of(number.baselines, number.better)
        yield Row(
            number.evaluator,
            name,
            number_text(number.value),
            "" if number.standard_error is None else f"±{number.standard_error:.2g}",
            _unit(number.unit),
            {"lower": "↓", "higher": "↑"}.get(number.better or "", ""),
            "" if best is None else f"{best[0]}: {number_text(best[1])}",
            verdict(number) or "",
            number.note or "",
        )


def _unit(unit: str) -> str:
    return "" if unit == "1" else unit.replace("^2", "²")


def _bars(name: str, number: Number) -> str:
    assert number.value is not None
    arrow = {"lower": " (lower is better)", "higher": " (higher is better)"}.get(number.better or "", "")
    own = Bar("this run", number.value, number.standard_error, own=True)
    return bars(name + arrow, [own, *(Bar(plain, value) for plain, value in number.baselines.items())], _unit(number.unit))


def series(rows: Sequence[Any]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Of each value of training and of each split its steps and what it was there."""
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for row in rows:
        for name, value in row.values.items():
            if name != _RATE:
                x, y = found.setdefault(name, {}).setdefault(row.split, ([], []))
                x.append(row.step)
                y.append(value)
    return found


def _curves(rows: Sequence[Any], batch: Any) -> Iterator[str]:
    found = series(rows)
    for name, by_split in list(found.items())[:MOST_CHARTS]:
        drawn = [
            Series(split, x, y, dashed=len(x) < 3, colour=number)
            for number, (split, (x, y)) in enumerate(by_split.items())
            if len(x) > 1
        ]
        if drawn:
            yield lines(name, drawn, "step")
    clock = _clock(rows, batch)
    loss = found.get("loss", {}).get("train")
    if clock is not None and loss is not None and len(loss[0]) > 1:
        yield lines("loss over time", [Series("train", [clock[step] for step in loss[0]], loss[1])], "seconds of training")


def _clock(rows: Sequence[Any], batch: Any) -> dict[float, float] | None:
    """Seconds of training until the step of each row of it; of rows of older versions, which do not tell them, by the speeds that
    they tell; None where one tells neither."""
    seconds, clock = 0.0, dict[float, float]()
    for row in rows:
        if row.split == "train":
            rate, steps_of = row.values.get(_RATE), (row.model_extra or {}).get("steps")
            if row.seconds is not None:
                seconds = row.seconds
            elif rate and isinstance(steps_of, int) and isinstance(batch, int):
                seconds += steps_of * batch / rate
            else:
                return None
            clock[row.step] = seconds
    return clock or None


def _structure(shown: Sequence[Picture], about: About) -> tuple[list[str], list[str]]:
    """Charts of the codes that a picture of mode `map` keeps, and what is wrong with them."""
    kept = [each for each in shown if each.mode == "map"]
    if not kept:
        return [], []
    path = max(kept, key=lambda each: each.step).file.with_suffix(".npz")
    try:
        import numpy as np

        arrays = read_arrays(path)
        code = np.asarray(arrays["code"], np.float64)
        if code.ndim != 2 or not code.size or not np.isfinite(code).all():
            raise Unreadable("its codes are no table of numbers")
        variance = code.var(0)
        charts: list[str] = []
        if "infers" in about.abilities:
            active = int((variance > ACTIVE_VARIANCE).sum())
            title = f"{active} of {len(variance)} latents are active"
            below = "latents, by the variance of their means"
            charts.append(steps(title, variance, below, ACTIVE_VARIANCE, f"active above {ACTIVE_VARIANCE}"))
        else:
            charts.append(steps("spread of each latent", np.sqrt(variance), "latents, by their standard deviation"))
        if "active" in arrays:
            rate = np.asarray(arrays["active"], np.float64)
            silent = int((rate == 0).sum())
            title = f"{silent} of {len(rate)} units never active"
            if silent < len(rate):
                charts.append(histogram(title, np.log10(rate[rate > 0]), "log10 of the share of images that a unit is active on"))
        return charts, []
    except FileNotFoundError:
        return [], []
    except (Unreadable, KeyError, OSError, ValueError, TypeError) as error:
        return [], [f"{path.name} cannot be read: {error}"]


def _provenance(run: Run, info: RunFile) -> Iterator[Fact]:
    newest = commits.newest(run.checkpoints)
    git = info.git
    if newest is not None:
        yield Fact("checkpoint", f"step {newest.step:,}, SHA-256 {newest.seal}")
    if info.experiment is not None:
        yield Fact("config", f"SHA-256 {info.experiment}")
    yield Fact("data", f"{info.data.name}, SHA-256 {info.data.fingerprint}")
    doubles = ", ".join(f"{count:,} of {split}" for split, count in info.data.duplicates.items() if count)
    if doubles:
        yield Fact("duplicates", f"{doubles} are also train images", True)
    yield Fact("command", shlex.join(map(str, info.command)))
    dirty = git is not None and git.dirty
    commit = "not from a checkout" if git is None else git.commit
    yield Fact("commit", commit + (", with uncommitted changes" if dirty else ""), dirty)
    changed = provenance.code_now(info).changed
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        yield Fact("code", f"changed since: {', '.join(changed[:5])}{more}", True)
    if info.from_run is not None:
        yield Fact("from", f"{info.from_run.run} at step {info.from_run.step:,}")
    if info.sweep is not None:
        yield Fact("sweep", f"{info.sweep.id}, cell {info.sweep.cell}")
    if info.budget is not None:
        yield Fact("length", info.budget.told)
    yield Fact("created", info.created)
    yield Fact("devices", ", ".join(info.devices) + (f", {info.threads} threads" if info.threads else ""))
    yield Fact("system", info.platform)
    yield Fact("versions", ", ".join(f"{name} {version}" for name, version in info.versions.items() if version))


def _cite(run: Run, info: RunFile) -> str:
    """An entry for BibTeX."""
    newest = commits.newest(run.checkpoints)
    facts = [f"run {run.id}", f"aecli {info.versions.get('aecli') or '?'}"]
    facts += [f"config sha256:{info.experiment[:16]}"] if info.experiment else []
    facts += [f"data sha256:{info.data.fingerprint[:16]}"]
    facts += [f"checkpoint sha256:{newest.seal[:16]}"] if newest is not None else []
    return "\n".join(
        [
            f"@misc{{{run.id},",
            f"  title = {{{latex_text(f'{info.name}: {info.variant} trained on {_data(run, info)}')}}},",
            f"  year = {{{info.created[:4]}}},",
            f"  note = {{{latex_text(', '.join(facts))}}}",
            "}",
        ]
    )


def unreadable(run: Run, error: RunError | OSError) -> Page:
    """A page of a run that cannot be read: what is wrong, and nothing else."""
    message = error.message if isinstance(error, RunError) else str(error)
    return Page(run.id, run.id, "unreadable", "", "", (printable(message),), (), (), (), (), {}, (), (), "", "")
