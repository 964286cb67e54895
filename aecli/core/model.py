"""The contract between a model family and the program that trains, evaluates and samples it.

A variant is one file under `aecli/models/` with one final subclass of `Model`. The runner never asks which variant it has:
it asks for abilities, the small protocols of `abilities.py`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.core.contract import ContractError
from aecli.core.frozen import Frozen
from aecli.core.learner import Learner, Recipe

Values: TypeAlias = Mapping[str, jax.Array]
"""Metric name -> one value per example, [B] float32. The unit is in the name (`rate_nats`); `loss` is the objective."""


Temperature: TypeAlias = jax.Array | float
"""Multiplies the standard deviation of continuous codes, divides the log-probabilities of discrete values."""


Kind: TypeAlias = Literal["image", "vector"]

WITHOUT_GIVEN = ("samples", "decodes", "reconstructs", "completes", "continues")
"""The abilities that no model of images given another one has: what they take holds none, or is no whole image of which there
could be one."""


class Spec(NamedTuple):
    """What the data looks like: all that a model may know about it. `classes` is 0 where there are no labels.

    `kind` says what an array is: an `image`, whose neighbours in height and width are neighbours in the world, or a `vector`,
    whose values stand in no order. A vector of d values has the shape (1, d, 1): a value is what a pixel is of an image, so
    that masks and corruptions take single values, and a Bernoulli likelihood does not take them for colours. `paired`: whether
    the data brings with each image another one of its form, `Batch.pair`."""

    height: int
    width: int
    channels: int
    classes: int
    kind: Kind = "image"  # which runs of before there was another one do not say
    paired: bool = False  # and neither do they say this

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """The form that an example is kept in: of a pair both images, one behind the other in the channels."""
        return self.height, self.width, self.channels * (2 if self.paired else 1)

    @property
    def size(self) -> int:
        """Dimensions of one image: what 'per pixel' and 'per dimension' divide by."""
        return self.height * self.width * self.channels


class Batch(NamedTuple):
    """`image` [B, H, W, C] float32 in [0, 1]; `label` [B] int32, -1 where there is none; `mask` [B] bool, False for the
    padding of the last batch of an evaluation; `intensity` [B, H, W, C], the probabilities that a binary image was drawn with,
    in training on drawn images alone; `hidden` [B, H, W, 1] bool, which pixels were taken away from `image`, so that nobody
    need guess it from zeros. Whoever takes pixels away sets it; it is None if none were: of clean images, and of corrupted
    ones that keep something of every pixel. `given` [B, H, W, C], the image that a model of images given another one is told;
    `Model.give` sets it. `pair` [B, H, W, C], the image that the data pairs with it, None of data without pairs."""

    image: jax.Array
    label: jax.Array
    mask: jax.Array
    intensity: jax.Array | None = None
    hidden: jax.Array | None = None
    given: jax.Array | None = None
    pair: jax.Array | None = None

    @classmethod
    def abstract(cls, n: int, spec: Spec) -> Any:
        """The form of a batch of n, for `jax.eval_shape`."""
        form = jax.ShapeDtypeStruct
        image: Any = form((n, *spec.shape), jnp.float32)
        label: Any = form((n,), jnp.int32)
        mask: Any = form((n,), jnp.bool_)
        return cls(image, label, mask, pair=image if spec.paired else None)


class Objection(NamedTuple):
    """Why a model cannot serve the data: the setting at fault (a key of the model block), what is wrong, and the fix."""

    key: str
    message: str
    help: str


def no_labels(spec: Spec) -> Iterable[Objection]:
    """What a conditional model says of data without labels."""
    if not spec.classes:
        yield Objection("conditional", "the data has no labels to condition on", "set conditional: false, or label the data")


def of_pictures(spec: Spec, key: str, setting: str, instead: str) -> Iterable[Objection]:
    """What a setting that supposes neighbours in height and width, or intensities, says of vectors."""
    if spec.kind == "vector":
        yield Objection(key, f"{setting} is for images, and the data is vectors", instead)


def not_tiled(patch: int, spec: Spec) -> Iterable[Objection]:
    """Of squares of patch x patch pixels that do not fill an image."""
    if spec.height % patch or spec.width % patch:
        sides = [p for p in range(1, 9) if spec.height % p == 0 and spec.width % p == 0]
        message = f"squares of {patch} do not tile images of {spec.height}x{spec.width}"
        yield Objection("patch", message, f"one of {', '.join(map(str, sides))}, or data.size")


def latent_too_large(latent: int, spec: Spec) -> Iterable[Objection]:
    """What a model with a code says of images with fewer values than it."""
    if latent > spec.size:
        yield Objection("latent", f"{latent} latents for {spec.kind}s of {spec.size} values", f"at most {spec.size}")


def one_hot(label: jax.Array, classes: int) -> jax.Array:
    """[B] int32 -> [B, classes] float32; zeros for -1, no label."""
    return jax.nn.one_hot(label, classes)


class Model(Frozen):
    """A model family and how it learns. Hyperparameters only: arrays live in the state, which `init` makes and every other
    method takes, a pytree of any type. All methods can be traced by jit with `self` static.

    `kinds`: which kinds of data the model serves, of those of `Spec.kind`. One that serves vectors has a likelihood of any
    number, and clips nothing that it makes of them to [0, 1]. `loss_unit`: in what `loss` is at evaluation."""

    kinds: ClassVar[tuple[Kind, ...]] = ("image",)
    loss_unit: ClassVar[str] = "nats"

    @property
    def variant(self) -> str:
        """The name in `model.variant`: the file's."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def is_conditional(self) -> bool:
        """Whether the model is one of images given their label: its setting `conditional`, if it has one."""
        return bool(getattr(self, "conditional", False))

    @property
    def corruptions(self) -> tuple[Any, ...]:
        """What is done to the images that the model is shown: its setting `corruption`, if it has one."""
        return tuple(getattr(self, "corruption", ()))

    @property
    def given_corruptions(self) -> tuple[Any, ...]:
        """What makes of an image x the one c(x) that a model of p(x | c(x)) is given: its setting `given`, if it has one."""
        return tuple(getattr(self, "given", ()))

    @property
    def withheld(self) -> Mapping[str, str]:
        """Abilities that the model lacks by its settings though its class has them, and why."""
        if self.given_corruptions:
            return dict.fromkeys(WITHOUT_GIVEN, "its images are drawn given another one (model.given)")
        return {"translates": "it is given no image (model.given)"}

    @property
    def target_activation(self) -> float | None:
        """The mean activation that the objective aims at; None if it aims at none."""
        return None

    @property
    def schedules(self) -> Sequence[str]:
        """The settings, of those that are set, that say in steps of training when something begins or ends; none by default."""
        return ()

    @property
    def arrays_told(self) -> Mapping[str, str]:
        """What arrays of a state are, by the path that an export gives them, where the name does not say it; none by default."""
        return {}

    def objections(self, spec: Spec) -> Iterable[Objection]:
        """Why this model cannot serve such data, found before anything is compiled; none by default."""
        return ()

    def corrupt(self, batch: Batch, key: jax.Array) -> Batch:
        """What the model is shown in place of clean images: the batch with another `image`, and `hidden` where pixels were
        taken away; by default the batch as it is. The target of a loss is the image of the batch that is given."""
        return batch

    def give(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch with what the model is `given` of each image, a function of the key where that is random; as it is by
        default, and where it has that already. Abilities take batches that were made so."""
        return batch

    def given_of(self, batch: Batch) -> jax.Array | None:
        """What the model is given of each image of a batch, None if it is given nothing. Raises ContractError if the batch should
        hold it and does not."""
        if not self.given_corruptions:
            return None
        if batch.given is None:
            raise ContractError(
                "a batch holds no image for a model that is given one",
                "a model of images given another one takes batches from its own `give`",
                "batch = model.give(batch, key)",
                type(self).__module__,
            )
        return batch.given

    def abstract_batch(self, n: int, spec: Spec) -> Any:
        """The form of a batch of n as abilities take it, for `jax.eval_shape`."""
        return jax.eval_shape(self.give, Batch.abstract(n, spec), jax.random.key(0))

    def part_size(self, n: int, shape: tuple[int, int, int]) -> int:
        """Into parts of how many images `train_step` and `evaluate` cut a batch of n."""
        return n

    @abstractmethod
    def init(self, key: jax.Array, spec: Spec, recipe: Recipe) -> Any:
        """The state before the first step."""

    @abstractmethod
    def train_step(self, state: Any, batch: Batch, key: jax.Array) -> tuple[Any, Values]:
        """One step of every optimizer that the model has."""

    @abstractmethod
    def evaluate(self, state: Any, batch: Batch, key: jax.Array) -> Values:
        """The values of held-out images; `loss` among them."""


class SingleLoss(Model):
    """One network, one loss, one optimizer: fills in everything but the two."""

    @abstractmethod
    def build(self, spec: Spec, rngs: nnx.Rngs) -> Any:
        """The network, an `nnx.Module` that holds parameters and nothing else."""

    @abstractmethod
    def loss(self, net: Any, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        """Per-example values; `loss` is the one minimized. `step` counts the steps done, for schedules; it is None at
        evaluation, where schedules have ended and what only helps training is off."""

    def init(self, key: jax.Array, spec: Spec, recipe: Recipe) -> Learner[Any]:
        net = self.build(spec, nnx.Rngs(key))
        try:
            return Learner.create(net, recipe)
        except ContractError as error:
            error.module = type(self).__module__
            raise

    def part_size(self, n: int, shape: tuple[int, int, int]) -> int:
        most = self.at_once(shape)
        if most is None or most >= n or jax.default_backend() != "cpu" or jax.device_count() > 1:
            return n
        return next(size for size in range(max(1, most), 0, -1) if n % size == 0)

    def at_once(self, shape: tuple[int, int, int]) -> int | None:
        """How many images of this shape a CPU trains on, or evaluates, at once; the gradients of several such parts of a batch
        are averaged. For networks whose activations for a whole batch fall out of the caches, and losses in which no example
        depends on another."""
        return None

    def train_step(self, state: Learner[Any], batch: Batch, key: jax.Array) -> tuple[Learner[Any], Values]:
        def objective(net: Any, part: tuple[Batch, jax.Array]) -> tuple[jax.Array, Values]:
            values = self._values(net, *part, state.step)
            return values["loss"].mean(), values

        batch = self.give(batch, key)
        parts = self._parts(batch, key)
        if parts is None:
            return state.descend(lambda net: objective(net, (batch, key)))
        state, values = state.descend_in_parts(objective, parts)
        return state, {name: value.reshape(batch.image.shape[0]) for name, value in values.items()}

    def evaluate(self, state: Learner[Any], batch: Batch, key: jax.Array) -> Values:
        batch = self.give(batch, key)
        n, cut = batch.image.shape[0], self._parts(batch, key)
        if cut is None:
            return self._values(state.net, batch, key, None)
        values = jax.lax.map(lambda part: self._values(state.net, part[0], part[1], None), cut)
        return {name: value.reshape(n) for name, value in values.items()}

    def _parts(self, batch: Batch, key: jax.Array) -> tuple[Batch, jax.Array] | None:
        """The batch in parts of `part_size`, and a key for each; None where that is all of it."""
        n, height, width, channels = batch.image.shape
        size = self.part_size(n, (height, width, channels))
        if size == n:
            return None
        return jax.tree.map(lambda leaf: leaf.reshape(n // size, size, *leaf.shape[1:]), batch), jax.random.split(key, n // size)

    def _values(self, net: Any, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        return check_values(self, "loss", self.loss(net, batch, key, step), batch.image.shape[0])


def check_values(model: Model, method: str, values: Any, n: int) -> Values:
    """The values that a method of a model returned for n examples. Raises ContractError if one of them isn't one number per
    example, or the loss is missing: a scalar would be averaged as if it were the sum of a batch."""
    named = isinstance(values, Mapping)
    wrong = [
        f"{name}: {_form(value)}"
        for name, value in {"loss": None, **(values if named else {})}.items()
        if getattr(value, "shape", None) != (n,)
    ]
    if wrong:
        raise ContractError(
            f"of {n} images {method} returned {', '.join(wrong) if named else _form(values)}",
            f"{method} returns a mapping from names to one value per example, [B]; `loss` is among the names",
            "sum over all axes but the first; what is one number of a whole batch is repeated, jnp.full(len(batch.image), x)",
            type(model).__module__,
        )
    return values


def check_codes_values(model: Model, values: Any) -> Values:
    """What `measure_codes` of a model returned. Raises ContractError if that is not numbers by name."""
    named = isinstance(values, Mapping)
    wrong = [
        f"{name}: {_form(value)}" for name, value in (values.items() if named else ()) if getattr(value, "shape", None) != ()
    ]
    if wrong or not named:
        raise ContractError(
            f"measure_codes returned {', '.join(wrong) if named else _form(values)}",
            "measure_codes returns a mapping from names to one number each, an array [], of the whole set of codes",
            "take the mean, and leave constants to jnp.asarray",
            type(model).__module__,
        )
    return values


def _form(value: Any) -> str:
    return f"an array of shape {value.shape}" if hasattr(value, "shape") else "nothing" if value is None else type(value).__name__


def loss_first(names: Iterable[str]) -> list[str]:
    """jit returns a dict in alphabetical order; a reader wants the objective before its terms."""
    return sorted(names, key=lambda name: name != "loss")
