"""Causal gMLP: gated layers in which each site takes a learned, fixed sum over the sites before it.

Liu et al. 2021, "Pay attention to MLPs", section 2 and equations 1 and 2, with triangular matrices, several of them a layer, and
a convolution in front. Where images are centred, what a place wants to know of another hardly depends on the image: the
sum needs no attention, and costs a third of a transformer's layer. The gated values of earlier sites are kept while sampling.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.causal import Layout, SiteHead, at_site
from aecli.nets.dropout import Dropout, drop, each
from aecli.nets.neighbours import Neighbours

HEAD = 4
"""The hidden layer of a value is this much narrower than the features: there is one for each value of a site."""


class Block(nnx.Module):
    """[B, T, width] -> the same, gated by sums over sites (Liu et al. 2021, equations 1 and 2). `causal`: the sum of a site is
    over itself and those before, else over all."""

    def __init__(self, sites: int, width: int, heads: int, *, causal: bool = True, rngs: nnx.Rngs) -> None:
        self.heads, self.causal = heads, causal
        start = nnx.initializers.lecun_normal()
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.enter = nnx.Linear(width, 2 * width, kernel_init=start, rngs=rngs)
        self.leave = nnx.Linear(width, width, kernel_init=start, rngs=rngs)
        # The sum over t sites starts as large for all t; the shift of 1 lets a layer start as an ordinary one (section 2.1).
        summed = jnp.arange(1, sites + 1) if causal else jnp.full(sites, sites)
        scale = 0.5 / jnp.sqrt(summed)[None, :, None]
        self.mix = nnx.Param(jax.random.normal(rngs.params(), (heads, sites, sites)) * scale)
        self.shift = nnx.Param(jnp.ones((sites, width)))

    def enter_gate(self, h: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What is gated and what is summed, [B, T, width] each."""
        u, v = jnp.split(nnx.gelu(self.enter(self.norm(h))), 2, axis=-1)
        return u, v

    def leave_gate(self, u: jax.Array, total: jax.Array, shift: jax.Array) -> jax.Array:
        return self.leave(u * (total + shift[None]))

    def __call__(self, h: jax.Array, dropout: Dropout | None) -> jax.Array:
        """[B, T, width] -> the same, of which each site depends on those that it sums over."""
        u, v = self.enter_gate(h)
        mix = jnp.tril(self.mix[...]) if self.causal else self.mix[...]
        sums = [jnp.einsum("ts,bsc->btc", m, p) for m, p in zip(mix, self._split(v), strict=True)]
        return h + drop(self.leave_gate(u, jnp.concatenate(sums, axis=-1), self.shift[...]), dropout)

    def one(self, h: jax.Array, stored: jax.Array, site: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The same for one site, [B, 1, width], given and giving the summed values of all sites [B, T, width]."""
        u, v = self.enter_gate(h)
        stored = jax.lax.dynamic_update_slice_in_dim(stored, v, site, 1)
        row = jax.lax.dynamic_slice_in_dim(self.mix[...], site, 1, 1)
        row = jnp.where((jnp.arange(row.shape[2]) <= site)[None, None], row, 0)
        sums = [jnp.einsum("ts,bsc->btc", m, p) for m, p in zip(row, self._split(stored), strict=True)]
        shift = jax.lax.dynamic_slice_in_dim(self.shift[...], site, 1, 0)
        return h + self.leave_gate(u, jnp.concatenate(sums, axis=-1), shift), stored

    def _split(self, v: jax.Array) -> list[jax.Array]:
        return list(jnp.split(v, self.heads, axis=-1))


class Cache(NamedTuple):
    """The summed values of every layer, [B, sites, width] each, and the features of the current site [B, width]."""

    stored: list[jax.Array]
    features: jax.Array


class Gmlp(nnx.Module):
    def __init__(self, layout: Layout, width: int, layers: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.layout, self.width = layout, width
        self.neighbours = Neighbours(layout.values * layout.inputs, width, rngs=rngs)
        self.place = nnx.Param(nnx.initializers.normal(0.1)(rngs.params(), (layout.rows, layout.columns, width)))
        if layout.classes:
            self.condition = nnx.Linear(layout.classes, width, use_bias=False, rngs=rngs)
        self.blocks = nnx.List([Block(layout.sites, width, heads, rngs=rngs) for _ in range(layers)])
        self.head = SiteHead(layout, width, max(1, width // HEAD), rngs=rngs)

    def __call__(
        self, x: jax.Array, label: jax.Array, told: jax.Array | None = None, *, dropout: Dropout | None = None
    ) -> jax.Array:
        return self.head(self.features(x, label, told, dropout=dropout), x)

    def features(
        self, x: jax.Array, label: jax.Array, told: jax.Array | None = None, *, dropout: Dropout | None = None
    ) -> jax.Array:
        layout = self.layout
        above, left = self.neighbours(x)
        h = above + left + self.place[...][None]
        h = (h if told is None else h + told).reshape(x.shape[0], layout.sites, -1) + self._condition(label)
        for block, dropped in zip(self.blocks, each(dropout, len(self.blocks)), strict=True):
            h = block(h, dropped)
        return nnx.gelu(h).reshape(x.shape[0], layout.rows, layout.columns, -1)

    def begin(self, label: jax.Array) -> Cache:
        n, dtype = label.shape[0], self.place[...].dtype
        store = jnp.zeros((n, self.layout.sites, self.width), dtype)
        return Cache([store] * len(self.blocks), jnp.zeros((n, self.width), dtype))

    def step(
        self, cache: Cache, x: jax.Array, label: jax.Array, position: jax.Array, told: jax.Array | None = None
    ) -> tuple[jax.Array, Cache]:
        site, value = jnp.divmod(position, self.layout.values)
        row, column = jnp.divmod(site, self.layout.columns)
        cache = jax.lax.cond(value == 0, lambda: self._site(cache, x, label, told, row, column), lambda: cache)
        return self.head.one(cache.features, at_site(x, row, column), value), cache

    def _site(
        self, cache: Cache, x: jax.Array, label: jax.Array, told: jax.Array | None, row: jax.Array, column: jax.Array
    ) -> Cache:
        above, left = self.neighbours.one(x, row, column)
        place = jax.lax.dynamic_slice(self.place[...], (row, column, 0), (1, 1, self.width))
        h = (above + left + place[None])[:, 0] + self._condition(label)
        if told is not None:
            h += at_site(told, row, column)[:, None]
        stored = list(cache.stored)
        for i, block in enumerate(self.blocks):
            h, stored[i] = block.one(h, stored[i], row * self.layout.columns + column)
        return Cache(stored, nnx.gelu(h)[:, 0])

    def _condition(self, label: jax.Array) -> jax.Array:
        """[B, 1, width], or 0."""
        if not self.layout.classes:
            return jnp.zeros((1, 1, self.width), self.place[...].dtype)
        return self.condition(label.astype(self.place[...].dtype))[:, None]
