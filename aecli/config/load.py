"""A config: the YAML file and `--set` flags of one experiment, validated as a whole, every mistake with its position."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from pydantic import (
    ValidationError,
)

from aecli.config import yamlfile
from aecli.config.explain import Override, diagnostic_at, explain
from aecli.config.length import LENGTHS
from aecli.config.schema import Experiment, dump, to_yaml
from aecli.config.yamlfile import Document, Mark
from aecli.errors import MAX_SOURCE, ConfigError, DataError, Diagnostic, SettingError
from aecli.system.progress import say


class Config(NamedTuple):
    """A valid experiment with the text that it came from."""

    experiment: Experiment
    text: str
    document: Document
    overrides: tuple[Override, ...]

    def resolved(self) -> str:
        """The experiment with every default written out, as YAML."""
        return dump(self.experiment)

    def of(self, experiment: Experiment) -> Config:
        """The same text, of another experiment that it came to be."""
        return self._replace(experiment=experiment)

    def given(self, key: str) -> str | None:
        """What the file or a flag says of a setting of `data`, as it is written; None if neither says anything."""
        value, _ = self._said(key)
        return value if isinstance(value, str) else None

    def beside(self, folder: Path, say: Say) -> Config:
        """The same with the paths of its data made absolute: those of the file are looked for in `folder`, which it lies in, and
        then in the current folder, those of flags in the current folder alone. `~` is the user's home. Says so where both
        have one. Raises DataError if there is no such path."""
        data = self.experiment.data
        found: dict[str, str] = {}
        for key in ("path", "manual_dir"):
            value, by_flag = self._said(key)
            if isinstance(value, str):
                found[key] = _absolute(f"data.{key}", value, [] if by_flag else [folder], key == "path", say)
        if not found:
            return self
        return self._replace(experiment=self.experiment.model_copy(update={"data": data.model_copy(update=found)}))

    def _said(self, key: str) -> tuple[Any, bool]:
        """The value of a setting of `data` as it was written, and whether a flag set it."""
        for override in reversed(self.overrides):
            if override.path == ("data", key):
                return override.value, True
            if override.path == ("data",) and isinstance(override.value, dict):
                return cast("dict[str, Any]", override.value).get(key), True
        block = cast("dict[str, Any]", self.document.data).get("data")
        return (cast("dict[str, Any]", block).get(key) if isinstance(block, dict) else None), False

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
Say = Callable[[str], None]


def _absolute(setting: str, given: str, before: Sequence[Path], must: bool, say: Say) -> str:
    """A path of a config, absolute: in the first of the folders that has it. Raises DataError if none has, and one `must`."""
    path = os.path.expanduser(given)
    if os.path.isabs(path):
        return path
    if not given.strip():
        raise DataError(f"{setting} is empty", "name a folder or a file")
    places = list(dict.fromkeys(os.path.abspath(folder / path) for folder in (*before, Path())))
    found = [place for place in places if os.path.exists(place)]
    if not found:
        text = f"{setting} is '{given}', and " + (
            f"neither {' nor '.join(places)} exists" if len(places) > 1 else f"{places[0]} does not exist"
        )
        if must:
            where = "of a flag is looked for" if not before else "in a config is looked for beside the config, then"
            raise DataError(text, f"a path {where} in the current folder")
        say(text)
        return places[0]
    if len(found) > 1 and not os.path.samefile(*found):
        say(f"{setting}: taking {found[0]}, beside the config, and not {found[1]}")
    return found[0]


def load(
    path: Path,
    sets: Sequence[str] = (),
    check_name: CheckName | None = None,
    others: Mapping[str, Any] | None = None,
) -> Config:
    """Reads and validates a config; paths of its data are found, see `Config.beside`. Raises ConfigError with every mistake, in
    line order, and DataError if there is no such path. Where the `others` blocks are given, the file's block `data` alone counts.

    `check_name` raises SettingError if there is no data set of a name. It is asked only where there are other
    mistakes to tell, since to know all names takes seconds; otherwise whoever opens the data will find out.
    """
    text = yamlfile.read_text(path)
    return parse(text, str(path), sets, check_name, others).beside(path.parent, say)


def parse(
    text: str,
    name: str,
    sets: Sequence[str] = (),
    check_name: CheckName | None = None,
    others: Mapping[str, Any] | None = None,
) -> Config:
    """As `load`, from a text; `name` is what messages call it."""
    problems: list[Diagnostic] = []
    overrides: list[Override] = []
    for flag in sets:
        try:
            overrides.append(override_of(flag))
        except ConfigError as error:
            problems.extend(error.diagnostics)
    return combine(text, yamlfile.parse(text, name), overrides, problems, check_name, others)


def combine(
    text: str,
    document: Document,
    overrides: Sequence[Override],
    before: Sequence[Diagnostic] = (),
    check_name: CheckName | None = None,
    others: Mapping[str, Any] | None = None,
) -> Config:
    """As `parse`, of a text and flags that are parsed already, in which the mistakes `before` were found."""
    problems = [*document.problems, *before]
    data: Any = copy.deepcopy(document.data)
    if not isinstance(data, dict):
        top = Mark(1, 1, 1)
        raise ConfigError([document.diagnostic(top, "bad-value", "a config is a mapping of blocks: data, model, train, ...")])
    data = cast("dict[str, Any]", data)
    if others is not None:
        own = {"data": data["data"]} if "data" in data else {}
        data = {block: value for block, value in others.items() if block != "data"} | own
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


def dump_steps(text: str, experiment: Experiment) -> str:
    """A resolved config with the number of steps and epochs of another experiment, and its trackers, everything else as it stands
    there: a version that knows more settings adds none to it."""
    blocks = cast("dict[str, Any]", yamlfile.parse(text, "config.resolved.yaml").data)
    train = {**cast("dict[str, Any]", blocks["train"]), "steps": experiment.train.steps, "epochs": experiment.train.epochs}
    if experiment.train.trackers or "trackers" in train:
        train["trackers"] = experiment.train.trackers
    return to_yaml({**blocks, "train": train})


def override_of(flag: str) -> Override:
    """What a `--set` flag says. Raises ConfigError if it says nothing."""
    name = f"--set {flag if len(flag) <= MAX_SOURCE else flag[: MAX_SOURCE - 1] + '…'}"  # it stands in every message
    key, separator, text = flag.partition("=")
    path = tuple(key.strip().split("."))
    if not separator or not all(path):
        raise ConfigError(
            [Diagnostic(name, 0, 0, "bad-flag", "a flag reads --set block.key=value", help="such as --set train.steps=100")]
        )
    if len(text) > yamlfile.MAX_BYTES:
        raise ConfigError(
            [Diagnostic(name, 0, 0, "too-large", f"longer than {yamlfile.MAX_BYTES:,} letters: this is no setting")]
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
    block[override.path[-1]] = copy.deepcopy(override.value)  # a later flag may change a setting inside
    # They all say how long a run is: a flag for one takes the place of what the file says.
    if override.path in _LENGTHS:
        for _, other in _LENGTHS - {override.path, *(o.path for o in overrides)}:
            cast("dict[str, Any]", block).pop(other, None)


_LENGTHS = {("train", length) for length in LENGTHS}
