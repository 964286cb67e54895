"""Corruptions of images: what a model that is to restore them is shown. Each is one class, which says all there is to know of
it; CONTRIBUTING.md tells how to add one.

Vincent et al. 2010, "Stacked denoising autoencoders", section 3.3 (Gaussian, masking, salt and pepper); Pathak et al. 2016,
"Context encoders" (block). Noise is not clipped: a clipped input would be another, easier problem.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from aecli.core.contract import ContractError
from aecli.core.frozen import Frozen
from aecli.core.model import Batch, Objection, Spec, of_pictures
from aecli.distributions.in_turn import ONE_OR_LIST, in_turn
from aecli.measures.baselines.filters import Restorer, bicubic, mean_fill, median
from aecli.measures.baselines.linear import Seen

GIVEN = 0x61656369
"""What a key is folded with to draw the image that a model is given: not the number of a part of a batch, or of a corruption, by
which the random numbers of the loss are told apart."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601)."""


class Corrupts(Frozen):
    """What is asked of a corruption. Its fields are its settings: `name`, the one value of which a config gives, and how strong
    it is; at strength 0 it is the identity. `of_pictures`: whether it supposes neighbours in height and width, or intensities
    from 0 to 1, and so means nothing of vectors. `of_pairs`: whether it is applied to the image that the data pairs with an
    image, in place of the image. `fix` is what to do about its objections."""

    of_pictures: ClassVar[bool] = True
    of_pairs: ClassVar[bool] = False
    fix: ClassVar[str] = "leave it out, or change data.size or data.channels"

    @abstractmethod
    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """[B, H, W, C] -> the same shape and type. A function of its arguments: what is random is drawn from the key."""

    def hidden(self, image: jax.Array, key: jax.Array) -> jax.Array | None:
        """Which pixels `self(image, key)` takes away with all that they told, [B, H, W, 1] bool; None by default, of a
        corruption that changes pixels and takes none away."""
        return None

    def objections(self, spec: Spec) -> Iterable[str]:
        """Why images of such a form cannot be corrupted so; none by default."""
        return ()

    def usual(self) -> Restorer | None:
        """The classical method that it is usually met with, a baseline of every model that restores; none by default."""
        return None

    def moments(self, of: Seen, spec: Spec) -> Seen | None:
        """The moments of what it makes of images, or of corrupted ones, with such moments, in the expectation over its key: by
        them the best affine restorer is known without an image. None by default: they are then measured on train images."""
        return None


class Hides(Corrupts):
    """Takes whole pixels away: they are 0 in all channels. Such a corruption says which, and nothing else."""

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.where(self.hidden(image, key), 0.0, image)

    @abstractmethod
    def hidden(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Which pixels, [B, H, W, 1] bool."""

    def kept(self, spec: Spec) -> NDArray[np.float64] | None:
        """The chance that neither of two pixels is hidden, [H W, H W], on the diagonal that a pixel is not; None by default, of a
        corruption that doesn't know it."""
        return None

    def usual(self) -> Restorer | None:
        return Restorer("mean fill", mean_fill)

    def moments(self, of: Seen, spec: Spec) -> Seen | None:
        pixels = self.kept(spec)
        if pixels is None:
            return None
        kept = pixels.repeat(spec.channels, axis=0).repeat(spec.channels, axis=1)
        each = kept.diagonal()
        return Seen(of.clean, each * of.mean, kept * of.square, each[:, None] * of.cross)


class Linear(Corrupts):
    """A linear map of images, the same for all of them."""

    def moments(self, of: Seen, spec: Spec) -> Seen:
        images = jnp.eye(spec.size).reshape(-1, *spec.shape)
        made = np.asarray(self(images, jax.random.key(0)), np.float64).reshape(spec.size, -1)  # a row a value of the image
        return Seen(of.clean, of.mean @ made, made.T @ of.square @ made, made.T @ of.cross)


class GaussianNoise(Corrupts):
    """x + sigma e, e ~ N(0, 1) per value."""

    of_pictures: ClassVar[bool] = False
    name: Literal["gaussian"] = Field(description="adds Gaussian noise to each value")
    sigma: NonNegativeFloat = Field(description="standard deviation of the noise, where intensities go from 0 to 1")

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return image + self.sigma * jax.random.normal(key, image.shape)

    def usual(self) -> Restorer | None:
        return Restorer("median 3x3", median)

    def moments(self, of: Seen, spec: Spec) -> Seen:
        return of._replace(square=of.square + self.sigma**2 * np.eye(spec.size))


class Masking(Hides):
    """Each pixel, all its channels, is 0 with probability p."""

    of_pictures: ClassVar[bool] = False
    name: Literal["masking"] = Field(description="sets pixels to 0")
    p: float = Field(ge=0, le=1, description="probability that a pixel is 0")

    def hidden(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, (*image.shape[:3], 1)) < self.p

    def kept(self, spec: Spec) -> NDArray[np.float64]:
        pixels = spec.height * spec.width
        return np.where(np.eye(pixels, dtype=bool), 1 - self.p, (1 - self.p) ** 2)


class SaltPepper(Corrupts):
    """Each value is, with probability p, 0 or 1 with equal chance."""

    name: Literal["salt_pepper"] = Field(description="sets values to 0 or 1")
    p: float = Field(ge=0, le=1, description="probability that a value is replaced")

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        u = jax.random.uniform(key, image.shape)
        return jnp.where(u < self.p, (u < self.p / 2).astype(image.dtype), image)

    def usual(self) -> Restorer | None:
        return Restorer("median 3x3", median)

    def moments(self, of: Seen, spec: Spec) -> Seen:
        keep, white = 1 - self.p, self.p / 2
        square = keep**2 * of.square + keep * white * (of.mean[:, None] + of.mean) + white**2
        square[np.diag_indices(len(square))] = keep * of.square.diagonal() + white  # of 0 and 1 the squares are 0 and 1
        return Seen(of.clean, keep * of.mean + white, square, keep * of.cross + white * of.clean)


class Block(Hides):
    """A square of `size` pixels at a random place of each image is 0."""

    name: Literal["block"] = Field(description="sets a square at a random place to 0")
    size: NonNegativeInt = Field(description="side of the square in pixels")

    def hidden(self, image: jax.Array, key: jax.Array) -> jax.Array:
        n, height, width, _ = image.shape
        down, right = jax.random.split(key)
        top = jax.random.randint(down, (n, 1), 0, height - self.size + 1)
        left = jax.random.randint(right, (n, 1), 0, width - self.size + 1)
        y, x = jnp.arange(height)[None], jnp.arange(width)[None]
        rows, columns = (y >= top) & (y < top + self.size), (x >= left) & (x < left + self.size)
        return rows[:, :, None, None] & columns[:, None, :, None]

    def kept(self, spec: Spec) -> NDArray[np.float64]:
        # Of two pixels both are hidden where both of their rows and both of their columns are.
        (one, rows), (other, columns) = (self._hidden_lines(side) for side in (spec.height, spec.width))
        alone = np.outer(one, other).ravel()
        both = np.einsum("ac,bd->abcd", rows, columns).reshape(len(alone), len(alone))
        return 1 - alone[:, None] - alone + both

    def _hidden_lines(self, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The chance that a line of pixels crosses the square, [side], and that two do, [side, side]."""
        line, first = np.arange(side), np.arange(side - self.size + 1)[:, None]
        crosses = ((line >= first) & (line < first + self.size)).astype(np.float64)
        return crosses.mean(0), crosses.T @ crosses / len(first)

    def objections(self, spec: Spec) -> Iterable[str]:
        if self.size > min(spec.height, spec.width):
            yield f"a block of {self.size} does not fit into images of {spec.height}x{spec.width}"


class Downsample(Linear):
    """Averages squares of `factor` pixels and repeats the average: the image at lower resolution, at its old size. Factor 1 is
    the identity."""

    name: Literal["downsample"] = Field(description="averages squares of pixels")
    factor: PositiveInt = Field(description="side of a square in pixels; divides height and width")

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        n, height, width, channels = image.shape
        f = self.factor
        small = image.reshape(n, height // f, f, width // f, f, channels).mean(axis=(2, 4))
        return small.repeat(f, axis=1).repeat(f, axis=2)

    def objections(self, spec: Spec) -> Iterable[str]:
        if spec.height % self.factor or spec.width % self.factor:
            yield f"a factor of {self.factor} does not divide {spec.height}x{spec.width} pixels"

    def usual(self) -> Restorer | None:
        return Restorer("bicubic", partial(bicubic, factor=self.factor))


class Grayscale(Linear):
    """All three channels become the luma."""

    name: Literal["grayscale"] = Field(description="all three channels become the luma")

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.broadcast_to(_luma(image), image.shape)

    def objections(self, spec: Spec) -> Iterable[str]:
        if spec.channels != 3:
            yield "the images are gray already"


class Outline(Corrupts):
    """In every channel 1 where the gradient of the luma is greater than `threshold`, 0 elsewhere: the image as a line drawing.

    The gradient is Sobel's, divided so that a straight step between two pixels has its height for magnitude, on both of them: a
    `threshold` of 0.25 is met by steps of more than a quarter of the range from black to white, whatever range an image itself
    has. The pixels at the rim are repeated beyond it, so that the rim is no line. Of an image that is all alike nothing is left.
    """

    name: Literal["outline"] = Field(description="a line drawing of the image")
    threshold: float = Field(ge=0, le=1, description="the step from black (0) to white (1) above which a line is drawn")

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        gray = image if image.shape[-1] == 1 else _luma(image)
        padded = jnp.pad(gray, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        # Differences before sums: those of equal values are exactly 0.
        y, x = padded[:, 2:] - padded[:, :-2], padded[:, :, 2:] - padded[:, :, :-2]
        y, x = (y[:, :, :-2] + 2 * y[:, :, 1:-1] + y[:, :, 2:]) / 4, (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
        return jnp.broadcast_to(y**2 + x**2 > self.threshold**2, image.shape).astype(image.dtype)


class Paired(Corrupts):
    """The image that the data pairs with an image, as it is: what a model makes images of is then no function of them."""

    of_pairs: ClassVar[bool] = True
    fix: ClassVar[str] = "set data.name: pairs"
    name: Literal["paired"] = Field(description="the image that the data pairs with an image")

    def __call__(self, image: jax.Array, key: jax.Array) -> jax.Array:
        return image

    def objections(self, spec: Spec) -> Iterable[str]:
        if not spec.paired:
            yield "the data has no pairs"


def _luma(image: jax.Array) -> jax.Array:
    """[B, H, W, 3] -> [B, H, W, 1]."""
    return image @ jnp.asarray(LUMA)[:, None]


Corruption: TypeAlias = Annotated[
    GaussianNoise | Masking | SaltPepper | Block | Downsample | Grayscale | Outline | Paired, Field(discriminator="name")
]
"""What a config may name."""
Corruptions: TypeAlias = Annotated[tuple[Corruption, ...], ONE_OR_LIST]
"""In a config, one of them or a list, applied in its order."""


def of_pairs(corruptions: Sequence[Corruption]) -> bool:
    """Whether they begin with the image that the data pairs with an image, so that what they make is not made of the image."""
    return any(corruption.of_pairs for corruption in corruptions)


def _source(corruptions: Sequence[Corruption], batch: Batch) -> jax.Array:
    """The images that they are applied to. Raises ContractError if those are of pairs, and the batch holds none."""
    if not of_pairs(corruptions):
        return batch.image
    if batch.pair is None:
        raise ContractError(
            "a batch holds no pairs for a model that is shown them",
            "what is shown of pairs (name: paired) takes batches of data that has them",
            "batch = batch._replace(pair=images)",
        )
    return batch.pair


def as_shown(corruptions: Sequence[Corruption], batch: Batch) -> Batch:
    """The batch with the images that its images are paired with in their place, if these are what a model is shown."""
    return batch._replace(image=batch.pair) if of_pairs(corruptions) and batch.pair is not None else batch


def corrupt(corruptions: Sequence[Corruption], image: jax.Array, key: jax.Array) -> jax.Array:
    """One after another, [B, H, W, C] -> the same. Unlike the image, the result may leave [0, 1]."""
    return in_turn(corruptions, image, key)


def hidden(corruptions: Sequence[Corruption], image: jax.Array, key: jax.Array) -> jax.Array | None:
    """Which pixels of `corrupt(corruptions, image, key)` are hidden, [B, H, W, 1] bool; None if none can be."""
    return _union(corruption.hidden(image, jax.random.fold_in(key, number)) for number, corruption in enumerate(corruptions))


def _union(regions: Iterable[jax.Array | None]) -> jax.Array | None:
    known = [region for region in regions if region is not None]
    return jnp.stack(known).any(axis=0) if known else None


def label(corruptions: Sequence[Corruption]) -> str:
    """`gaussian 0.25`, or several with plus signs."""
    return " + ".join(" ".join(f"{value}" for value in corruption.model_dump().values()) for corruption in corruptions)


def corrupt_batch(corruptions: Sequence[Corruption], batch: Batch, key: jax.Array) -> Batch:
    """The batch with `corrupt(corruptions, batch.image, key)` in place of its image, or that of its pair; `hidden` are the pixels
    that this takes away and those that were away before."""
    image = _source(corruptions, batch)
    away = _union([batch.hidden, hidden(corruptions, image, key)])
    return batch._replace(image=corrupt(corruptions, image, key), hidden=away)


def give_batch(corruptions: Sequence[Corruption], batch: Batch, key: jax.Array) -> Batch:
    """The batch with what they leave of its image, or of its pair, as `given`; as it is if there are none, or if something is
    given already."""
    if not corruptions or batch.given is not None:
        return batch
    return batch._replace(given=corrupt(corruptions, _source(corruptions, batch), jax.random.fold_in(key, GIVEN)))


def given_hidden(corruptions: Sequence[Corruption], batch: Batch, key: jax.Array) -> jax.Array | None:
    """Which pixels `give_batch` of the same key hides of what is given, [B, H, W, 1] bool; None if none can be."""
    return hidden(corruptions, batch.image, jax.random.fold_in(key, GIVEN))


def usual(corruptions: Sequence[Corruption]) -> Restorer | None:
    """The classical restorer of a corruption that stands alone; several in a row have none."""
    return corruptions[0].usual() if len(corruptions) == 1 else None


def default_set(spec: Spec) -> list[tuple[Corruption, ...]]:
    """What a model is tried with that was not trained on corrupted images. Of small images only what asks something of a
    restorer: none that changes nothing or leaves nothing."""
    shorter, pixels = min(spec.height, spec.width), spec.height * spec.width
    tried: list[tuple[Corruption, bool]] = [
        (GaussianNoise(name="gaussian", sigma=0.25), True),
        # All or none of n pixels are hidden once in 2^(n - 1) images: in fewer than 1 of 30,000.
        (Masking(name="masking", p=0.5), pixels >= 16),
        # A hole of 1 or 2 pixels is filled by its neighbours.
        (Block(name="block", size=shorter // 3), shorter // 3 >= 3),
        # Of 2 pixels the average is all that would be left.
        (Downsample(name="downsample", factor=2), shorter >= 4),
    ]
    return [(corruption,) for corruption, tells in tried if tells and not list(corruption.objections(spec))]


def corruption_objections(
    corruptions: Sequence[Corruption], spec: Spec, key: str = "corruption", pairs: bool = False
) -> Iterable[Objection]:
    """Why images of such a form cannot be corrupted so; `key` is the setting that asks for it. `pairs`: whether the model can be
    shown other images than those that it is of, as one cannot whose codes are of images."""
    for number, corruption in enumerate(corruptions):
        if corruption.of_pictures:
            yield from of_pictures(spec, key, corruption.name, "one of gaussian and masking")
        for message in corruption.objections(spec):
            yield Objection(key, f"{corruption.name}: {message}", corruption.fix)
        if corruption.of_pairs and not pairs:
            message = f"{corruption.name}: the codes of this model would be of the images that it makes, which it is not shown"
            yield Objection(key, message, "variant: denoising, or given: {name: paired} of a vae or an autoregressive model")
        if corruption.of_pairs and number:
            yield Objection(key, f"{corruption.name} undoes what is before it", f"put {corruption.name} first")


def given_objections(corruptions: Sequence[Corruption], spec: Spec) -> Iterable[Objection]:
    """Why a model of such data cannot be given what they make of it."""
    if corruptions and spec.kind == "vector":
        yield from of_pictures(spec, "given", "given", "leave it out")
    else:
        yield from corruption_objections(corruptions, spec, "given", pairs=True)


def moments(corruptions: Sequence[Corruption], of: Seen, spec: Spec) -> Seen | None:
    """Of what several in a row make of images with such moments; None if one of them does not know."""
    found: Seen | None = of
    for corruption in corruptions:
        found = None if found is None else corruption.moments(found, spec)
    return found
