"""Finds variants by file name: `variant: vae` is the one final `Model` in aecli/models/vae.py."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, NamedTuple, cast
from weakref import WeakSet

from pydantic_core import PydanticCustomError

from aecli import models
from aecli.config.names import variants
from aecli.core.abilities import ABILITIES, lacking
from aecli.core.model import Model, SingleLoss
from aecli.errors import VariantError, blame_variant, did_you_mean, printable, translate


class Loaded(NamedTuple):
    """`sound`: name -> class. `broken`: what is wrong with the others."""

    sound: dict[str, type[Model]]
    broken: tuple[VariantError, ...]


_sound: WeakSet[type[Model]] = WeakSet()
"""Classes that break no rule: to look takes twenty times as long as to validate a config, and a sweep has thousands."""


def load(variant: str) -> type[Model]:
    """The class of a variant. Raises KeyError for an unknown name, VariantError if its file cannot be imported or breaks a rule
    that can be seen without calling it."""
    if variant not in variants():
        raise KeyError(variant)
    name = f"{models.__name__}.{variant}"
    try:
        module = importlib.import_module(name)
    except Exception as error:
        # A file that cannot be read is that file's error, not the disk's.
        known = blame_variant(error, name) if isinstance(error, OSError) else translate(error) or blame_variant(error, name)
        if known is None:
            raise
        raise known from error
    cls = _only_model(module)
    if cls not in _sound:
        _check_abstract(cls)
        _check_signatures(cls)
        _check_settings(cls)
        _sound.add(cls)
    return cls


def load_all() -> Loaded:
    """All variants; a broken one does not hide the others."""
    sound: dict[str, type[Model]] = {}
    broken: list[VariantError] = []
    for name in variants():
        try:
            sound[name] = load(name)
        except VariantError as error:
            broken.append(error)
    return Loaded(sound, tuple(broken))


def parse_model(value: Any) -> Any:
    """The `model` block -> a Model. Raises pydantic's errors, positions relative to the block."""
    if isinstance(value, Model) or not isinstance(value, dict):
        return value
    block = dict(cast("dict[str, Any]", value))
    variant = block.pop("variant", None)
    if variant is None:
        raise PydanticCustomError("missing_variant", "'model' needs a 'variant': {names}", {"names": ", ".join(variants())})
    try:
        cls = load(variant) if isinstance(variant, str) else None
    except KeyError:
        cls = None
    if cls is None:
        raise PydanticCustomError(
            "unknown_variant",
            "there is no variant '{variant}'",
            {
                "variant": printable(str(variant)),  # pydantic takes no half letters in messages
                "label": did_you_mean(str(variant), variants()),
                "help": "variants: " + ", ".join(variants()),
            },
        )
    return cls.model_validate(block)


def variants_that(needed: Iterable[str]) -> tuple[str, ...]:
    """The names of the sound variants that have all the needed abilities."""
    return tuple(name for name, cls in load_all().sound.items() if not lacking(cls, needed))


def _only_model(module: ModuleType) -> type[Model]:
    found = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Model) and cls.__module__ == module.__name__
    ]
    if not found:
        raise VariantError(
            module.__name__,
            0,
            "there is no Model in it",
            "files of models/ are variants; helpers live in nets/ or distributions/",
            "move the file, or give it a subclass of Model or SingleLoss (aecli/core/model.py)",
        )
    if len(found) > 1:
        found.sort(key=_line)
        raise VariantError(
            module.__name__,
            _line(found[1]),
            f"there are {len(found)} Models in it: {', '.join(cls.__name__ for cls in found)}",
            "a file of models/ is one variant: it holds exactly one subclass of Model",
            "move the other into a file of its own, or make it a setting of the first",
        )
    return found[0]


def _check_abstract(cls: type[Model]) -> None:
    missing = [name for owner in (Model, SingleLoss) for name in vars(owner) if name in cls.__abstractmethods__]
    if missing:
        raise VariantError(
            cls.__module__,
            _line(cls),
            f"{cls.__name__} has no {' and no '.join(missing)}",
            "a SingleLoss has build and loss, any other Model init, train_step and evaluate",
            "; ".join(f"def {name}{_written(getattr(cls, name))}" for name in missing),
        )


def _check_signatures(cls: type[Model]) -> None:
    """Raises VariantError if a method cannot be called as the program calls it."""
    owners: list[type] = [owner for owner in (Model, SingleLoss, *ABILITIES.values()) if issubclass(cls, owner)]
    for contract, name, asked in [(owner, *member) for owner in owners for member in vars(owner).items()]:
        ours = inspect.getattr_static(cls, name, None)
        if name.startswith("_") or not inspect.isfunction(asked) or ours is asked:
            continue
        if not inspect.isfunction(ours):
            raise VariantError(
                cls.__module__,
                _line(cls),
                f"{name} is not a method",
                f"what {contract.__name__} asks for in {contract.__module__.replace('.', '/')}.py is called",
                f"def {name}{_written(asked)}",
            )
        parameters = inspect.signature(asked).parameters.values()
        needed = sum(parameter.default is parameter.empty for parameter in parameters)
        try:
            for count in (needed, len(parameters)):  # what has a default is left out by some callers
                inspect.signature(ours).bind(*[None] * count)
        except TypeError as error:
            place = f"{contract.__module__.replace('.', '/')}.py says ({contract.__name__}.{name})"
            raise VariantError(
                cls.__module__,
                ours.__code__.co_firstlineno,
                f"{name}{_written(ours)} cannot be called as aecli calls it: {error}",
                f"a method takes what {place}, in that order",
                f"def {name}{_written(asked)}",
            ) from None


def _check_settings(cls: type[Model]) -> None:
    taken = [name for name in cls.model_fields if name in vars(Model)]
    if taken:
        raise VariantError(
            cls.__module__,
            _line(cls),
            f"a setting is called {taken[0]}, which is what a Model tells of itself",
            "settings have names that Model (aecli/core/model.py) does not use",
            "rename it",
        )


def _written(function: Any) -> str:
    """The parameters as they stand in the file."""
    return str(inspect.signature(function)).replace("'", "")


def _line(cls: type) -> int:
    try:
        return inspect.getsourcelines(cls)[1]
    except OSError:
        return 0


_HEADING = re.compile(r"^(\S.*)\n-{3,}$", re.MULTILINE)


class About(NamedTuple):
    """What the text at the top of a variant's file tells: in a line what the family is, its papers, and by its heading each part
    below an underlined one, in Markdown with formulas, for the documentation alone."""

    summary: str
    papers: str
    parts: Mapping[str, str]


def about(cls: type[Model]) -> About:
    """What its file tells of a family."""
    head, *rest = _HEADING.split(inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""))
    summary, _, papers = head.partition("\n")
    return About(summary, papers.strip(), {title: text.strip() for title, text in zip(rest[::2], rest[1::2], strict=True)})
