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

from aecli.nets.causal import Layout, SiteHead, at_site
from aecli.nets.dropout import Dropout, drop, each
from aecli.nets.neighbours import Kernel, Neighbours, pad


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
        """What the label adds to the two stacks, [B, 1, 1, 2 width] each."""
        width = self.vertical_bias[...].shape[0]
        shape = (label.shape[0], 1, 1, width)
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


class PixelCnn(nnx.Module):
    def __init__(self, layout: Layout, width: int, layers: int, *, rngs: nnx.Rngs) -> None:
        self.layout, self.width = layout, width
        self.neighbours = Neighbours(layout.values * layout.inputs, width, rngs=rngs)
        self.first_across = Kernel(1, 1, width, width, rngs=rngs)
        # Where a site lies tells much about images that are centred, and the kernels cannot know it.
        place = nnx.initializers.normal(0.1)
        self.place = nnx.Param(place(rngs.params(), (2, layout.rows, layout.columns, width)))
        self.layers = nnx.List([Gated(width, layout.classes, rngs=rngs) for _ in range(layers)])
        self.head = SiteHead(layout, width, width, rngs=rngs)

    def __call__(
        self, x: jax.Array, label: jax.Array, told: jax.Array | None = None, *, dropout: Dropout | None = None
    ) -> jax.Array:
        return self.head(self.features(x, label, told, dropout=dropout), x)

    def features(
        self, x: jax.Array, label: jax.Array, told: jax.Array | None = None, *, dropout: Dropout | None = None
    ) -> jax.Array:
        place = self.place[...]
        label = label.astype(place.dtype)
        above, left = self.neighbours(x)
        v = above + place[0][None]
        h = left + self.first_across(v) + place[1][None]
        if told is not None:
            v, h = v + told, h + told
        for layer, dropped in zip(self.layers, each(dropout, len(self.layers)), strict=True):
            of_vertical, of_horizontal = each(dropped, 2)
            v_bias, h_bias = layer.biases(label)
            a = layer.vertical(pad(v, 1, 1, 1)) + v_bias
            v = v + drop(_gate(a), of_vertical)
            b = layer.horizontal(pad(h, 0, 1, 0)) + layer.across(a) + h_bias
            h = h + drop(layer.out(_gate(b)), of_horizontal)
        return nnx.gelu(h)

    def begin(self, label: jax.Array) -> Cache:
        n, (rows, columns), width = label.shape[0], self.layout[:2], self.width
        dtype, layers = self.place[...].dtype, len(self.layers)
        return Cache(
            [jnp.zeros((n, rows + 1, columns + 2, width), dtype)] * layers,
            [jnp.zeros((n, 1, columns, width), dtype)] + [jnp.zeros((n, 1, columns, 2 * width), dtype)] * layers,
            [jnp.zeros((n, 1, columns + 1, width), dtype)] * layers,
            jnp.zeros((n, width), dtype),
        )

    def step(
        self, cache: Cache, x: jax.Array, label: jax.Array, position: jax.Array, told: jax.Array | None = None
    ) -> tuple[jax.Array, Cache]:
        site, value = jnp.divmod(position, self.layout.values)
        row, column = jnp.divmod(site, self.layout.columns)
        new_site = value == 0
        cache = jax.lax.cond(new_site & (column == 0), lambda: self._row(cache, x, label, told, row), lambda: cache)
        cache = jax.lax.cond(new_site, lambda: self._site(cache, x, label, told, row, column), lambda: cache)
        return self.head.one(cache.features, at_site(x, row, column), value), cache

    def _row(self, cache: Cache, x: jax.Array, label: jax.Array, told: jax.Array | None, row: jax.Array) -> Cache:
        """The vertical stack at a row, all of whose upper neighbours are known."""
        place = self.place[...]
        label = label.astype(place.dtype)
        v = self.neighbours.row(x, row) + jax.lax.dynamic_slice_in_dim(place[0], row, 1, 0)[None]
        above, down = list(cache.above), [self.first_across(v)]
        if told is not None:
            v = v + jax.lax.dynamic_slice_in_dim(told, row, 1, 1)
        for i, layer in enumerate(self.layers):
            above[i] = jax.lax.dynamic_update_slice(above[i], v, (0, row + 1, 1, 0))
            a = layer.vertical(jax.lax.dynamic_slice_in_dim(above[i], row, 2, 1)) + layer.biases(label)[0]
            down.append(layer.across(a))
            v = v + _gate(a)
        return cache._replace(above=above, down=down)

    def _site(
        self, cache: Cache, x: jax.Array, label: jax.Array, told: jax.Array | None, row: jax.Array, column: jax.Array
    ) -> Cache:
        """The horizontal stack at a site, given the vertical one at its row."""
        place = self.place[...]
        label = label.astype(place.dtype)
        spot = jax.lax.dynamic_slice(place[1], (row, column, 0), (1, 1, self.width))[None]
        h = self.neighbours.left(x, row, column) + jax.lax.dynamic_slice_in_dim(cache.down[0], column, 1, 2) + spot
        if told is not None:
            h = h + at_site(told, row, column)[:, None, None]
        left = list(cache.left)
        for i, layer in enumerate(self.layers):
            left[i] = jax.lax.dynamic_update_slice(left[i], h, (0, 0, column + 1, 0))
            down = jax.lax.dynamic_slice_in_dim(cache.down[i + 1], column, 1, 2)
            b = layer.horizontal(jax.lax.dynamic_slice_in_dim(left[i], column, 2, 2)) + down + layer.biases(label)[1]
            h = h + layer.out(_gate(b))
        return cache._replace(left=left, features=nnx.gelu(h)[:, 0, 0])


def _gate(x: jax.Array) -> jax.Array:
    value, gate = jnp.split(x, 2, axis=-1)
    return jnp.tanh(value) * nnx.sigmoid(gate)
