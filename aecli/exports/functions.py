"""What a trained model does, as functions from arrays to an array, each with the form of what it takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from aecli.core.abilities import abilities
from aecli.core.learner import Learner
from aecli.core.model import Batch
from aecli.runs.trained import Trained

NllOf: TypeAlias = Callable[[Any, Batch, jax.Array], jax.Array]
"""(state, batch, key) -> -log p(x) of each image in nats, [n], estimated from importance samples."""
KEY = "key"
"""What the input is called that decides all that a function draws."""


class Form(NamedTuple):
    """An array that a function takes or gives: `shape` is what follows the number of examples, all of it if it is not `each`."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    about: str
    each: bool = True

    def of(self, n: Any) -> jax.ShapeDtypeStruct:
        """The form of n examples, of a number or of a symbol for any."""
        return jax.ShapeDtypeStruct((n, *self.shape) if self.each else self.shape, jnp.dtype(self.dtype))

    def as_json(self) -> dict[str, Any]:
        shape: list[int | str] = [*(["n"] if self.each else []), *self.shape]
        return {"name": self.name, "shape": shape, "dtype": self.dtype, "about": self.about}


class Function(NamedTuple):
    """`call` takes arrays of the forms of `inputs`, in their order, and can be traced for any number of examples."""

    name: str
    inputs: tuple[Form, ...]
    output: Form
    call: Callable[..., jax.Array]

    @property
    def is_random(self) -> bool:
        return any(form.name == KEY for form in self.inputs)


class Maker:
    """Makes the functions of a trained model, whose `state` lies on one device; `nll` is for models that weigh codes."""

    def __init__(self, trained: Trained, state: Any, nll: NllOf, samples: int) -> None:
        self._trained, self._state, self._nll, self._samples = trained, state, nll, samples
        self._model: Any = trained.model
        spec = trained.spec
        vector = spec.kind == "vector"
        shape = (spec.width,) if vector else spec.shape
        self._image = Form("vector" if vector else "image", shape, "float32", self._range())
        self._label = Form("label", (), "int32", f"the class of each, 0 to {spec.classes - 1}")
        self._given = Form("given", spec.shape, "float32", "the image that each is given, made as the config's model.given says")
        self._key = Form(KEY, (2,), "uint32", "decides what is drawn; any two numbers", each=False)

    def make(self, name: str) -> Function:
        """The function of a name of MADE, of a model that is able to do it."""
        return MADE[name](self)

    def encode(self) -> Function:
        forms, batch_of = self._shown()
        length = jax.eval_shape(self._model.encode, self._state, self._model.abstract_batch(1, self._trained.spec)).shape[1]
        code = Form("code", (length,), "float32", "the code; of a distribution over codes its mean")
        return Function(
            "encode", forms, code, lambda *given: self._model.encode(self._state, batch_of(given)).astype(jnp.float32)
        )

    def decode(self) -> Function:
        code = self.encode().output
        return self._drawn(
            "decode", (code,), lambda code, label: self._model.decode(self._state, code, label), lambda given: given[0].shape[0]
        )

    def reconstruct(self) -> Function:
        forms, batch_of = self._shown()
        made = self._image._replace(name="reconstruction")  # in a file no two arrays have one name
        return Function(
            "reconstruct", forms, made, lambda *given: self._away(self._model.reconstruct(self._state, batch_of(given)))
        )

    def sample(self) -> Function:
        """Takes a label of each draw of any model: an unconditional one heeds how many there are."""

        def call(key: jax.Array, label: jax.Array) -> jax.Array:
            return self._away(self._model.sample(self._state, jax.random.wrap_key_data(key), label, 1.0))

        about = self._label.about if self._model.is_conditional else "one for each image to draw, of any value"
        return Function("sample", (self._key, self._label._replace(about=about)), self._image, call)

    def score(self) -> Function:
        forms, batch_of = self._shown()
        if "scores" in abilities(self._model):
            output = Form("nll_nats", (), "float32", "-log p(x)")
            return Function("score", forms, output, lambda *given: -self._model.log_prob(self._state, batch_of(given)))
        output = Form("nll_nats", (), "float32", f"an upper bound on -log p(x), of {self._samples} importance samples")

        def call(*given: jax.Array) -> jax.Array:
            return self._nll(self._state, batch_of(given[:-1]), jax.random.wrap_key_data(given[-1]))

        return Function("score", (*forms, self._key), output, call)

    def _drawn(
        self, name: str, forms: tuple[Form, ...], made: Callable[..., jax.Array], count: Callable[[Sequence[Any]], Any]
    ) -> Function:
        """Images from other arrays and, of a conditional model, the label."""
        if self._model.is_conditional:
            return Function(name, (*forms, self._label), self._image, lambda *given: self._away(made(*given)))
        return Function(name, forms, self._image, lambda *given: self._away(made(*given, _no_label(count(given)))))

    def _shown(self) -> tuple[tuple[Form, ...], Callable[[Sequence[Any]], Batch]]:
        """The forms of what a function of images takes, and the batch that they make."""
        conditional, is_given = self._model.is_conditional, bool(self._model.given_corruptions)
        forms = (self._image, *([self._label] if conditional else []), *([self._given] if is_given else []))
        scaling, shape = self._trained.scaling, self._trained.spec.shape

        def batch_of(arrays: Sequence[Any]) -> Batch:
            by_name = {form.name: array for form, array in zip(forms, arrays, strict=True)}
            n = arrays[0].shape[0]
            image = by_name[self._image.name].reshape(n, *shape)
            if scaling is not None:
                image = (image - jnp.asarray(scaling.mean)[None]) / jnp.asarray(scaling.scale)[None]
            label = by_name["label"] if conditional else _no_label(n)
            return Batch(image, label, jnp.ones(n, jnp.bool_), given=by_name.get("given"))

        return forms, batch_of

    def _away(self, made: jax.Array) -> jax.Array:
        """What a model made as it is given away: images clipped to [0, 1], vectors [n, d] in the units of the data."""
        made, scaling = made.astype(jnp.float32), self._trained.scaling
        if self._trained.spec.kind == "image":
            return jnp.clip(made, 0.0, 1.0)
        if scaling is not None:
            made = made * jnp.asarray(scaling.scale)[None] + jnp.asarray(scaling.mean)[None]
        return made.reshape(made.shape[0], -1)

    def _range(self) -> str:
        if self._trained.spec.kind == "vector":
            return "in the units of the data"
        binary = self._trained.experiment.data.binarize != "none" or getattr(self._model, "support", lambda: None)() == 2
        return "in [0, 1]" + (", its likelihood of pixels that are 0 or 1" if binary else "")


MADE: dict[str, Callable[[Maker], Function]] = {
    "encode": Maker.encode,
    "decode": Maker.decode,
    "reconstruct": Maker.reconstruct,
    "sample": Maker.sample,
    "score": Maker.score,
}
"""What can be exported, in the order in which it is."""


def _no_label(n: Any) -> jax.Array:
    return jnp.full((n,), -1, jnp.int32)


def averaged(state: Any) -> Any:
    """A state with each learner's weights alone in its place, the averaged ones where there are any: what an evaluation uses."""

    def weights(part: Any) -> Any:
        return part if not isinstance(part, Learner) else part.params if part.ema is None else part.ema

    return jax.tree.map(weights, state, is_leaf=lambda part: isinstance(part, Learner))
