"""What a model may be able to do, each ability a small protocol: the runner asks for abilities, never which variant it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax

from aecli.core.gaussian import Gaussian
from aecli.core.model import Batch, Model, Temperature, Values


@runtime_checkable
class Samples(Protocol):
    """Draws images from the model's distribution."""

    def sample(self, state: Any, key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """One image per entry of `label` [n] int32, its class, which only conditional models heed: [n, H, W, C] float32 in
        [0, 1]. A `temperature` below 1 narrows what is drawn from."""
        ...


@runtime_checkable
class Translates(Protocol):
    """Draws images given another one: of an outline, what may have had it."""

    def translate(self, state: Any, key: jax.Array, batch: Batch, temperature: Temperature = 1.0) -> jax.Array:
        """A draw of p(x | given) for each of `batch.given`, of a conditional model also given `batch.label`: [B, H, W, C] in
        [0, 1]. `batch.image` is not to be looked at."""
        ...


@runtime_checkable
class Reconstructs(Protocol):
    """Maps an image, or a corrupted one, to what is left of it after the code."""

    def reconstruct(self, state: Any, batch: Batch) -> jax.Array:
        """[B, H, W, C] in [0, 1]. Of a corrupted image `batch.hidden` says which pixels were taken away."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """Maps an image to a code."""

    def encode(self, state: Any, batch: Batch) -> jax.Array:
        """[B, latent]; of a distribution over codes, its mean."""
        ...


@runtime_checkable
class Represents(Protocol):
    """Knows more of an image than its code is the best form of for whatever is learnt from it: its code is summed up over all
    places, or holds each of them."""

    def encode(self, state: Any, batch: Batch) -> jax.Array:
        """[B, latent], as of `Encodes`."""
        ...

    def features(self, state: Any, batch: Batch) -> jax.Array:
        """What probes and clusterings are given in place of the code, [B, n]."""
        ...


@runtime_checkable
class Infers(Protocol):
    """Maps an image to a distribution over codes."""

    def posterior(self, state: Any, batch: Batch) -> Gaussian:
        """q(z | x), whose mean is what `encode` gives."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Maps a code to an image."""

    def decode(self, state: Any, code: jax.Array, label: jax.Array) -> jax.Array:
        """[B, latent] as `encode` gives them, and [B] int32 classes -> [B, H, W, C] in [0, 1]."""
        ...


@runtime_checkable
class Activates(Protocol):
    """Has a code of units of which few are active."""

    def active(self, state: Any, batch: Batch) -> jax.Array:
        """Which units are, [B, units] bool."""
        ...


@runtime_checkable
class Quantizes(Protocol):
    """Has codes from a finite set, numbered from 0."""

    def code_count(self) -> int:
        """The size of the set."""
        ...

    def codes_of(self, state: Any, batch: Batch) -> jax.Array:
        """The codes of each image, [B, n] int32."""
        ...


@runtime_checkable
class MeasuresCodes(Protocol):
    """Has an objective over the set of all codes, such as a distance of their distribution from the prior. It cannot be a value
    per example, and of batches that are padded and small it would be another number; so it is measured once, of a whole split."""

    def encode(self, state: Any, batch: Batch) -> jax.Array:
        """[B, latent], as of `Encodes`."""
        ...

    def measure_codes(self, codes: jax.Array, key: jax.Array) -> Values:
        """The codes of every image of a split, [n, latent], without padding -> name -> one number, []. What is called `loss` is
        added to the mean loss of the examples, which at evaluation leaves this part out."""
        ...


@runtime_checkable
class Completes(Protocol):
    """Draws the unknown part of an image given what is known before it, in the order in which the model makes values."""

    def complete(self, state: Any, key: jax.Array, batch: Batch, known: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """`known` [B, H, W, C] bool -> [B, H, W, C] in [0, 1], equal to `batch.image` where it is True. `batch.hidden` are the
        pixels that are not known in every channel; the values of `batch.image` there are not to be looked at."""
        ...


@runtime_checkable
class Continues(Protocol):
    """Has an exact likelihood of what follows given what comes before, in the order in which it makes the values of an image."""

    def rest_log_prob(self, state: Any, batch: Batch, known: jax.Array) -> jax.Array:
        """log p(unknown values | those before each), of a conditional model given the label, [B] nats; `known` [B, H, W, C] bool.
        It is log p(unknown | known) where no known value comes after an unknown one."""
        ...

    def rows_at_once(self) -> int:
        """After how many rows of pixels, and after every multiple of it, all that comes next is below."""
        ...


@runtime_checkable
class Scores(Protocol):
    """Has an exact likelihood."""

    def log_prob(self, state: Any, batch: Batch) -> jax.Array:
        """log p(x), of a conditional model log p(x | label), [B] nats."""
        ...

    def support(self) -> int | None:
        """How many levels a value of x may have; None for a density on [0, 1]."""
        ...


@runtime_checkable
class Weighs(Protocol):
    """Has a likelihood whose marginal over the codes can be estimated by importance sampling."""

    def log_weights(self, state: Any, batch: Batch, key: jax.Array, n: int) -> jax.Array:
        """log p(x, z) - log q(z | x) for n codes of each image, [n, B] nats: the logarithm of the expectation of their
        exponential is log p(x) (Burda et al. 2016, "Importance weighted autoencoders", section 3)."""
        ...

    def support(self) -> int | None:
        """As of `Scores`."""
        ...


@runtime_checkable
class WeighsTop(Protocol):
    """Has layers of codes, and a bound on the likelihood for which the lower ones need not be inferred."""

    def log_weights(self, state: Any, batch: Batch, key: jax.Array, n: int) -> jax.Array:
        """As of `Weighs`."""
        ...

    def log_weights_of_top(self, state: Any, batch: Batch, key: jax.Array, n: int) -> jax.Array:
        """log p(x | z) p(z_top) / q(z_top | x) for n codes of each image, z_top from q(z_top | x) and the lower layers from the
        prior given it, [n, B] nats. Their expectation is the bound L^>k of Havtorn et al. 2021 (arXiv 2102.08248), E of
        log p(x | z) p(z_>k) / q(z_>k | x) over p(z_<=k | z_>k) q(z_>k | x), where the k lower layers are all but the top one."""
        ...


ABILITIES: Mapping[str, type] = {
    "samples": Samples,
    "translates": Translates,
    "reconstructs": Reconstructs,
    "encodes": Encodes,
    "represents": Represents,
    "infers": Infers,
    "decodes": Decodes,
    "activates": Activates,
    "quantizes": Quantizes,
    "measures_codes": MeasuresCodes,
    "completes": Completes,
    "continues": Continues,
    "scores": Scores,
    "weighs": Weighs,
    "weighs_top": WeighsTop,
}


def features_of(model: Any) -> Callable[[Any, Batch], jax.Array]:
    """`features(state, batch)` of a model that encodes: its code, unless it has features of their own."""
    return model.features if isinstance(model, Represents) else model.encode


def abilities(model: Model | type[Model]) -> tuple[str, ...]:
    """The names of what a model can do, or a model of a class by some settings."""
    if isinstance(model, type):
        return tuple(name for name, protocol in ABILITIES.items() if issubclass(model, protocol))
    return tuple(name for name in abilities(type(model)) if name not in model.withheld)


def lacking(model: Model | type[Model], needed: Iterable[str]) -> tuple[str, ...]:
    """Those of the needed abilities that a model, or a class of models, lacks."""
    able = abilities(model)
    return tuple(name for name in needed if name not in able)


def told_lacking(model: Model, needed: Iterable[str]) -> str:
    """What a model lacks that has none of the needed abilities, and by which setting if it is for that."""
    why = next((f": {model.withheld[name]}" for name in needed if name in model.withheld and name in abilities(type(model))), "")
    return f"it lacks the ability {' or '.join(map(repr, needed))}{why}"
