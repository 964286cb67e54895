"""Gated PixelCNN: a vertical stack that sees the rows above and a horizontal one that sees the row so far.

van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders", figure 2 and equation 2. As in PixelCNN++ the
stacks see shifted images through kernels that reach up and left only, instead of through masked ones: the same function, no
blind spot, and no product with zeros. The rows are computed once and kept (Ramachandran et al. 2017, "Fast generation for
convolutional autoregressive models").
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.causal import Layout, SiteHead
from aecli.nets.conv import convolve
from aecli.nets.made import MaskedMlp

CONTEXT = 16
"""Numbers per site that the fully connected context gives."""
FIRST_ROWS, FIRST_SIDE = 3, 3
"""The first layer sees three rows above, three sites to both sides, and the three sites to the left."""


class Kernel(nnx.Module):
    """The weights of a convolution, [rows, columns, C, O]."""

    def __init__(self, rows: int, columns: int, channels: int, out: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (rows, columns, channels, out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Without padding."""
        kernel = self.kernel[...]
        return convolve(x.astype(kernel.dtype), kernel, 1, 0)


class Gated(nnx.Module):
    """One layer of both stacks."""

    def __init__(self, width: int, classes: int, *, rngs: nnx.Rngs) -> None:
        self.vertical = Kernel(2, 3, width, 2 * width, rngs=rngs)
        self.horizontal = Kernel(1, 2, width, 2 * width, rngs=rngs)
        self.across = Kernel(1, 1, 2 * width, 2 * width, rngs=rngs)
        self.out = Kernel(1, 1, width, width, rngs=rngs)
        self.vertical_bias = nnx.Param(jnp.zeros((2 * width,)))
        self.horizontal_bias = nnx.Param(jnp.zeros((2 * width,)))
        if classes:
            self.condition = nnx.Linear(classes, 4 * width, use_bias=False, rngs=rngs)

    def biases(self, label: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of the two stacks, [B, 1, 1, 2 width] each."""
        width = self.vertical_bias[...].shape[0]
        shape = (len(label), 1, 1, width)
        vertical = jnp.broadcast_to(self.vertical_bias[...], shape)
        horizontal = jnp.broadcast_to(self.horizontal_bias[...], shape)
        if label.shape[1]:
            v, h = jnp.split(self.condition(label)[:, None, None], 2, axis=-1)
            return vertical + v, horizontal + h
        return vertical, horizontal


class Cache(NamedTuple):
    """Per layer: `above`, the vertical stack with a border of zeros as wide as the layer reaches; `down`, what the current row of
    it gives to the horizontal stack, [B, 1, w, 2 C] (the first: [B, 1, w, C]); `left`, the horizontal stack of the current
    row, bordered. `features` of the current site, [B, F]."""

    above: list[jax.Array]
    down: list[jax.Array]
    left: list[jax.Array]
    features: jax.Array
    context: jax.Array | None


class PixelCnn(nnx.Module):
    def __init__(self, layout: Layout, width: int, layers: int, context: tuple[int, ...] = (), *, rngs: nnx.Rngs) -> None:
        self.layout, self.width = layout, width
        given = layout.values * layout.inputs
        self.first_vertical = Kernel(FIRST_ROWS, 2 * FIRST_SIDE + 1, given, width, rngs=rngs)
        self.first_horizontal = Kernel(1, FIRST_SIDE, given, width, rngs=rngs)
        self.first_across = Kernel(1, 1, width, width, rngs=rngs)
        # Where a site lies tells much about images that are centred, and the kernels cannot know it.
        place = nnx.initializers.normal(0.1)
        self.place = nnx.Param(place(rngs.params(), (2, layout.rows, layout.columns, width)))
        self.layers = nnx.List([Gated(width, layout.classes, rngs=rngs) for _ in range(layers)])
        self.head = SiteHead(layout, width, width, rngs=rngs)
        self.has_context = bool(context)
        if context:
            self.context = MaskedMlp(layout.sites, given, CONTEXT, context, layout.classes, direct=False, rngs=rngs)
            self.from_context = nnx.Linear(CONTEXT, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        return self.head(self.features(x, label), x)

    def features(self, x: jax.Array, label: jax.Array) -> jax.Array:
        place = self.place[...]
        label = label.astype(place.dtype)
        v = self.first_vertical(_pad(x, FIRST_ROWS, 0, FIRST_SIDE, FIRST_SIDE)[:, :-1]) + place[0][None]
        h = self.first_horizontal(_pad(x, 0, 0, FIRST_SIDE, 0)[:, :, :-1]) + self.first_across(v) + place[1][None]
        if self.has_context:
            whole = self.context(x.reshape(len(x), -1), label)
            h += self.from_context(whole).reshape(h.shape)
        for layer in self.layers:
            v_bias, h_bias = layer.biases(label)
            a = layer.vertical(_pad(v, 1, 0, 1, 1)) + v_bias
            v = v + _gate(a)
            b = layer.horizontal(_pad(h, 0, 0, 1, 0)) + layer.across(a) + h_bias
            h = h + layer.out(_gate(b))
        return nnx.gelu(h)

    def begin(self, label: jax.Array) -> Cache:
        n, (rows, columns), width = len(label), self.layout[:2], self.width
        dtype, layers = self.place[...].dtype, len(self.layers)
        return Cache(
            [jnp.zeros((n, rows + 1, columns + 2, width), dtype)] * layers,
            [jnp.zeros((n, 1, columns, width), dtype)] + [jnp.zeros((n, 1, columns, 2 * width), dtype)] * layers,
            [jnp.zeros((n, 1, columns + 1, width), dtype)] * layers,
            jnp.zeros((n, width), dtype),
            self.context.begin(n) if self.has_context else None,
        )

    def step(self, cache: Cache, x: jax.Array, label: jax.Array, position: jax.Array) -> tuple[jax.Array, Cache]:
        site, value = jnp.divmod(position, self.layout.values)
        row, column = jnp.divmod(site, self.layout.columns)
        new_site = value == 0
        cache = jax.lax.cond(new_site & (column == 0), lambda: self._row(cache, x, label, row), lambda: cache)
        cache = jax.lax.cond(new_site, lambda: self._site(cache, x, label, row, column), lambda: cache)
        here = jax.lax.dynamic_slice_in_dim(jax.lax.dynamic_slice_in_dim(x, row, 1, 1), column, 1, 2)[:, 0, 0]
        return self.head.one(cache.features, here, value), cache

    def _row(self, cache: Cache, x: jax.Array, label: jax.Array, row: jax.Array) -> Cache:
        """The vertical stack at a row, all of whose upper neighbours are known."""
        place = self.place[...]
        label = label.astype(place.dtype)
        seen = jax.lax.dynamic_slice_in_dim(_pad(x, FIRST_ROWS, 0, FIRST_SIDE, FIRST_SIDE), row, FIRST_ROWS, 1)
        v = self.first_vertical(seen) + jax.lax.dynamic_slice_in_dim(place[0], row, 1, 0)[None]
        above, down = list(cache.above), [self.first_across(v)]
        for i, layer in enumerate(self.layers):
            above[i] = jax.lax.dynamic_update_slice(above[i], v, (0, row + 1, 1, 0))
            a = layer.vertical(jax.lax.dynamic_slice_in_dim(above[i], row, 2, 1)) + layer.biases(label)[0]
            down.append(layer.across(a))
            v = v + _gate(a)
        return cache._replace(above=above, down=down)

    def _site(self, cache: Cache, x: jax.Array, label: jax.Array, row: jax.Array, column: jax.Array) -> Cache:
        """The horizontal stack at a site, given the vertical one at its row."""
        place = self.place[...]
        label = label.astype(place.dtype)
        here = jax.lax.dynamic_slice_in_dim(x, row, 1, 1)
        seen = jax.lax.dynamic_slice_in_dim(_pad(here, 0, 0, FIRST_SIDE, 0), column, FIRST_SIDE, 2)
        spot = jax.lax.dynamic_slice(place[1], (row, column, 0), (1, 1, self.width))[None]
        h = self.first_horizontal(seen) + jax.lax.dynamic_slice_in_dim(cache.down[0], column, 1, 2) + spot
        left, context = list(cache.left), cache.context
        if context is not None:
            whole, context = self.context.step(context, x.reshape(len(x), -1), label, row * self.layout.columns + column)
            h += self.from_context(whole)[:, None, None]
        for i, layer in enumerate(self.layers):
            left[i] = jax.lax.dynamic_update_slice(left[i], h, (0, 0, column + 1, 0))
            down = jax.lax.dynamic_slice_in_dim(cache.down[i + 1], column, 1, 2)
            b = layer.horizontal(jax.lax.dynamic_slice_in_dim(left[i], column, 2, 2)) + down + layer.biases(label)[1]
            h = h + layer.out(_gate(b))
        return cache._replace(left=left, features=nnx.gelu(h)[:, 0, 0], context=context)


def _gate(x: jax.Array) -> jax.Array:
    value, gate = jnp.split(x, 2, axis=-1)
    return jnp.tanh(value) * nnx.sigmoid(gate)


def _pad(x: jax.Array, top: int, below: int, left: int, right: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (top, below), (left, right), (0, 0)))
