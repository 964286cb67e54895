"""Finds variants by file name: `variant: vae` is the one final `Model` in aecli/models/vae.py."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from typing import Any, cast

from pydantic_core import PydanticCustomError

from aecli import models
from aecli.core.abilities import lacking
from aecli.core.model import Model
from aecli.errors import did_you_mean


def variants() -> tuple[str, ...]:
    """The names of all variants, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(models.__path__)))


def load(variant: str) -> type[Model]:
    """The class of a variant. Raises KeyError for an unknown name."""
    if variant not in variants():
        raise KeyError(variant)
    module = importlib.import_module(f"{models.__name__}.{variant}")
    found = [
        cls
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Model) and cls.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must hold exactly one Model, it holds {len(found)}")
    return found[0]


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
                "variant": str(variant),
                "label": did_you_mean(str(variant), variants()),
                "help": "variants: " + ", ".join(variants()),
            },
        )
    return cls.model_validate(block)


def variants_that(needed: Iterable[str]) -> tuple[str, ...]:
    """The names of the variants that have all the needed abilities."""
    return tuple(name for name in variants() if not lacking(load(name), needed))
