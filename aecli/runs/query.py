"""What is asked of many runs at once: facts, settings and numbers by name, and which runs are meant by `key=value`. What
is not asked for is not read. Imports no jax."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

from aecli.config import yamlfile
from aecli.errors import ConfigError, RunError, UsageError, did_you_mean
from aecli.runs import directory, labels, numbers
from aecli.runs.directory import UNREADABLE, Run, run_facts
from aecli.runs.records import Labels, Number, RunFile, StateFile

SPLITS = ("test", "validation")
"""Numbers are those of the first, unless a name begins with another: `validation.mse`."""
FACTS = (
    *("id", "state", "variant", "data", "step", "best", "best_step", "created", "name", "parameters", "seconds", "peak_bytes"),
    *("flop_per_step", "threads", "seed", "tags", "note", "damage"),
)
"""What is known of every run; None where it is not. `note` is what somebody wrote, `damage` what is wrong with the run."""
_SETTING = re.compile(r"\A\w+(\.\w+)+\Z")
_MISSING: Any = object()
_MOST_VALUE = 10_000
"""Letters of a value that are read as YAML; more are a text."""


def settings(run: Run) -> dict[str, Any]:
    """Every setting of a run's resolved config by its path, such as `model.beta`; `seed` stands alone. Raises RunError if the
    config cannot be read."""
    try:
        return dict(_flat(yamlfile.parse_quickly(run.resolved_config(), "config.resolved.yaml"), ""))
    except ConfigError as error:
        raise RunError(f"config.resolved.yaml of run {run.id} cannot be read: {error.message}") from None


def _flat(value: Any, path: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(path, _as_json(value))]
    blocks = cast("Mapping[str, Any]", value)
    return [pair for key, inner in blocks.items() for pair in _flat(inner, f"{path}.{key}" if path else key)]


def _as_json(value: Any) -> Any:
    """Sequences are tuples as they are read, and JSON has no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _as_json(inner) for key, inner in cast("dict[str, Any]", value).items()}
    return [_as_json(inner) for inner in cast("tuple[Any, ...]", value)] if isinstance(value, tuple) else value


class Known:
    """What is known of one run, each kind read when it is first asked for. What cannot be read is not known: `damage` says so."""

    def __init__(self, run: Run, info: RunFile | None = None) -> None:
        self.run, self._info = run, info
        self._wrong: str | None = None
        self._measured: dict[str, Mapping[str, Number]] = {}

    def get(self, key: str) -> Any:
        """The value of a fact, a setting or a number; None for what is known to be none, and for what is not known."""
        value = self._find(key)
        return None if value is _MISSING else value

    def has(self, key: str) -> bool:
        return self._find(key) is not _MISSING

    def every_key(self) -> list[str]:
        """All that can be asked for."""
        measured = [(split, name) for split in SPLITS for name in self._numbers(split)]
        return [*FACTS, *self._settings, *(name if split == SPLITS[0] else f"{split}.{name}" for split, name in measured)]

    def _find(self, key: str) -> Any:
        if key in FACTS:
            return self._fact(key)
        split, dot, name = key.partition(".")
        if dot and split in SPLITS:
            found = self._numbers(split).get(name)
        elif _SETTING.match(key) and key in self._settings:
            return self._settings[key]
        else:
            found = self._numbers(SPLITS[0]).get(key)
        return _MISSING if found is None else found.value

    def _fact(self, key: str) -> Any:
        if key == "seed":
            return self._settings.get(key)
        if key in ("tags", "note"):
            return getattr(self._labels[0], key)
        if key in ("name", "parameters", "threads"):
            return getattr(self._run_file, key, None)
        if key in ("seconds", "peak_bytes", "flop_per_step"):
            return getattr(self._state_file, key, None)
        return self.facts["note"] or self._labels[1] or self._wrong if key == "damage" else self.facts[key]

    @cached_property
    def facts(self) -> dict[str, Any]:
        return run_facts(self.run, self._info)

    @cached_property
    def _run_file(self) -> RunFile | None:
        if self._info is None and self.facts["state"] != UNREADABLE:
            return self.run.info()
        return self._info

    @cached_property
    def _state_file(self) -> StateFile | None:
        try:
            return self.run.recorded()
        except OSError:
            return None

    @cached_property
    def _settings(self) -> dict[str, Any]:
        try:
            return {} if self.facts["state"] == UNREADABLE else settings(self.run)
        except (RunError, OSError) as error:
            self._wrong = str(error)
            return {}

    @cached_property
    def _labels(self) -> tuple[Labels, str | None]:
        try:
            return labels.look(self.run)
        except OSError as error:
            return Labels(), f"{labels.FILE}: {(error.strerror or str(error)).lower()}"

    def _numbers(self, split: str) -> Mapping[str, Number]:
        if split not in self._measured:
            found: Mapping[str, Number] = {}
            if self._info is not None and self.facts["state"] != UNREADABLE:
                try:
                    found, _, wrong = numbers.read(self.run.path / "eval", split, self._info.identity)
                except OSError as error:
                    wrong = (error.strerror or str(error)).lower()
                if wrong is not None:
                    self._wrong = f"eval/{split}.json is not believed: {wrong}"
            self._measured[split] = found
        return self._measured[split]


def known(root: Path) -> list[Known]:
    """All runs below a folder, the newest first."""
    return [Known(*each) for each in reversed(directory.every_with_info(root))]


def select(root: Path, where: Sequence[str]) -> list[Run]:
    """The runs below a folder for which every condition holds, the newest first: `key=value`, or another of OPERATORS, of a fact,
    a setting or a number. Raises UsageError for what is no condition, and for a key that no run knows."""
    conditions = [condition(each) for each in where]
    return [each.run for each in matching(known(root), conditions)]


def matching(runs: Sequence[Known], conditions: Sequence[Condition]) -> list[Known]:
    """The runs for which every condition holds. Raises UsageError for a key that none of them knows."""
    check_keys(runs, [each.key for each in conditions])
    return [run for run in runs if all(each.holds(run) for each in conditions)]


def check_keys(runs: Sequence[Known], keys: Iterable[str]) -> None:
    """Raises UsageError for a key that no run knows, if there are runs."""
    for key in keys:
        if key not in FACTS and runs and not any(run.has(key) for run in runs):
            every = list(dict.fromkeys(name for run in runs for name in run.every_key()))
            shown = f"a fact ({', '.join(FACTS)}), a setting (model.beta) or a measured number (nll_nats, validation.mse)"
            raise UsageError(f"no run knows '{key}'", did_you_mean(key, every) or f"a key is {shown}")


class Condition(NamedTuple):
    """`text` is the value as it was given, `value` what it says as YAML."""

    key: str
    operator: str
    text: str
    value: Any

    def holds(self, run: Known) -> bool:
        """Whether a run knows the key, and its value compares so. Numbers are ordered by size, texts by their letters."""
        if not run.has(self.key):
            return False
        actual = run.get(self.key)
        if self.operator in ("=", "!="):
            holds = any(map(self._is, actual)) if self.key == "tags" else self._is(actual)
            return holds == (self.operator == "=")
        compare = OPERATORS[self.operator]
        if _is_number(actual) and _is_number(self.value):
            return bool(compare(actual, self.value))
        if not isinstance(actual, str) or (_is_number(self.value) and self.key not in FACTS):  # created>2026 means a text
            return False
        return bool(compare(actual, self.text))

    def _is(self, actual: Any) -> bool:
        """4 is 4.0, and 1 is not true."""
        if isinstance(actual, str) and actual == self.text:
            return True
        return isinstance(actual, bool) == isinstance(self.value, bool) and bool(actual == self.value)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **{"!=": operator.ne, "<=": operator.le, ">=": operator.ge},
    **{"=": operator.eq, "<": operator.lt, ">": operator.gt},
}
_CONDITION = re.compile(r"\A\s*(\S.*?)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*\Z", re.DOTALL)


def condition(text: str) -> Condition:
    """A condition as it is written. Raises UsageError if it is none."""
    match = _CONDITION.match(text)
    if match is None:
        raise UsageError(
            f"--where {text}: a condition is key=value, or with one of {' '.join(OPERATORS)}",
            "--where variant=vae, or --where 'model.beta>=4'",
        )
    return Condition(match[1], "=" if match[2] == "==" else match[2], match[3], _value(match[3]))


def _value(text: str) -> Any:
    """What a value says as YAML; what is no YAML is a text."""
    if len(text) > _MOST_VALUE:
        return text
    try:
        return _as_json(yamlfile.parse_value(text, "--where"))
    except ConfigError:
        return text


def ordered(runs: Sequence[Known], key: str) -> list[Known]:
    """The runs by a key, `-key` from the largest: numbers before texts, and those that have none last."""
    name = key.removeprefix("-")
    values = [(run, run.get(name)) for run in runs]
    numbers = [(run, value) for run, value in values if _is_number(value)]
    texts = [(run, str(value)) for run, value in values if value is not None and not _is_number(value)]
    groups = [sorted(group, key=lambda pair: pair[1], reverse=name != key) for group in (numbers, texts)]
    return [run for group in groups for run, _ in group] + [run for run, value in values if value is None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
