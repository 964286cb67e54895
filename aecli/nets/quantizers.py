"""Vectors from a finite set: a learned codebook (VQ) and rounded scalars (FSQ)."""

from __future__ import annotations

from collections.abc import Sequence
from math import atanh, prod
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SMOOTHING = 1e-5


class Codebook(NamedTuple):
    """The running averages that make up K vectors, van den Oord et al. 2017, "Neural discrete representation learning",
    appendix A.1: `uses` [K] of the vectors assigned in a batch, `total` [K, D] of their sums; `silent` [K] int32, the batches
    since a code was last used."""

    uses: jax.Array
    total: jax.Array
    silent: jax.Array

    @classmethod
    def start(cls, key: jax.Array, codes: int, dimension: int, silent: int) -> Codebook:
        vectors = jax.random.normal(key, (codes, dimension))
        return cls(jnp.ones(codes), vectors, jnp.full(codes, silent, jnp.int32))

    @property
    def vectors(self) -> jax.Array:
        return self.total / jnp.maximum(self.uses, SMOOTHING)[:, None]

    def nearest(self, x: jax.Array) -> jax.Array:
        """[..., D] -> int32 [...]."""
        vectors = self.vectors
        flat = x.reshape(-1, x.shape[-1])
        distance = (vectors**2).sum(1)[None] - 2 * flat @ vectors.T
        return distance.argmin(axis=1).astype(jnp.int32).reshape(x.shape[:-1])

    def restart(self, x: jax.Array, key: jax.Array, after: int) -> Codebook:
        """Codes unused for `after` batches become vectors of this one, [N, D], drawn at random (Dhariwal et al. 2020,
        "Jukebox", appendix B.1)."""
        dead = self.silent >= after
        drawn = x[jax.random.randint(key, dead.shape, 0, x.shape[0])]
        return Codebook(
            jnp.where(dead, 1.0, self.uses),
            jnp.where(dead[:, None], drawn, self.total),
            jnp.where(dead, 0, self.silent),
        )

    def follow(self, x: jax.Array, index: jax.Array, decay: float) -> Codebook:
        """Moves towards the vectors [N, D] that were assigned to the codes [N]. One that is not used stays where it is: once
        its average of uses is nothing but rounding, neither that nor the sum decays any further."""
        chosen = jax.nn.one_hot(index, len(self.uses))
        used = chosen.sum(0)
        uses = decay * self.uses + (1 - decay) * used
        moves = (used > 0) | (uses >= SMOOTHING)
        return Codebook(
            jnp.where(moves, uses, self.uses),
            jnp.where(moves[:, None], decay * self.total + (1 - decay) * chosen.T @ x, self.total),
            jnp.where(used > 0, 0, self.silent + 1),
        )


class Scalars(NamedTuple):
    """Each dimension rounded to one of `levels` values in [-1, 1]: Mentzer et al. 2024, "Finite scalar quantization: VQ-VAE
    made simple", section 3.1. There is no codebook: its size is the product of the levels."""

    levels: tuple[int, ...]

    @property
    def codes(self) -> int:
        return prod(self.levels)

    def round(self, x: jax.Array) -> jax.Array:
        """[..., D] -> the same, with the gradient of the unrounded values."""
        whole = self._whole(x)
        rounded = whole + jax.lax.stop_gradient(jnp.round(whole) - whole)
        return rounded / self._like(x, [level // 2 for level in self.levels])

    def number(self, x: jax.Array) -> jax.Array:
        """The number of the vector that [..., D] rounds to, int32 [...]."""
        digits = jnp.round(self._whole(x)) + self._like(x, [level // 2 for level in self.levels])
        return (digits * self._like(x, self._base())).sum(-1).astype(jnp.int32)

    def vector(self, number: jax.Array) -> jax.Array:
        """The inverse of `number`: int32 [...] -> [..., D]."""
        digits = [(number // base) % level for base, level in zip(self._base(), self.levels, strict=True)]
        return jnp.stack([digit / (level // 2) - 1.0 for digit, level in zip(digits, self.levels, strict=True)], axis=-1)

    def _whole(self, x: jax.Array) -> jax.Array:
        """Bounded so that rounding gives exactly `levels` values; an even number of them lies off centre."""
        half = [(level - 1) * (1 + 1e-3) / 2 for level in self.levels]
        offset = [0.5 if level % 2 == 0 else 0.0 for level in self.levels]
        shift = [atanh(o / h) for o, h in zip(offset, half, strict=True)]
        return jnp.tanh(x + self._like(x, shift)) * self._like(x, half) - self._like(x, offset)

    def _base(self) -> list[int]:
        return [int(n) for n in np.cumprod([1, *self.levels[:-1]])]

    @staticmethod
    def _like(x: jax.Array, values: Sequence[float]) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(values, jnp.float32), x.shape)
