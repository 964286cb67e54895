"""A config written for a person to change: what is set, and every other setting with its default, as a comment."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aecli.config import yamlfile
from aecli.config.schema import Experiment, plain, unheeded

WIDTH = 100
"""Columns of the longest line: a description that does not fit beside its setting stands above it."""


def commented(experiment: Experiment, given: Mapping[str, Any], head: Sequence[str] = ()) -> str:
    """The YAML of an experiment whose blocks were `given` so. What was given is set, in its order and before the rest. What was
    not stands with its default behind a #, without a space as texts have it; settings that data of such a name does not heed are
    left out."""
    about = Experiment.model_fields["seed"].description
    wrapped = [part for line in head for part in textwrap.wrap(line, WIDTH - len("# ")) or [""]]
    lines = [*(f"# {line}".rstrip() for line in wrapped), f"seed: {experiment.seed}  # {about}"]
    for name in ("data", "model", "optimizer", "train"):
        block, settings = getattr(experiment, name), given.get(name) or {}
        # A block of comments alone would be null.
        lines += [
            "",
            f"{'' if settings else '#'}{name}:",
            *_block(block, settings, unheeded(experiment.data.name) if name == "data" else ()),
        ]
    return "\n".join(lines) + "\n"


def _block(block: BaseModel, given: Mapping[str, Any], left_out: Collection[str]) -> list[str]:
    values, fields = block.model_dump(), type(block).model_fields
    lines: list[str] = []
    for name in [*given, *(name for name in fields if name not in given and name not in left_out)]:
        setting = f"{'' if name in given else '#'}{name}: {_flow(given.get(name, values.get(name)))}"
        about = told(fields[name]) if name in fields else "the kind of model: aecli variants"
        beside = f"  {setting}  # {about}"
        above = [f"  # {line}" for line in textwrap.wrap(about, WIDTH - len("  # "))]
        lines += [beside] if len(beside) <= WIDTH else [*above, f"  {setting}"]
    return lines


def told(field: FieldInfo) -> str:
    """What a setting is, and the words that it may be, if it is a choice of words."""
    choices = " | ".join(map(str, get_args(field.annotation))) if get_origin(field.annotation) is Literal else ""
    return f"{field.description} ({choices})" if field.description and choices else field.description or choices


def _flow(value: Any) -> str:
    """A value in one line of YAML, quoted where it would be read as another one."""
    text = yaml.safe_dump(plain(value), default_flow_style=True, width=10**6, sort_keys=False).removesuffix("...\n").strip()
    return text if yamlfile.parse(f"value: {text}\n", "a setting").data == {"value": value} else json.dumps(plain(value))
