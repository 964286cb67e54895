"""Augmentations: what a training batch is shown of its images at random, so that few images teach as more would. Each moves whole
pixels and mixes no values, so that binary images stay binary and levels stay levels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeAlias

import jax
import jax.numpy as jnp
from pydantic import Field, PositiveInt

from aecli.core.frozen import Frozen
from aecli.core.model import Spec
from aecli.distributions.in_turn import ONE_OR_LIST, in_turn


class Augments(Frozen):
    """What is asked of an augmentation. Its fields are its settings: `name`, the one value of which a config gives, and how far
    it goes."""

    @abstractmethod
    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """[B, H, W, C] of any type -> the same shape and type, each image by a draw of its own. A function of its arguments."""

    def objections(self, spec: Spec) -> Iterable[str]:
        """Why images of such a form cannot be augmented so; none by default."""
        return ()


class Flip(Augments):
    """Left and right change places with probability p."""

    name: Literal["flip"] = Field(description="left and right change places")
    p: float = Field(default=0.5, ge=0, le=1, description="probability that an image is flipped")

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        flipped = jax.random.uniform(key, (len(image), 1, 1, 1)) < self.p
        return jnp.where(flipped, image[:, :, ::-1], image)


class Shift(Augments):
    """Moved by -pixels to pixels in height and in width, each of these equally likely: to pad an image and crop it at random.
    What comes into sight is the nearest pixel of the image, or 0."""

    name: Literal["shift"] = Field(description="moved in height and in width")
    pixels: PositiveInt = Field(description="the farthest that an image is moved, in pixels")
    fill: Literal["edge", "zero"] = Field(
        default="edge", description="what comes into sight: the nearest pixel of the image, or 0"
    )

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        far = (self.pixels, self.pixels)
        padded = jnp.pad(image, ((0, 0), far, far, (0, 0)), mode="edge" if self.fill == "edge" else "constant")
        corner = jax.random.randint(key, (len(image), 2), 0, 2 * self.pixels + 1)

        def crop(one: jax.Array, corner: jax.Array) -> jax.Array:
            return jax.lax.dynamic_slice(one, (corner[0], corner[1], 0), image.shape[1:])

        return jax.vmap(crop)(padded, corner)

    def objections(self, spec: Spec) -> Iterable[str]:
        if self.pixels >= min(spec.height, spec.width):
            yield f"{self.pixels} pixels move images of {spec.height}x{spec.width} out of sight"


Augmentation: TypeAlias = Annotated[Flip | Shift, Field(discriminator="name")]
"""What a config may name."""
Augmentations: TypeAlias = Annotated[tuple[Augmentation, ...], ONE_OR_LIST]
"""In a config, one of them or a list, applied in its order."""


def augment(augmentations: Sequence[Augmentation], image: jax.Array, key: jax.Array) -> jax.Array:
    """One after another, [B, H, W, C] -> the same."""
    return in_turn(augmentations, image, key)
