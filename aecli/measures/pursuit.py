"""Codes of a given dictionary: the best coefficients of chosen rows, and a greedy choice of rows.

Pati, Rezaiifar & Krishnaprasad 1993, "Orthogonal matching pursuit"; by the dictionary's inner products alone as in Rubinstein,
Zibulevsky & Elad 2008, "Efficient implementation of the K-SVD algorithm using batch orthogonal matching pursuit".
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

RIDGE = 1e-6
"""Added to the inner products of rows of norm 1, of which two may be equal."""


@partial(jax.jit, static_argnames=("k",))
def orthogonal_matching_pursuit(rows: jax.Array, targets: jax.Array, k: int) -> jax.Array:
    """Coefficients [B, m] of rows [m, D] of norm 1 for targets [B, D], at most k of each target not 0: k times the row along
    which most of the rest lies joins those of a target, and their coefficients are the best ones."""
    gram, along = rows @ rows.T, targets @ rows.T
    some = jnp.arange(len(targets))[:, None]

    def add(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        chosen, coefficients = carry
        rest = jnp.abs(along - coefficients @ gram)
        taken = jnp.zeros(along.shape, bool).at[some, chosen].max(jnp.arange(k)[None] < i)
        chosen = chosen.at[:, i].set(jnp.where(taken, -1.0, rest).argmax(axis=1))
        return chosen, _best(gram, along, chosen, jnp.broadcast_to(jnp.arange(k)[None] <= i, chosen.shape))

    start = jnp.zeros((len(targets), k), jnp.int32), jnp.zeros_like(along)
    return jax.lax.fori_loop(0, k, add, start)[1]


@partial(jax.jit, static_argnames=("most",))
def least_squares(rows: jax.Array, targets: jax.Array, active: jax.Array, most: int) -> jax.Array:
    """The best coefficients [B, m] of the `active` rows alone, [B, m] bool, of which no target has more than `most`."""
    there, chosen = jax.lax.top_k(active.astype(jnp.float32), most)
    return _best(rows @ rows.T, targets @ rows.T, chosen, there > 0)


def _best(gram: jax.Array, along: jax.Array, chosen: jax.Array, counts: jax.Array) -> jax.Array:
    """Least squares on the rows `chosen`, [B, k], of which those that do not count stay at 0: [B, m]."""
    some = jnp.arange(len(along))[:, None]
    both = counts[:, :, None] & counts[:, None, :]
    eye = jnp.eye(chosen.shape[1])[None]
    normal = jnp.where(both, gram[chosen[:, :, None], chosen[:, None, :]], 0.0) + eye * jnp.where(counts, RIDGE, 1.0)[:, :, None]
    right = jnp.where(counts, along[some, chosen], 0.0)
    factor = jnp.linalg.cholesky(normal)
    solved = jax.scipy.linalg.cho_solve((factor, True), right[:, :, None])[:, :, 0]
    return jnp.zeros_like(along).at[some, chosen].add(jnp.where(counts, solved, 0.0))
