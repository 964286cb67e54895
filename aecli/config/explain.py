"""Mistakes in a config in a reader's words, each at its place in the file or in the flag that made it."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic import (
    BaseModel,
    ValidationError,
)

from aecli.config.schema import Experiment
from aecli.config.variants import load as load_variant
from aecli.config.variants import variants
from aecli.config.yamlfile import Document, Mark
from aecli.errors import Diagnostic, did_you_mean


class Override(NamedTuple):
    """One `--set` flag."""

    flag: str
    path: tuple[str, ...]
    value: Any


def diagnostic_at(
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


def explain(error: ValidationError, data: Any, document: Document, overrides: Sequence[Override]) -> list[Diagnostic]:
    """pydantic's errors in the words of a config's reader. One value gives one message, however many types it failed."""
    found: dict[tuple[Any, ...], Diagnostic] = {}
    found_all = error.errors(include_url=False)
    # Of a list where one number or a list may stand, what is wrong with the list is told.
    for item in sorted(found_all, key=lambda item: item["type"].endswith("_type") and isinstance(item["input"], tuple)):
        path = _real_path(item["loc"], data)
        name = ".".join(str(part) for part in path)
        context: Mapping[str, Any] = item.get("ctx", {})
        kind = item["type"]
        label = help = ""
        at_key = False
        if kind == "default_factory_not_called":
            continue  # a default that depends on a setting whose own error is told
        if kind == "extra_forbidden":
            *parents, last = path
            owner = _class_at(parents, data)
            allowed = [] if owner is None else list(owner.model_fields)
            if parents == ["model"]:
                allowed.insert(0, "variant")
            where = f"of '{'.'.join(map(str, parents))}'" if parents else "of a config"
            rule, message, at_key = "unknown-key", f"'{last}' is not a setting {where}", True
            label = _elsewhere(str(last), data) or did_you_mean(str(last), allowed)
            help = "allowed: " + ", ".join(allowed)
        elif kind == "too_long" or (kind == "missing" and isinstance(item["input"], tuple)):
            rule, message = "bad-value", f"'{name}' {_length(item, found_all)}"
            about = _described(path, data)
            message += f": {about}" if about else ""
        elif kind == "missing":
            rule, message, help = "missing-key", f"'{name}' is missing", _wanted(path, data)
        elif kind in ("unknown_variant", "missing_variant"):
            rule, message = kind.replace("_", "-"), item["msg"]
            label, help = str(context.get("label", "")), str(context.get("help", ""))
            path = (*path, "variant") if kind == "unknown_variant" else path
        elif kind == "literal_error":
            expected = str(context["expected"])
            rule, message, help = "bad-value", f"'{name}' must be {expected}", _described(path, data) or ""
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
        found.setdefault(path, diagnostic_at(document, overrides, path, rule, message, label, help, at_key))
    return list(found.values())


def _elsewhere(name: str, data: Any) -> str:
    """Where a setting of this name is, such as `model.latent` for `latent`."""
    for block in ((), *((name,) for name in Experiment.model_fields)):
        owner = _class_at(block, data)
        if owner is not None and name in owner.model_fields:
            return f"did you mean '{'.'.join([*block, name])}'?"
    return ""


def _wanted(path: Sequence[Any], data: Any) -> str:
    """What a setting that has no default is to be, such as `threshold: a number from 0 to 1`."""
    owner = _class_at(path[:-1], data)
    field = None if owner is None else owner.model_fields.get(str(path[-1]))
    kind = None if field is None else {float: "a number", int: "a whole number", str: "a text"}.get(field.annotation)  # pyright: ignore[reportArgumentType]
    if field is None or kind is None:
        return ""
    limits = {name: getattr(part, name) for part in field.metadata for name in ("ge", "gt", "le", "lt") if hasattr(part, name)}
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    told = [f"{words[name]} {limit:g}" for name, limit in limits.items()]
    return " ".join([f"{path[-1]}: {kind}", *told, *(["on"] if list(limits) == ["ge"] else [])])


_REQUIREMENTS = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "tuple_type": "must be a list, in brackets such as [1, 2]",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "model_type": "must be a block of settings",
}


def _length(item: Any, found_all: Sequence[Any]) -> str:
    """`needs 2 values, not 1`, of a list that is too long or lacks values, each of which is an error of its own."""
    if item["type"] == "too_long":
        return f"takes at most {item['ctx']['max_length']} values, not {len(item['input'])}"
    *where, _ = item["loc"]
    needed = 1 + max(other["loc"][-1] for other in found_all if other["type"] == "missing" and [*other["loc"][:-1]] == where)
    return f"needs {needed} values, not {len(item['input'])}"


def _described(path: Sequence[str | int], data: Any) -> str | None:
    """What a setting's description says, if it has one."""
    owner = _class_at(path[:-1], data)
    field = None if owner is None else owner.model_fields.get(str(path[-1]))
    return None if field is None else field.description


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
    """The value at a key or a position, None if there is none."""
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
    """The one of several block classes whose `name` the data gives."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    name = _inside(data, "name")
    return next((c for c in candidates if name in typing.get_args(c.model_fields["name"].annotation)), None)
