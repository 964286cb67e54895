"""A config: the YAML file and `--set` flags of one experiment, validated as a whole, every mistake with its position."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import (
    ValidationError,
)

from aecli.config import yamlfile
from aecli.config.explain import Override, diagnostic_at, explain
from aecli.config.schema import Experiment, dump
from aecli.config.yamlfile import Document, Mark
from aecli.errors import ConfigError, Diagnostic, SettingError


class Config(NamedTuple):
    """A valid experiment with the text that it came from."""

    experiment: Experiment
    text: str
    document: Document
    overrides: tuple[Override, ...]

    def resolved(self) -> str:
        """The experiment with every default written out, as YAML."""
        return dump(self.experiment)

    @contextlib.contextmanager
    def locating(self) -> Generator[None]:
        """Whatever is found wrong with a setting inside is told with its position in the file, or the flag that
        set it: a SettingError becomes a ConfigError."""
        try:
            yield
        except SettingError as error:
            raise self._locate(error) from None

    def _locate(self, error: SettingError) -> ConfigError:
        return ConfigError(
            [diagnostic_at(self.document, self.overrides, error.path, error.rule, error.text, error.label, error.hint)]
        )


CheckName = Callable[[str], None]


def load(path: Path, sets: Sequence[str] = (), check_name: CheckName | None = None) -> Config:
    """Reads and validates a config. Raises ConfigError with every mistake, in line order.

    `check_name` raises SettingError if there is no data set of a name. It is asked only where there are other
    mistakes to tell, since to know all names takes seconds; otherwise whoever opens the data will find out.
    """
    text = yamlfile.read_text(path)
    return parse(text, str(path), sets, check_name)


def parse(text: str, name: str, sets: Sequence[str] = (), check_name: CheckName | None = None) -> Config:
    """As `load`, from a text; `name` is what messages call it."""
    document = yamlfile.parse(text, name)
    problems = list(document.problems)
    overrides: list[Override] = []
    for flag in sets:
        try:
            overrides.append(_override(flag))
        except ConfigError as error:
            problems.extend(error.diagnostics)
    data: Any = copy.deepcopy(document.data)
    if not isinstance(data, dict):
        top = Mark(1, 1, 1)
        raise ConfigError([document.diagnostic(top, "bad-value", "a config is a mapping of blocks: data, model, train, ...")])
    data = cast("dict[str, Any]", data)
    for override in overrides:
        _apply(data, override, overrides, problems)
    try:
        experiment = Experiment.model_validate(data)
    except ValidationError as error:
        problems.extend(explain(error, data, document, overrides))
        experiment = None
    if problems or experiment is None:
        block = data.get("data")
        data_name = cast("dict[str, Any]", block).get("name") if isinstance(block, dict) else None
        try:
            if check_name is not None and isinstance(data_name, str):
                check_name(data_name)
        except SettingError as error:
            problems.append(diagnostic_at(document, overrides, error.path, error.rule, error.text, error.label, error.hint))
        raise ConfigError(problems)
    return Config(experiment, text, document, tuple(overrides))


def _override(flag: str) -> Override:
    name = f"--set {flag}"
    key, separator, text = flag.partition("=")
    path = tuple(key.strip().split("."))
    if not separator or not all(path):
        raise ConfigError(
            [Diagnostic(name, 0, 0, "bad-flag", "a flag reads --set block.key=value", help="such as --set train.steps=100")]
        )
    try:
        return Override(name, path, yamlfile.parse_value(text, name))
    except ConfigError as error:
        raise ConfigError([Diagnostic(name, 0, 0, d.rule, d.message) for d in error.diagnostics]) from None


def _apply(data: dict[str, Any], override: Override, overrides: Sequence[Override], problems: list[Diagnostic]) -> None:
    block: Any = data
    for key in override.path[:-1]:
        block = block.setdefault(key, {}) if isinstance(block, dict) else None
    if not isinstance(block, dict):
        problems.append(Diagnostic(override.flag, 0, 0, "unknown-key", f"'{override.path[0]}' is no block of settings"))
        return
    block[override.path[-1]] = override.value
    # steps and epochs say the same thing: a flag for one takes the place of the other in the file.
    other = {"train.steps": "epochs", "train.epochs": "steps"}.get(".".join(override.path))
    if other and not any(o.path == ("train", other) for o in overrides):
        cast("dict[str, Any]", block).pop(other, None)
