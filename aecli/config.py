"""A config: the YAML file and `--set` flags of one experiment, validated as a whole, every mistake with its position."""

from __future__ import annotations

import copy
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    field_serializer,
    model_validator,
)

from aecli import yamlfile
from aecli.catalog import load as load_variant
from aecli.catalog import parse_model, variants
from aecli.core import Model, Spec
from aecli.errors import AecliError, ConfigError, Diagnostic, did_you_mean
from aecli.frozen import Frozen
from aecli.learner import Precision, Recipe
from aecli.optimizers import Optimizer
from aecli.yamlfile import Document, Mark

Binarize = Literal["none", "dynamic", "fixed"]
Tier = Literal["auto", "device", "memmap", "stream"]


class Data(Frozen):
    """Which images, and how they reach the model.

    `binarize`: `dynamic` draws each pixel from Bernoulli(intensity) anew each time, in evaluation too; `fixed` does so in
    training and evaluates on one frozen draw, the published protocol (NumPy seed 777, validation before test).
    """

    name: str = Field(description="digits, shapes, fashion_mnist, any TFDS name, or folder and npz with a path")
    path: str | None = Field(default=None, description="the folder, or the .npz file")
    batch_size: PositiveInt = 128
    validation: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="the last part of train that is held out: a number of images or a fraction"
    )
    test: float = Field(default=0.1, gt=0, lt=1, description="the fraction held out where the source has no test split")
    binarize: Binarize = "none"
    size: tuple[PositiveInt, PositiveInt] | None = Field(default=None, description="resize to height, width")
    channels: Literal[1, 3] | None = Field(default=None, description="convert to gray (1) or colour (3)")
    manual_dir: str | None = Field(default=None, description="a folder with the original files of a TFDS data set")
    tier: Tier = Field(default="auto", description="where decoded images live; auto chooses by size")

    @model_validator(mode="after")
    def _path_where_needed(self) -> Data:
        if self.name in ("folder", "npz") and self.path is None:
            raise ValueError(f"name: {self.name} needs a path")
        if self.name not in ("folder", "npz") and self.path is not None:
            raise ValueError("path is for name: folder and name: npz")
        return self


class Train(Frozen):
    """How long, and what is kept on the way.

    `monitor` names the validation metric, lower being better, that decides which checkpoint is the best and, with
    `patience`, when to stop.
    """

    steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    eval_every: PositiveInt = Field(default=1, description="epochs between evaluations on the validation split")
    log_every: PositiveInt = Field(default=100, description="steps between rows of training metrics")
    checkpoint_every: PositiveInt | None = Field(
        default=None, description="steps between checkpoints; by default each evaluation"
    )
    keep: int = Field(default=2, ge=2, description="how many of the newest checkpoints stay, beside the best")
    monitor: str = "loss"
    patience: PositiveInt | None = Field(default=None, description="evaluations without a better monitor before stopping")
    precision: Precision = Field("float32", description="what networks compute in; weights and losses stay float32")

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("needs exactly one of steps and epochs")
        return self


class Experiment(Frozen):
    """A whole config."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    data: Data
    model: Annotated[SerializeAsAny[Model], BeforeValidator(parse_model)]
    optimizer: Optimizer = Optimizer()
    train: Train

    @field_serializer("model")
    def _with_variant(self, model: Model) -> dict[str, Any]:
        return {"variant": model.variant, **model.model_dump()}

    def steps(self, train_size: int) -> int:
        """The length of the run, for a train split of so many images."""
        train = self.train
        return train.steps if train.steps is not None else epoch_end(cast(int, train.epochs), train_size, self.data.batch_size)

    def recipe(self, train_size: int) -> Recipe:
        return Recipe(self.optimizer, self.steps(train_size), self.train.precision)


def epoch_end(epoch: int, size: int, batch: int) -> int:
    """The step at which `epoch` passes over `size` images are complete. Batches run on across the end of a pass, so that each
    image is seen once in every pass and none is dropped."""
    return -(-epoch * size // batch)


class SettingError(AecliError):
    """A setting that is well-formed and yet cannot work, found with the data or the model at hand. `path` leads to it."""

    code = 2

    def __init__(self, path: tuple[str, ...], rule: str, message: str, label: str = "", help: str = "") -> None:
        super().__init__(f"{'.'.join(path)}: {message}" + (f": {label}" if label else ""), help or None)
        self.path, self.rule, self.text, self.label, self.hint = path, rule, message, label, help


class Override(NamedTuple):
    """One `--set` flag."""

    flag: str
    path: tuple[str, ...]
    value: Any


class Config(NamedTuple):
    """A valid experiment with the text that it came from."""

    experiment: Experiment
    text: str
    document: Document
    overrides: tuple[Override, ...]

    def resolved(self) -> str:
        """The experiment with every default written out, as YAML."""
        return dump(self.experiment)

    def locate(self, error: SettingError) -> ConfigError:
        """The same mistake with the position of the setting in the file, or the flag that set it."""
        return ConfigError([_at(self.document, self.overrides, error.path, error.rule, error.text, error.label, error.hint)])


def dump(experiment: Experiment) -> str:
    return yaml.safe_dump(_plain(experiment.model_dump()), sort_keys=False, default_flow_style=None, width=120)


CheckName = Callable[[str], None]


def load(path: Path, sets: Sequence[str] = (), check_name: CheckName | None = None) -> Config:
    """Reads and validates a config. Raises ConfigError with every mistake, in line order.

    `check_name` raises SettingError for the name of a data set that there is not. It is asked only where there are other
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
        problems.extend(_explain(error, data, document, overrides))
        experiment = None
    if problems or experiment is None:
        block = data.get("data")
        data_name = cast("dict[str, Any]", block).get("name") if isinstance(block, dict) else None
        try:
            if check_name is not None and isinstance(data_name, str):
                check_name(data_name)
        except SettingError as error:
            problems.append(_at(document, overrides, error.path, error.rule, error.text, error.label, error.hint))
        raise ConfigError(problems)
    return Config(experiment, text, document, tuple(overrides))


def check_model(experiment: Experiment, spec: Spec) -> None:
    """Raises SettingError where the model cannot serve the data."""
    for objection in experiment.model.objections(spec):  # the first is enough: the others may follow from it
        raise SettingError(("model", objection.key), "unsuitable", objection.message, help=objection.help)


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


def _at(
    document: Document,
    overrides: Sequence[Override],
    path: Sequence[str | int],
    rule: str,
    message: str,
    label: str = "",
    help: str = "",
    key: bool = False,
) -> Diagnostic:
    """A diagnostic at the value (or the key) of a path, or at what encloses it, or at the flag that set it."""
    for override in reversed(overrides):
        inside = tuple(path[: len(override.path)]) == override.path
        made = override.path[: len(path)] == tuple(path) and tuple(path) not in document.values
        if inside or made:
            return Diagnostic(override.flag, 0, 0, rule, message, label=label, help=help)
    full = tuple(path)
    if key and full in document.keys:
        return document.diagnostic(document.keys[full], rule, message, label, help)
    if full in document.values:
        return document.diagnostic(document.values[full], rule, message, label, help)
    while full:
        full = full[:-1]
        if full in document.keys:
            return document.diagnostic(document.keys[full], rule, message, label, help)
        if full and isinstance(full[-1], int) and full in document.values:
            return document.diagnostic(document.values[full], rule, message, label, help)
    return document.diagnostic(Mark(1, 1, 1), rule, message, label, help)


def _explain(error: ValidationError, data: Any, document: Document, overrides: Sequence[Override]) -> list[Diagnostic]:
    """pydantic's errors in the words of a config's reader. One value gives one message, however many types it failed."""
    found: dict[tuple[Any, ...], Diagnostic] = {}
    for item in error.errors(include_url=False):
        path = _real_path(item["loc"], data)
        name = ".".join(str(part) for part in path)
        context: Mapping[str, Any] = item.get("ctx", {})
        kind = item["type"]
        label = help = ""
        at_key = False
        if kind == "extra_forbidden":
            *parents, last = path
            owner = _class_at(parents, data)
            allowed = [] if owner is None else list(owner.model_fields)
            if parents == ["model"]:
                allowed.insert(0, "variant")
            where = f"of '{'.'.join(map(str, parents))}'" if parents else "of a config"
            rule, message, at_key = "unknown-key", f"'{last}' is not a setting {where}", True
            label, help = did_you_mean(str(last), allowed), "allowed: " + ", ".join(allowed)
        elif kind == "missing":
            rule, message = "missing-key", f"'{name}' is missing"
        elif kind in ("unknown_variant", "missing_variant"):
            rule, message = kind.replace("_", "-"), item["msg"]
            label, help = str(context.get("label", "")), str(context.get("help", ""))
            path = (*path, "variant") if kind == "unknown_variant" else path
        elif kind == "literal_error":
            expected = str(context["expected"])
            rule, message = "bad-value", f"'{name}' must be {expected}"
            if isinstance(item["input"], str):
                label = did_you_mean(item["input"], [word.strip("' ") for word in expected.replace(" or ", ",").split(",")])
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            tag, names = str(context.get("tag", "")), [w.strip("' ") for w in str(context.get("expected_tags", "")).split(",")]
            key = str(context["discriminator"]).strip("'")
            path = (*path, key) if tag else path
            rule = "bad-value"
            message = f"'{name}': there is no {key} '{tag}'" if tag else f"'{name}' needs a '{key}'"
            label, help = did_you_mean(tag, names) if tag else "", f"{key}: " + ", ".join(names) if tag else ""
        elif kind == "value_error":
            rule, message = "bad-value", f"'{name}': {context['error']}"
        else:
            rule, message = "bad-value", f"'{name}': {_requirement(kind, context, item['msg'])}, not {_show(item['input'])}"
        found.setdefault(path, _at(document, overrides, path, rule, message, label, help, at_key))
    return list(found.values())


_REQUIREMENTS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list, such as [400, 200]",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be a block of settings",
    "too_long": "holds too many values",
}


def _requirement(kind: str, context: Mapping[str, Any], fallback: str) -> str:
    template = _REQUIREMENTS.get(kind)
    return template.format(**context) if template else fallback[:1].lower() + fallback[1:]


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, tuple)):
        return "a block" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _real_path(loc: Sequence[str | int], data: Any) -> tuple[str | int, ...]:
    """A pydantic location without the names of union members and the places in lists that no file has."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            data = cast("dict[Any, Any]", data)[part]
        elif isinstance(data, tuple) and isinstance(part, int) and part < len(cast("tuple[Any, ...]", data)):
            data = cast("tuple[Any, ...]", data)[part]
        elif isinstance(data, dict) and isinstance(part, int):
            continue  # one mapping where a list may stand
        elif i + 1 < len(loc) or not isinstance(data, dict):
            continue  # a union member, such as 'float' of `float | 'learned'`
        path.append(part)
    return tuple(path)


def _class_at(path: Sequence[str | int], data: Any) -> type[BaseModel] | None:
    """The block class that a path leads to."""
    cls: type[BaseModel] | None = Experiment
    candidates: list[type[BaseModel]] = []
    for part in path:
        data = _inside(data, part)
        if cls is Experiment and part == "model":
            variant = data.get("variant") if isinstance(data, dict) else None
            if variant not in variants():
                return None
            cls = load_variant(str(variant))
            continue
        if isinstance(part, str):
            field = None if cls is None else cls.model_fields.get(part)
            candidates = [] if field is None else _blocks(field.annotation)
        cls = _named(candidates, data)
    return cls


def _inside(data: Any, part: str | int) -> Any:
    """The value at a key or a position, None where there is none."""
    if isinstance(data, dict):
        return cast("dict[Any, Any]", data).get(part)
    if isinstance(data, tuple) and isinstance(part, int):
        return cast("tuple[Any, ...]", data)[part]
    return None


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """The block classes that a type admits, alone, in a union or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for member in typing.get_args(annotation) for block in _blocks(member)]


def _named(candidates: Sequence[type[BaseModel]], data: Any) -> type[BaseModel] | None:
    """Of several block classes the one whose `name` the data gives."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    name = _inside(data, "name")
    return next((c for c in candidates if name in typing.get_args(c.model_fields["name"].annotation)), None)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in cast("dict[str, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in cast("tuple[Any, ...]", value)]
    return value
