"""What a dictionary leaves of a target: by chosen rows with their best coefficients, and by a greedy choice of rows.

Pati, Rezaiifar & Krishnaprasad 1993, "Orthogonal matching pursuit". The rows of a target are made orthogonal one after the other
(Gram and Schmidt, twice: Björck 1994, "Numerics of Gram-Schmidt orthogonalization"), since their inner products say nothing in
float32 where many rows are nearly alike.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

NOTHING_NEW = 1e-4
"""The part of a row of norm 1 that is orthogonal to those before it, under which it is rounding and adds nothing."""


@partial(jax.jit, static_argnames=("k",))
def orthogonal_matching_pursuit(rows: jax.Array, targets: jax.Array, k: int) -> jax.Array:
    """What is left of targets [B, D] after k rows [m, D] of norm 1: k times the row along which most of the rest lies joins those
    of a target, and the rest becomes orthogonal to all of them."""
    some = jnp.arange(len(targets))

    def choose(i: jax.Array, rest: jax.Array, taken: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = jnp.where(taken, -1.0, jnp.abs(rest @ rows.T)).argmax(axis=1)
        return rows[chosen], taken.at[some, chosen].set(True)

    return _left(targets, k, choose, jnp.zeros((len(targets), len(rows)), bool))


@partial(jax.jit, static_argnames=("most",))
def least_squares(rows: jax.Array, targets: jax.Array, active: jax.Array, most: int) -> jax.Array:
    """What the `active` rows, [B, m] bool, leave of targets [B, D] with the best coefficients. No target has more than `most`."""
    there, chosen = jax.lax.top_k(active.astype(jnp.float32), most)

    def choose(i: jax.Array, rest: jax.Array, taken: jax.Array) -> tuple[jax.Array, jax.Array]:
        return rows[chosen[:, i]] * there[:, i, None], taken

    return _left(targets, most, choose, jnp.zeros((0, 0), bool))


def _left(
    targets: jax.Array, k: int, choose: Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]], taken: jax.Array
) -> jax.Array:
    """The rest [B, D] that is orthogonal to k rows of each target; `choose(i, rest, taken)` gives the i-th, [B, D]."""

    def add(i: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        basis, rest, taken = carry
        row, taken = choose(i, rest, taken)
        for _ in range(2):
            row -= jnp.einsum("bk,bkd->bd", jnp.einsum("bkd,bd->bk", basis, row), basis)
        length = jnp.linalg.norm(row, axis=1, keepdims=True)
        row = jnp.where(length > NOTHING_NEW, row / jnp.maximum(length, NOTHING_NEW), 0.0)
        rest -= (rest * row).sum(axis=1, keepdims=True) * row
        return basis.at[:, i].set(row), rest, taken

    start = jnp.zeros((len(targets), k, targets.shape[1]), targets.dtype), targets, taken
    return jax.lax.fori_loop(0, k, add, start)[1]
