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


def is_affine(model: Any, state: Any, size: int) -> bool:
    """Whether the decoder of codes of `size` numbers is an affine map, which is tried, not asked."""
    rng = np.random.Generator(np.random.Philox(0))
    codes = rng.standard_normal((8, size)).astype(np.float32)
    tried = np.concatenate([np.zeros((1, size), np.float32), codes, codes[::-1], codes + codes[::-1], 3 * codes])
    offset, *made = np.split(_decoded(model, state, tried), [1, 9, 17, 25])
    one, other, both, thrice = (part - offset for part in made)
    tolerance = 1e-4 * max(1e-6, np.abs(one).max())
    return np.abs(both - one - other).max() <= 4 * tolerance and np.abs(thrice - 3 * one).max() <= 4 * tolerance


def affine_decoder(model: Any, state: Any, size: int) -> Affine | None:
    """The map that the decoder of codes of `size` numbers is, where it is affine; else None."""
    if not is_affine(model, state, size):
        return None
    offset, rows = np.split(_decoded(model, state, np.eye(size + 1, size, -1, dtype=np.float32)), [1])
    return Affine(rows - offset, offset[0])


def _decoded(model: Any, state: Any, codes: Any) -> Any:
    """What the decoder makes of codes, [n, D] float64."""
    decode = jax.jit(lambda code: model.decode(state, code, jnp.full(len(code), -1)).reshape(len(code), -1))
    return np.asarray(decode(jnp.asarray(codes)), np.float64)
