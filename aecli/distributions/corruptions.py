"""Corruptions of images: what a model that is to restore them is shown. Each draws anew from its key, and is the identity at
strength 0.

Vincent et al. 2010, "Stacked denoising autoencoders", section 3.3 (Gaussian, masking, salt and pepper); Pathak et al. 2016,
"Context encoders" (block). Noise is not clipped: a clipped input would be another, easier problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from aecli.core.frozen import Frozen
from aecli.core.model import Objection, Spec

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601)."""


class GaussianNoise(Frozen):
    """x + sigma e, e ~ N(0, 1) per value."""

    name: Literal["gaussian"]
    sigma: NonNegativeFloat

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return image + self.sigma * jax.random.normal(key, image.shape)

    def objections(self, spec: Spec) -> Iterable[str]:
        return ()


class Masking(Frozen):
    """Each pixel, all its channels, is 0 with probability p."""

    name: Literal["masking"]
    p: float = Field(ge=0, le=1)

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.where(self.hidden(image, key), 0.0, image)

    def hidden(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Which pixels are, [B, H, W, 1] bool."""
        return jax.random.uniform(key, (*image.shape[:3], 1)) < self.p

    def objections(self, spec: Spec) -> Iterable[str]:
        return ()


class SaltPepper(Frozen):
    """Each value is, with probability p, 0 or 1 with equal chance."""

    name: Literal["salt_pepper"]
    p: float = Field(ge=0, le=1)

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        u = jax.random.uniform(key, image.shape)
        return jnp.where(u < self.p, (u < self.p / 2).astype(image.dtype), image)

    def objections(self, spec: Spec) -> Iterable[str]:
        return ()


class Block(Frozen):
    """A square of `size` pixels at a random place of each image is 0."""

    name: Literal["block"]
    size: NonNegativeInt

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.where(self.hidden(image, key), 0.0, image)

    def hidden(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Which pixels are, [B, H, W, 1] bool."""
        n, height, width, _ = image.shape
        down, right = jax.random.split(key)
        top = jax.random.randint(down, (n, 1), 0, height - self.size + 1)
        left = jax.random.randint(right, (n, 1), 0, width - self.size + 1)
        y, x = jnp.arange(height)[None], jnp.arange(width)[None]
        rows, columns = (y >= top) & (y < top + self.size), (x >= left) & (x < left + self.size)
        return rows[:, :, None, None] & columns[:, None, :, None]

    def objections(self, spec: Spec) -> Iterable[str]:
        if self.size > min(spec.height, spec.width):
            yield f"a block of {self.size} does not fit into images of {spec.height}x{spec.width}"


class Downsample(Frozen):
    """Averages squares of `factor` pixels and repeats the average: the image at lower resolution, at its old size."""

    name: Literal["downsample"]
    factor: PositiveInt

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        n, height, width, channels = image.shape
        f = self.factor
        small = image.reshape(n, height // f, f, width // f, f, channels).mean(axis=(2, 4))
        return small.repeat(f, axis=1).repeat(f, axis=2)

    def objections(self, spec: Spec) -> Iterable[str]:
        if spec.height % self.factor or spec.width % self.factor:
            yield f"a factor of {self.factor} does not divide {spec.height}x{spec.width} pixels"


class Grayscale(Frozen):
    """All three channels become the luma."""

    name: Literal["grayscale"]

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.broadcast_to(image @ jnp.asarray(LUMA)[:, None], image.shape)

    def objections(self, spec: Spec) -> Iterable[str]:
        if spec.channels != 3:
            yield "the images are gray already"


@runtime_checkable
class Hides(Protocol):
    """A corruption that takes whole pixels away."""

    def hidden(self, image: jax.Array, key: jax.Array) -> jax.Array: ...


Corruption: TypeAlias = Annotated[
    GaussianNoise | Masking | SaltPepper | Block | Downsample | Grayscale, Field(discriminator="name")
]
Corruptions: TypeAlias = Annotated[
    tuple[Corruption, ...], BeforeValidator(lambda value: (value,) if isinstance(value, dict) else value)
]
"""In a config, one of them or a list, applied in its order."""


def corrupt(corruptions: Sequence[Corruption], image: jax.Array, key: jax.Array) -> jax.Array:
    """One after another, [B, H, W, C] -> the same. Unlike the image, the result may leave [0, 1]."""
    for number, corruption in enumerate(corruptions):
        image = corruption(image, jax.random.fold_in(key, number))
    return image


def hidden(corruptions: Sequence[Corruption], image: jax.Array, key: jax.Array) -> jax.Array | None:
    """Which pixels of `corrupt(corruptions, image, key)` are hidden, [B, H, W, 1] bool; None where none can be."""
    regions = [
        corruption.hidden(image, jax.random.fold_in(key, number))
        for number, corruption in enumerate(corruptions)
        if isinstance(corruption, Hides)
    ]
    return jnp.stack(regions).any(axis=0) if regions else None


def label(corruptions: Sequence[Corruption]) -> str:
    """`gaussian 0.25`, or several with plus signs."""
    return " + ".join(" ".join(f"{value}" for value in corruption.model_dump().values()) for corruption in corruptions)


def default_set(spec: Spec) -> list[tuple[Corruption, ...]]:
    """What a model is tried with that was not trained on corrupted images."""
    third = min(spec.height, spec.width) // 3
    tried: list[Corruption] = [
        GaussianNoise(name="gaussian", sigma=0.25),
        Masking(name="masking", p=0.5),
        Block(name="block", size=third),
        Downsample(name="downsample", factor=2),
    ]
    return [(corruption,) for corruption in tried if not list(corruption.objections(spec))]


def corruption_objections(corruptions: Sequence[Corruption], spec: Spec) -> Iterable[Objection]:
    """Why images of such a form cannot be corrupted so."""
    for corruption in corruptions:
        for message in corruption.objections(spec):
            yield Objection("corruption", f"{corruption.name}: {message}", "leave it out, or change data.size or data.channels")
