"""The config as JSON Schema (draft 2020-12), by which editors complete and check a YAML file.

All of it is derived from the blocks: types, ranges, choices, defaults and descriptions from their fields, variants from the files
of models/. What a schema cannot say is left to `aecli check`: that `128.0` is no whole number, that a number is finite, which
settings of a variant go together, and what the data is like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaWarningKind, models_json_schema
from pydantic_core import core_schema

from aecli.config import variants as catalog
from aecli.config.length import LENGTHS
from aecli.config.schema import HEEDED, OF_TFDS, OWN_FILES, UNUSED, Data, Experiment, Train
from aecli.core.model import Model
from aecli.errors import VariantError

DRAFT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


class Schema(NamedTuple):
    """`broken`: what is wrong with the files of the variants that it leaves out."""

    schema: Json
    broken: Sequence[VariantError]


class _Generate(GenerateJsonSchema):
    # Of a type that a variant brings and JSON does not know, any value will do.
    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        pass

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Json:
        return {}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> Json:
        members = cast("list[Json]", super().tagged_union_schema(schema)["oneOf"])
        return choice(str(schema["discriminator"]), dict(zip(map(str, schema["choices"]), members, strict=True)))


def choice(key: str, members: Mapping[str, Json]) -> Json:
    """One of several blocks, chosen by the value of `key`: of a mistake inside, the chosen block's error alone is told."""
    return {
        "type": "object",
        "required": [key],
        "properties": {key: {"enum": list(members)}},
        "allOf": [{"if": _is(key, {"const": name}), "then": member} for name, member in members.items()],
    }


def _is(key: str, value: Json) -> Json:
    return {"required": [key], "properties": {key: value}}


def json_schema() -> Schema:
    """The schema of a config with all variants that are sound."""
    loaded = catalog.load_all()
    mode: JsonSchemaMode = "validation"
    classes = (Experiment, Data, Train, Model, *loaded.sound.values())
    places, whole = models_json_schema([(cls, mode) for cls in classes], schema_generator=_Generate)
    blocks = cast("dict[str, Json]", whole["$defs"])
    named = {cls: str(places[cls, mode]["$ref"]).removeprefix("#/$defs/") for cls in classes}

    members: dict[str, Json] = {}
    for name, cls in loaded.sound.items():
        block, summary = blocks[named[cls]], catalog.about(cls).summary
        block["title"], block["description"] = name, summary
        block["properties"] = {"variant": {"const": name, "description": summary}} | block.get("properties", {})
        block["required"] = ["variant", *block.get("required", [])]
        members[name] = {"$ref": f"#/$defs/{named[cls]}"}
    del blocks[named[Model]]
    model = choice("variant", members)
    model["properties"]["variant"]["description"] = "the model family, a file of aecli/models/"
    data = blocks[named[Data]]
    data["allOf"] = _rules_of_data(data["properties"])
    blocks[named[Train]]["oneOf"] = [_is(length, {"not": {"type": "null"}}) for length in LENGTHS]

    top = blocks.pop(named[Experiment])
    about = Experiment.model_fields["model"].description
    top["properties"]["model"] = {"title": "Model", "description": about, **model}
    return Schema({"$schema": DRAFT, **top, "title": "aecli config", "$defs": dict(sorted(blocks.items()))}, loaded.broken)


def _rules_of_data(properties: Mapping[str, Json]) -> list[Json]:
    """Which settings a data set of such a name heeds: the others stay at their defaults."""
    rules: list[Json] = [{"if": _is("name", {"enum": list(OWN_FILES)}), "then": _is("path", {"type": "string"})}]

    def rest(names: Json, settings: Sequence[str]) -> None:
        left = {setting: {"const": properties[setting]["default"]} for setting in settings}
        rules.append({"if": _is("name", names), "then": {"properties": left}})

    for setting in dict.fromkeys(setting for heeded in HEEDED.values() for setting in heeded):
        users = [name for name, heeded in HEEDED.items() if setting in heeded]
        others = {"enum": [name for name in HEEDED if name not in users]} if setting in OF_TFDS else {"not": {"enum": users}}
        rest(others, [setting])
    for name, unused in UNUSED.items():
        for settings, _ in unused:
            rest({"const": name}, settings)
    return rules
