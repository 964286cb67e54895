"""What the autoregressive networks have in common.

Images are cut into sites of S values (the channels of a pixel, or all values of a patch), sites in raster order, the values of a
site in theirs. A causal network maps inputs [B, h, w, S * inputs] (numbers that describe the values) to parameters
[B, h, w, S, outputs] of which each depends on earlier values alone. Its `step` computes one value's parameters, and keeps
what it computed in a cache, so that sampling costs about one pass instead of one pass a value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.dropout import Dropout


class Layout(NamedTuple):
    """`rows` x `columns` sites of `values` values, each described by `inputs` numbers and predicted by `outputs`; `classes`
    is 0 where labels are not conditioned on."""

    rows: int
    columns: int
    values: int
    inputs: int
    outputs: int
    classes: int

    @property
    def sites(self) -> int:
        return self.rows * self.columns


class Causal(Protocol):
    """`label` is one-hot, [B, classes]. `told` is what every site knows of an image that is given, [B, h, w, width], where one
    is. `dropout` is for training: no value comes to depend on another one by it."""

    def __call__(
        self, x: jax.Array, label: jax.Array, told: jax.Array | None = None, *, dropout: Dropout | None = None
    ) -> jax.Array:
        """[B, h, w, S * inputs] -> [B, h, w, S, outputs]."""
        ...

    def features(self, x: jax.Array, label: jax.Array, told: jax.Array | None = None) -> jax.Array:
        """The last hidden layer at every site, [B, h, w, F]."""
        ...

    def begin(self, label: jax.Array) -> Any:
        """The cache before the first value."""
        ...

    def step(
        self, cache: Any, x: jax.Array, label: jax.Array, position: jax.Array, told: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """Parameters [B, outputs] of the value at `position` (site * S + value), whose earlier values are in x."""
        ...


class SiteHead(nnx.Module):
    """From what precedes a site to the parameters of its values, each also given the earlier values of the site: one hidden
    layer per value, [..., F] and [..., S * inputs] -> [..., S, outputs]. The parameters start at 0."""

    def __init__(self, layout: Layout, features: int, width: int, *, rngs: nnx.Rngs) -> None:
        s = layout.values
        self.layout, self.width = layout, width
        start = nnx.initializers.lecun_normal()
        self.outer = nnx.Param(start(rngs.params(), (features, s * width)))
        self.inner = nnx.Param(start(rngs.params(), (s * layout.inputs, s * width)))
        self.bias = nnx.Param(jnp.zeros((s, width)))
        self.kernel = nnx.Param(jnp.zeros((s, width, layout.outputs)))
        self.shift = nnx.Param(jnp.zeros((s, layout.outputs)))

    def _inner(self) -> jax.Array:
        """[S * inputs, S, width], where the hidden layer of a value sees earlier ones alone."""
        s = self.layout.values
        seen = jnp.triu(jnp.ones((s, s), self.inner[...].dtype), 1).repeat(self.layout.inputs, axis=0)
        return self.inner[...].reshape(-1, s, self.width) * seen[:, :, None]

    def __call__(self, features: jax.Array, x: jax.Array) -> jax.Array:
        s, flat = self.layout.values, features.shape[:-1]
        hidden = features @ self.outer[...]
        if s > 1:
            hidden += x.astype(hidden.dtype) @ self._inner().reshape(-1, s * self.width)
        hidden = nnx.gelu(hidden + jnp.broadcast_to(self.bias[...].reshape(-1), hidden.shape))
        # One product a value: as a batch of products XLA transposes the hidden layer, which takes longer than all of them.
        each = [h @ kernel for h, kernel in zip(jnp.split(hidden, s, axis=-1), self.kernel[...], strict=True)]
        return jnp.stack(each, axis=-2) + jnp.broadcast_to(self.shift[...], (*flat, *self.shift.shape))

    def one(self, features: jax.Array, x: jax.Array, value: jax.Array) -> jax.Array:
        """The parameters of one value alone: [B, F], [B, S * inputs] and its number -> [B, outputs]."""
        outer = self.outer[...].reshape(features.shape[-1], self.layout.values, self.width)[:, value]
        hidden = features @ outer + x.astype(features.dtype) @ self._inner()[:, value] + self.bias[...][value][None]
        return nnx.gelu(hidden) @ self.kernel[...][value] + self.shift[...][value][None]


def at_site(x: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """What describes one site, [B, h, w, C] -> [B, C]."""
    return jax.lax.dynamic_slice_in_dim(jax.lax.dynamic_slice_in_dim(x, row, 1, 1), column, 1, 2)[:, 0, 0]


def ancestral(
    start: tuple[Any, Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]],
    uniform: jax.Array,
    describe: Callable[[jax.Array], jax.Array],
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    fixed: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Draws values one after another, each decided by one number of `uniform` [B, sites * S]; returns them, int32 of that shape.

    `start` is a cache and `step(cache, x, position)`; `describe` makes x of the values so far, `choose(params, uniform)` a
    value of its parameters. `fixed` holds values and which of them are given.
    """
    cache, step = start

    def draw(position: jax.Array, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        value, cache = carry
        params, cache = step(cache, describe(value), position)
        new = choose(params, uniform[:, position])
        if fixed is not None:
            new = jnp.where(fixed[1][:, position], fixed[0][:, position], new)
        return jax.lax.dynamic_update_slice_in_dim(value, new[:, None], position, 1), cache

    return jax.lax.fori_loop(0, uniform.shape[1], draw, (jnp.zeros(uniform.shape, jnp.int32), cache))[0]
