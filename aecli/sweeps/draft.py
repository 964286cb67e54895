"""From what a sweep is asked for to its cells: every combination as a valid config, with all mistakes of all of them at once."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, cast

from aecli.config import yamlfile
from aecli.config.explain import Override
from aecli.config.load import Config, combine, override_of
from aecli.config.schema import Experiment
from aecli.config.yamlfile import Document
from aecli.errors import (
    AecliError,
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    Diagnostic,
    RunError,
    SettingError,
    StorageError,
    UsageError,
)
from aecli.sweeps.asked import MOST_SEED, Asked, Place, Value

MOST_CELLS = 100_000
_WHERE_DATA_LIES = ("path", "manual_dir")
_KINDS = {kind.code: kind for kind in (DataError, RunError, CheckpointError, StorageError, DeviceError)}


class Group(NamedTuple):
    """The cells that differ in the seed alone: the flags that make them of the config, but for the seed, and those among them
    that vary in the sweep."""

    number: int
    config: Config
    flags: tuple[str, ...]
    varied: tuple[str, ...]

    @property
    def label(self) -> str:
        return " ".join(self.varied)


class Draft(NamedTuple):
    """A sweep that could be: `text` is that of the config."""

    asked: Asked
    text: str
    groups: tuple[Group, ...]
    seeds: tuple[int, ...]
    mistakes: Mistakes

    @property
    def cells(self) -> int:
        return len(self.groups) * len(self.seeds)


class Mistakes:
    """What is wrong with groups. Each mistake is told once, where it was made; what is wrong only with some combinations of a
    value names the first of them."""

    def __init__(self, known: Sequence[Diagnostic] = ()) -> None:
        self._known = list(known)
        self._found: dict[tuple[str, ...], tuple[Diagnostic, int, list[str]]] = {}
        self._places: dict[str, Place] = {}
        self._users: dict[str, int] = {}
        self._groups = 0

    def use(self, values: Mapping[str, Place]) -> None:
        """Notes the flags of a group, each with its place."""
        self._groups += 1
        self._places |= values
        for flag in values:
            self._users[flag] = self._users.get(flag, 0) + 1

    def add(self, error: AecliError, label: str, flag: str = "") -> None:
        """What is wrong with the group of this label; `flag` is what made it, if no setting did."""
        if isinstance(error, ConfigError):
            found = error.diagnostics
        else:
            found = [Diagnostic(flag or label or "the config", 0, 0, "unsuitable", error.message, help=error.help or "")]
        for diagnostic in found:
            key = (
                diagnostic.rule,
                diagnostic.message,
                diagnostic.file.partition("=")[0],
                f"{diagnostic.line}:{diagnostic.column}",
            )
            _, _, labels = self._found.setdefault(key, (diagnostic, error.code, []))
            labels.append(label)

    def check(self) -> None:
        """Raises the mistakes that were found, all of them, if there are any: ConfigError if one is in what was asked for."""
        told = [(self._tell(diagnostic, labels), code) for diagnostic, code, labels in self._found.values()]
        codes = {code for _, code in told}
        if not told and not self._known:
            return
        if len(codes) == 1 and not self._known and (kind := _KINDS.get(min(codes))):
            first, *others = (diagnostic for diagnostic, _ in told)
            more = "".join(f"\n{other.file}: {other.message}" for other in others)
            raise kind(f"{first.file}: {first.message}{more}", first.help or None)
        raise ConfigError([*self._known, *(diagnostic for diagnostic, _ in told)])

    def _tell(self, found: Diagnostic, labels: Sequence[str]) -> Diagnostic:
        place = self._places.get(found.file) if not found.line else None
        told = found if place is None else place(found.rule, found.message, found.label, found.help)
        if len(labels) >= self._users.get(found.file, self._groups) or labels[0] in (told.file, ""):
            return told
        where = f"of {labels[0]}" + (f", and {len(labels) - 1:,} more combinations" if len(labels) > 1 else "")
        return told._replace(message=f"{told.message} ({where})")


def count(asked: Asked) -> int:
    """The cells of a sweep, if no two are equal. Raises UsageError for more than any sweep has."""
    seeds = asked.seeds if isinstance(asked.seeds, int) else len(asked.seeds or (0,))
    cells = prod(len(axis.rows) for axis in asked.axes) * seeds
    if cells > MOST_CELLS:
        raise UsageError(f"{cells:,} cells: a sweep has at most {MOST_CELLS:,}", "vary fewer settings at once")
    return cells


def draft(asked: Asked, share: int | None, say: Callable[[str], None]) -> Draft:
    """Every combination of what varies. `share` is how many cores a cell gets, if they are shared and nothing else was said;
    `say` is told once of what is found in more than one place, and of cells that are equal. Raises ConfigError if nothing can
    be made of the config; see `Mistakes.check` for the rest."""
    text = yamlfile.read_text(asked.config)
    document = yamlfile.parse(text, str(asked.config))
    seeds = _seeds(asked)
    mistakes = Mistakes(asked.problems)
    parsed: dict[int, Override | None] = {}

    def override(value: Value, key: str = "") -> Override | None:
        """Parsed once for all groups; None if it cannot be, which is told once."""
        if id(value) not in parsed:
            try:
                parsed[id(value)] = override_of(f"{key}={value.text}" if key else value.text)
            except ConfigError as error:
                parsed[id(value)] = None
                mistakes.add(error, "")
        return parsed[id(value)]

    common = [each for each in map(override, asked.sets) if each is not None]
    threads = _threads(asked, document, share)
    if threads is not None:
        common.append(override_of(f"train.threads={threads}"))
    say_once = _once(say)
    groups: list[Group] = []
    known: dict[str, Group] = {}
    for rows in itertools.product(*(axis.rows for axis in asked.axes)):
        pairs = [
            (key, value) for axis, row in zip(asked.axes, rows, strict=True) for key, value in zip(axis.keys, row, strict=True)
        ]
        varied = [(override(value, key), value) for key, value in pairs]
        sound = [(each, value) for each, value in varied if each is not None]
        overrides = [*common, *(each for each, _ in sound)]
        if seeds:
            overrides.append(override_of(f"seed={seeds[0]}"))
        mistakes.use({each.flag: value.place for each, value in sound})
        flags = tuple(f"{key}={value.text}" for key, value in pairs)
        label = " ".join(flags)
        try:
            config = combine(text, document, overrides).beside(asked.config.parent, say_once)
        except (ConfigError, DataError) as error:
            mistakes.add(error, label)
            continue
        key = full_key(config.experiment)
        if key in known:
            say(f"{label} is the same as {known[key].label or 'the config'}: trained once")
            continue
        base = tuple(value.text for value in asked.sets) + (() if threads is None else (f"train.threads={threads}",))
        known[key] = Group(len(groups) + 1, config, base + flags, flags)
        groups.append(known[key])
    if groups and not seeds:
        first = groups[0].config.experiment.seed
        many = asked.seeds if isinstance(asked.seeds, int) else 1
        if first + many > MOST_SEED:
            raise UsageError(
                f"{many:,} seeds from the config's seed {first} on are more than there are", "name them by --seed-list"
            )
        seeds = tuple(range(first, first + many))
    return Draft(asked, text, tuple(groups), seeds, mistakes)


def _seeds(asked: Asked) -> tuple[int, ...]:
    return asked.seeds if isinstance(asked.seeds, tuple) else ()


def _threads(asked: Asked, document: Document, share: int | None) -> int | None:
    """The cores that cells are told to take: as was asked, or the share where neither the config nor a flag says anything."""
    said = document.data.get("train") if isinstance(document.data, dict) else None
    flags = [value.text.partition("=")[0].strip() for value in asked.sets] + [key for axis in asked.axes for key in axis.keys]
    if asked.threads is not None:
        return asked.threads
    if any(flag in ("train", "train.threads") for flag in flags):
        return None
    return None if isinstance(said, dict) and cast("dict[str, Any]", said).get("threads") is not None else share


def _once(say: Callable[[str], None]) -> Callable[[str], None]:
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    return once


def located(config: Config, error: AecliError) -> AecliError:
    """The same error at its place in the config, or at the flag that made it."""
    try:
        with config.locating():
            raise error
    except AecliError as found:
        return found


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    return experiment.model_copy(update={"seed": seed})


def full_key(experiment: Experiment) -> str:
    """All that a config says but for the seed."""
    return json.dumps({key: value for key, value in experiment.model_dump().items() if key != "seed"}, sort_keys=True)


def held_key(experiment: Experiment) -> str:
    """What decides whether the data can be had, the model serves it, and a budget of operations is enough for a step."""
    blocks = experiment.model_dump()
    train = blocks["train"]
    return json.dumps([blocks["data"], blocks["model"], train["monitor"], train["patience"], train["flop"]], sort_keys=True)


def config_hash(blocks: Mapping[str, Any]) -> str:
    """The SHA-256 of a whole config as it is read or dumped, wherever its data lies: that may be moved, and the fingerprint knows
    it."""
    data = {key: value for key, value in blocks["data"].items() if key not in _WHERE_DATA_LIES}
    return hashlib.sha256(json.dumps({**blocks, "data": data}, sort_keys=True).encode()).hexdigest()


def rebuilt(text: str, name: str, folder: Path, flags: Sequence[str]) -> Config:
    """The config of a cell, from the text that the sweep keeps; `folder` is where the config was. Raises ConfigError and
    DataError as `load` does."""
    return combine(text, _parsed(text, name), [override_of(flag) for flag in flags]).beside(folder, lambda line: None)


@lru_cache(maxsize=2)
def _parsed(text: str, name: str) -> Document:
    return yamlfile.parse(text, name)


def error_of(code: int, message: str, help: str | None) -> AecliError:
    """An error of its parts, which is what a process can tell another one."""
    return _KINDS.get(code, UsageError)(message, help)


def setting_error(parts: Sequence[Any]) -> SettingError:
    """The same of a SettingError."""
    path, rule, message, label, help = parts
    return SettingError(tuple(path), rule, message, label, help)
