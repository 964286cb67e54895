"""A list of what a config has done to images, one after another: corruptions, augmentations."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
from pydantic import BeforeValidator

ONE_OR_LIST = BeforeValidator(lambda value: (value,) if isinstance(value, dict) else value)
"""Lets a config name one where it may name several."""


def in_turn(steps: Iterable[Callable[[jax.Array, jax.Array], jax.Array]], image: jax.Array, key: jax.Array) -> jax.Array:
    """[B, H, W, C] -> the same, by each step (image, key) on what the one before it gave; the key of a step is `key` folded with
    its place in the list."""
    for number, step in enumerate(steps):
        image = step(image, jax.random.fold_in(key, number))
    return image
