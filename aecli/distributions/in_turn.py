"""A list of what a config has done to images, one after another: corruptions, augmentations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema


class OneOrList:
    """Lets a config name one where it may name several, as an annotation of a tuple."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def listed(value: Any) -> Any:
            return (value,) if isinstance(value, dict) else value

        return core_schema.no_info_before_validator_function(listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        many = handler(schema)
        kinds = {"object": many["items"], "array": many}  # told apart by if, so that an editor tells the mistakes of one alone
        return {
            "type": list(kinds),
            "allOf": [{"if": {"type": kind}, "then": inner} for kind, inner in kinds.items()],
        }


ONE_OR_LIST = OneOrList()


def in_turn(steps: Iterable[Callable[[jax.Array, jax.Array], jax.Array]], image: jax.Array, key: jax.Array) -> jax.Array:
    """[B, H, W, C] -> the same, by each step (image, key) on what the one before it gave; the key of a step is `key` folded with
    its place in the list."""
    for number, step in enumerate(steps):
        image = step(image, jax.random.fold_in(key, number))
    return image
