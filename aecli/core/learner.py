"""One network, the optimizer that moves it, and its averaged weights: a pytree that jit can carry."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Generic, Literal, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from aecli.core.contract import ContractError
from aecli.core.optimizer import Optimizer

M = TypeVar("M")
V = TypeVar("V")
P = TypeVar("P")
Precision = Literal["float32", "tf32", "bfloat16"]


class Recipe(NamedTuple):
    """How a run trains, apart from the model: the optimizer, the steps that its schedule spans, and the type that
    networks compute in (weights, optimizer state and losses stay float32); `tf32` is float32 whose products round their factors
    to 10 bits while the network trains, where the device can."""

    optimizer: Optimizer
    steps: int
    precision: Precision = "float32"


OF_UPDATES = ("learning_rate", "gradient_norm", "update_norm")
"""The numbers of an update, by the names of fields of `Updates`."""


class Updates(NamedTuple):
    """What an optimizer does in a step, if that is `asked` (a boolean scalar): its learning rate, and the global L2 norms of the
    gradient, before it is clipped, and of what is added to the weights, float32 scalars. NaN where it is not asked, or where the
    network rests."""

    asked: jax.Array
    learning_rate: jax.Array
    gradient_norm: jax.Array
    update_norm: jax.Array

    @classmethod
    def none(cls, asked: jax.Array) -> Updates:
        return cls(asked, *(jnp.full((), jnp.nan, jnp.float32) for _ in OF_UPDATES))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Learner(Generic[M]):
    """`params` and `ema` are `nnx.State`s of float32 parameters (`ema` None if it is off), `step` an int32 scalar that
    counts the steps done. Networks compute in the type of the parameters that they are given, so the precision is one cast.
    `updates` is None but within a step of `watched`."""

    graphdef: Any = dataclasses.field(metadata={"static": True})
    recipe: Recipe = dataclasses.field(metadata={"static": True})
    params: Any
    opt_state: Any
    ema: Any
    step: jax.Array
    updates: Updates | None = None

    @classmethod
    def create(cls, net: M, recipe: Recipe) -> Learner[M]:
        """Raises ContractError if the network holds anything but parameters: keys and statistics are to be passed."""
        if not isinstance(net, nnx.Module):
            raise ContractError(
                f"{type(net).__name__} was given where a network is needed",
                "a network is an nnx.Module",
                "return it, as in `return Net(spec, rngs=rngs)`",
            )
        graphdef, params, rest = cast("tuple[Any, Any, Any]", nnx.split(net, nnx.Param, ...))
        kinds = {type(leaf).__name__ for leaf in jax.tree.leaves(rest, is_leaf=lambda x: isinstance(x, nnx.Variable))}
        if kinds:
            raise ContractError(
                f"{type(net).__name__} holds state besides parameters: {', '.join(sorted(kinds))} in {', '.join(map(str, rest))}",
                "a network holds parameters and nothing else: keys are passed in, statistics belong to the state",
                "leave nnx.Dropout and nnx.BatchNorm out: draw from the `key` of `loss`, normalize with nnx.LayerNorm",
            )
        opt_state = recipe.optimizer.build(recipe.steps).init(params)
        ema = jax.tree.map(jnp.copy, params) if recipe.optimizer.ema is not None else None
        return cls(graphdef, recipe, params, opt_state, ema, jnp.zeros((), jnp.int32))

    def _merge(self, params: Any) -> M:
        dtype = jnp.bfloat16 if self.recipe.precision == "bfloat16" else jnp.float32
        return self._assemble(jax.tree.map(lambda p: p.astype(dtype), params))

    def _assemble(self, params: Any) -> M:
        """A network of its own: without the copy of the tree, to change it would change the learner."""
        return cast(M, nnx.merge(self.graphdef, jax.tree.map(lambda p: p, params)))

    @property
    def net(self) -> M:
        """The network to evaluate and sample with: the averaged weights where there are any."""
        return self._merge(self.params if self.ema is None else self.ema)

    @property
    def current(self) -> M:
        """The network that is being trained: the latest weights, not the averaged ones."""
        return self._merge(self.params)

    def adjust(self, change: Callable[[M], None], when: jax.Array | bool = True) -> Learner[M]:
        """The learner after `change` has altered the network's parameters in place, outside of any gradient; the same one
        where `when` is False. The averaged weights are left to follow."""
        net = self._assemble(self.params)
        change(net)
        params = jax.tree.map(lambda new, old: jnp.where(when, new, old), nnx.state(net, nnx.Param), self.params)
        return dataclasses.replace(self, params=self._thawed(params, self.params))

    def descend(self, objective: Callable[[M], tuple[jax.Array, V]]) -> tuple[Learner[M], V]:
        """One step down `objective(net) -> (scalar, anything)`; returns the new learner and the second."""
        gradient, values = self._slope(objective)
        return self._apply(gradient), values

    def descend_in_parts(self, objective: Callable[[M, P], tuple[jax.Array, V]], parts: P) -> tuple[Learner[M], V]:
        """One step down the mean of `objective(net, part)` over the leading axis of the leaves of `parts`, one part after the
        other; returns the new learner and the values of all parts, stacked."""

        def add(total: Any, part: P) -> tuple[Any, V]:
            gradient, values = self._slope(lambda net: objective(net, part))
            return jax.tree.map(jnp.add, total, gradient), values

        total, values = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, self.params), parts)
        count = len(jax.tree.leaves(parts)[0])
        return self._apply(jax.tree.map(lambda gradient: gradient / count, total)), values

    def _slope(self, objective: Callable[[M], tuple[jax.Array, V]]) -> tuple[Any, V]:
        def of_params(params: Any) -> tuple[jax.Array, V]:
            return objective(self._merge(params))

        rounded = jax.default_matmul_precision("tensorfloat32")
        with rounded if self.recipe.precision == "tf32" else contextlib.nullcontext():
            (_, values), gradient = jax.value_and_grad(of_params, has_aux=True)(self.params)
        return gradient, values

    def _apply(self, gradient: Any) -> Learner[M]:
        optimizer, steps, _ = self.recipe
        nothing = jax.tree.map(jnp.zeros_like, gradient)
        # Before, so that a norm to be clipped is that of what moves; after, since weights may decay without a gradient.
        gradient = self._thawed(gradient, nothing)
        change, opt_state = optimizer.build(steps).update(gradient, self.opt_state, self.params)
        change = self._thawed(change, nothing)
        params = optax.apply_updates(self.params, change)
        ema = self.ema
        if optimizer.ema is not None:
            # The usual debiasing start: an average over few steps forgets the random initialization quickly.
            decay = jnp.minimum(optimizer.ema, (1.0 + self.step) / (10.0 + self.step))
            ema = jax.tree.map(lambda average, p: decay * average + (1 - decay) * p, ema, params)
        updates = self.updates
        if updates is not None:
            # In a branch of its own: of a small network, two norms a step would take a tenth of the time.
            asked = updates.asked
            told = jax.lax.cond(
                asked,
                lambda: (optimizer.learning_rate_now(self.opt_state, steps), _norm(gradient), _norm(change)),
                lambda: Updates.none(asked)[1:],
            )
            updates = Updates(asked, *told)
        return dataclasses.replace(self, params=params, opt_state=opt_state, ema=ema, step=self.step + 1, updates=updates)

    def _thawed(self, moving: Any, frozen: Any) -> Any:
        """`moving`, a tree like that of the parameters, with the leaves of `frozen` in the parts that are frozen."""
        names = self.recipe.optimizer.freeze
        if not names:
            return moving

        def choose(path: Any, new: Any, old: Any) -> Any:
            return old if is_part(jax.tree_util.keystr(path, simple=True, separator="/"), names) else new

        return jax.tree_util.tree_map_with_path(choose, moving, frozen)


def is_part(path: str, names: Iterable[str]) -> bool:
    """Whether a parameter's path lies in one of the named parts of its network."""
    return any(path == name or path.startswith(f"{name}/") for name in names)


def _norm(tree: Any) -> jax.Array:
    """The global L2 norm of the leaves."""
    # No product of matrices, which the count of operations would take for the model's.
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def watched(step: Callable[[Any], tuple[Any, V]], state: Any, asked: jax.Array) -> tuple[Any, V, dict[str, jax.Array]]:
    """The new state and the values of `step(state)`, and the numbers of the updates in it by their names; of a state with several
    learners each begins with the place of its learner, such as `generator_gradient_norm`."""

    def is_learner(node: Any) -> bool:
        return isinstance(node, Learner)

    def each(change: Callable[[Any], Any], state: Any) -> Any:
        return jax.tree.map(lambda node: change(node) if is_learner(node) else node, state, is_leaf=is_learner)

    state, values = step(each(lambda learner: dataclasses.replace(learner, updates=Updates.none(asked)), state))
    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_learner)
    learners = {jax.tree_util.keystr(path, simple=True, separator="_"): node for path, node in found if is_learner(node)}
    told = {
        f"{place}_{name}" if len(learners) > 1 else name: getattr(learner.updates, name)
        for place, learner in learners.items()
        if learner.updates is not None
        for name in OF_UPDATES
    }
    return each(lambda learner: dataclasses.replace(learner, updates=None), state), values, told
