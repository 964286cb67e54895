"""Settings that a program gives as Python values, as the text that a config or a flag has: read, and refused, as any other."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, cast

from aecli.errors import UsageError, printable

_DEEPEST = 50
_MOST_NUMBERS = 1000
_AS_A_FILE = "data are read from files: save an array with numpy.save and give its path, as data.path"
_SETTING = re.compile(r"(?:--|\+{1,2}|~)?((?:seed|data|model|optimizer|train)(?:\.\w+)*)(?:=(.*))?", re.DOTALL)


def as_other_programs_have_it(argument: str) -> tuple[str, str | None] | None:
    """The setting and the value, if it has one, of an argument as Hydra (`a.b=c`, `+a.b=c`) and Lightning (`--a.b=c`, `--a.b`)
    take it; None of any other."""
    found = _SETTING.fullmatch(argument)
    if found is None or (found[2] is None and not argument.startswith("--")):
        return None
    return found[1], found[2]


def as_config(blocks: Mapping[str, Any]) -> str:
    """A config as YAML, a line a block. Raises UsageError for what is no setting."""
    names = ((str(key), value) for key, value in blocks.items())
    return "".join(f"{key if key.isidentifier() else json.dumps(key)}: {as_text(key, value)}\n" for key, value in names)


def called(name: str, path: str | None) -> str:
    """What messages call data: the user's own file or folder by its name, other data by that of the data set."""
    return name if path is None else printable(os.path.basename(os.path.abspath(path)))


def as_flags(overrides: Mapping[str, Any] | None) -> list[str]:
    """Settings by their path, `{"train.epochs": 2}`, as of `--set`. Raises UsageError for what is no setting."""
    return [f"{key}={as_text(str(key), value)}" for key, value in (overrides or {}).items()]


def as_text(key: str, value: Any) -> str:
    """A setting as JSON, which is YAML that has one reading. Raises UsageError for what is no setting."""
    from aecli.config.yamlfile import MAX_BYTES  # which needs this file

    text = json.dumps(_json(key, value), ensure_ascii=False)
    if len(text) > MAX_BYTES:
        raise UsageError(f"{key} has {len(text):,} letters, and no setting has more than {MAX_BYTES:,}", _AS_A_FILE)
    return text


def _json(key: str, value: Any, depth: int = 0) -> Any:
    """As JSON has it; numbers of NumPy and paths are what they say."""
    if depth > _DEEPEST:
        raise UsageError(f"{key} holds settings more than {_DEEPEST} deep")
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        blocks = cast("Mapping[Any, Any]", value)
        return {str(inner): _json(f"{key}.{inner}", each, depth + 1) for inner, each in blocks.items()}
    if isinstance(value, list | tuple):
        return [_json(key, each, depth + 1) for each in cast("Sequence[Any]", value)]
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    if hasattr(value, "tolist"):  # of NumPy
        shape: Sequence[int] = tuple(getattr(value, "shape", ()))
        if len(shape) > 1 or prod(shape) > _MOST_NUMBERS:
            raise UsageError(f"{key} is an array {list(shape)}, and a setting holds no data", _AS_A_FILE)
        return _json(key, value.tolist(), depth + 1)
    raise UsageError(f"{key} is of type {type(value).__name__}", "settings are numbers, texts, true and false, lists and dicts")


def as_lists(value: Any) -> Any:
    """A parsed config with lists for its tuples: a copy."""
    if isinstance(value, dict):
        return {key: as_lists(inner) for key, inner in cast("dict[str, Any]", value).items()}
    return [as_lists(inner) for inner in cast("tuple[Any, ...]", value)] if isinstance(value, tuple) else value
