"""Causal transformer over sites in raster order, with pre-normalization and learned positions.

Vaswani et al. 2017, "Attention is all you need"; on images as in Chen et al. 2020, "Generative pretraining from pixels". The
keys and values of earlier sites are kept while sampling.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.causal import Layout, SiteHead, at_site
from aecli.nets.dropout import Dropout, drop, each


class Block(nnx.Module):
    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.norm_attention = nnx.LayerNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.project = nnx.Linear(width, width, rngs=rngs)
        self.norm_mlp = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def split(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values, [B, T, heads, width / heads] each."""
        parts = jnp.split(self.qkv(self.norm_attention(x)), 3, axis=-1)
        q, k, v = (part.reshape(*part.shape[:2], self.heads, -1) for part in parts)
        return q, k, v

    def finish(
        self, x: jax.Array, q: jax.Array, k: jax.Array, v: jax.Array, seen: jax.Array, dropout: Dropout | None = None
    ) -> jax.Array:
        """Attention of [B, T] queries over [B, U] keys, of which `seen` [T, U] may be looked at, and the mlp."""
        logits = jnp.einsum("bthd,buhd->bhtu", q, k).astype(jnp.float32) / jnp.sqrt(jnp.float32(q.shape[-1]))
        weights = jax.nn.softmax(jnp.where(seen[None, None], logits, -jnp.inf), axis=-1).astype(v.dtype)
        of_attention, of_mlp = each(dropout, 2)
        x = x + drop(self.project(jnp.einsum("bhtu,buhd->bthd", weights, v).reshape(x.shape)), of_attention)
        return x + drop(self.down(nnx.gelu(self.up(self.norm_mlp(x)))), of_mlp)


class Cache(NamedTuple):
    """Keys and values of every layer, [B, sites, heads, width / heads] each, and the features of the current site [B, F]."""

    keys: list[jax.Array]
    values: list[jax.Array]
    features: jax.Array


class Transformer(nnx.Module):
    def __init__(self, layout: Layout, width: int, layers: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.layout, self.width, self.heads = layout, width, heads
        self.embed = nnx.Linear(layout.values * layout.inputs, width, rngs=rngs)
        self.place = nnx.Param(nnx.initializers.normal(0.1)(rngs.params(), (layout.sites, width)))
        if layout.classes:
            self.condition = nnx.Linear(layout.classes, width, use_bias=False, rngs=rngs)
        self.blocks = nnx.List([Block(width, heads, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = SiteHead(layout, width, width, rngs=rngs)

    def __call__(
        self, x: jax.Array, label: jax.Array, told: jax.Array | None = None, *, dropout: Dropout | None = None
    ) -> jax.Array:
        return self.head(self.features(x, label, told, dropout=dropout), x)

    def features(
        self, x: jax.Array, label: jax.Array, told: jax.Array | None = None, *, dropout: Dropout | None = None
    ) -> jax.Array:
        layout = self.layout
        tokens = self.embed(x.reshape(x.shape[0], layout.sites, -1).astype(self.place[...].dtype))
        tokens = jnp.pad(tokens[:, :-1], ((0, 0), (1, 0), (0, 0)))  # a site sees those before it
        tokens += self.place[...][None] + self._condition(label)
        if told is not None:
            tokens += told.reshape(tokens.shape)
        seen = jnp.tril(jnp.ones((layout.sites, layout.sites), bool))
        for block, dropped in zip(self.blocks, each(dropout, len(self.blocks)), strict=True):
            tokens = block.finish(tokens, *block.split(tokens), seen, dropped)
        return self.norm(tokens).reshape(x.shape[0], layout.rows, layout.columns, -1)

    def begin(self, label: jax.Array) -> Cache:
        n, dtype = label.shape[0], self.place[...].dtype
        store = jnp.zeros((n, self.layout.sites, self.heads, self.width // self.heads), dtype)
        return Cache([store] * len(self.blocks), [store] * len(self.blocks), jnp.zeros((n, self.width), dtype))

    def step(
        self, cache: Cache, x: jax.Array, label: jax.Array, position: jax.Array, told: jax.Array | None = None
    ) -> tuple[jax.Array, Cache]:
        site, value = jnp.divmod(position, self.layout.values)
        cache = jax.lax.cond(value == 0, lambda: self._site(cache, x, label, told, site), lambda: cache)
        row, column = jnp.divmod(site, self.layout.columns)
        return self.head.one(cache.features, at_site(x, row, column), value), cache

    def _site(self, cache: Cache, x: jax.Array, label: jax.Array, told: jax.Array | None, site: jax.Array) -> Cache:
        flat = x.reshape(x.shape[0], self.layout.sites, -1).astype(self.place[...].dtype)
        before = jax.lax.dynamic_slice_in_dim(flat, jnp.maximum(site - 1, 0), 1, 1)
        token = jnp.where(site > 0, self.embed(before), 0)
        token += jax.lax.dynamic_slice_in_dim(self.place[...], site, 1, 0)[None] + self._condition(label)
        if told is not None:
            token += at_site(told, *jnp.divmod(site, self.layout.columns))[:, None]
        seen = (jnp.arange(self.layout.sites) <= site)[None]
        keys, values = list(cache.keys), list(cache.values)
        for i, block in enumerate(self.blocks):
            q, k, v = block.split(token)
            keys[i] = jax.lax.dynamic_update_slice_in_dim(keys[i], k, site, 1)
            values[i] = jax.lax.dynamic_update_slice_in_dim(values[i], v, site, 1)
            token = block.finish(token, q, keys[i], values[i], seen)
        return Cache(keys, values, self.norm(token)[:, 0])

    def _condition(self, label: jax.Array) -> jax.Array:
        """[B, 1, width], or 0."""
        if not self.layout.classes:
            return jnp.zeros((1, 1, self.width), self.place[...].dtype)
        return self.condition(label.astype(self.place[...].dtype))[:, None]
