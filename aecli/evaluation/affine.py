"""Whether a model's decoder is an affine map of the code, and which."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Affine(NamedTuple):
    """code @ rows + offset, [size, D] and [D] float64."""

    rows: Any
    offset: Any


def affine_decoder(model: Any, state: Any, size: int) -> Affine | None:
    """The map that the decoder of codes of `size` numbers is, where it is affine (that is tried, not asked); else None."""
    rng = np.random.Generator(np.random.Philox(0))
    decode = jax.jit(lambda code: model.decode(state, code, jnp.full(len(code), -1)).reshape(len(code), -1))
    codes = rng.standard_normal((8, size)).astype(np.float32)
    pairs = np.concatenate([codes, codes[::-1], codes + codes[::-1], 3 * codes])
    offset = np.asarray(decode(jnp.zeros((1, size))), np.float64)
    one, other, both, thrice = np.split(np.asarray(decode(jnp.asarray(pairs)), np.float64) - offset, 4)
    tolerance = 1e-4 * max(1e-6, np.abs(one).max())
    if np.abs(both - one - other).max() > 4 * tolerance or np.abs(thrice - 3 * one).max() > 4 * tolerance:
        return None
    return Affine(np.asarray(decode(jnp.eye(size)), np.float64) - offset, offset[0])
