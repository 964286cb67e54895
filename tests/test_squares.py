"""The decoder that mixes features of squares: what depends on what, and where it lands."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aecli.nets.squares import Squares

SHAPE, PATCH, WIDTH = (8, 12, 1), 4, 6


def decoder() -> Squares:
    return Squares(SHAPE, 2, PATCH, WIDTH, 2, 3, rngs=nnx.Rngs(0))


def reach(net: Squares) -> np.ndarray:
    """Which outputs move with which square's features, [squares, H, W]."""
    features = jax.random.normal(jax.random.key(1), (1, net.inputs))
    slope = jax.jacobian(lambda x: net(x)[0])(features)[:, :, :, 0].reshape(*SHAPE[:2], -1, 6, WIDTH)
    return np.asarray(jnp.abs(slope).sum(axis=(2, 4)) > 1e-7).transpose(2, 0, 1)


def test_each_square_makes_its_own_pixels_where_nothing_is_mixed() -> None:
    net = decoder()
    for block in net.blocks:
        block.mix[...] = jnp.zeros_like(block.mix[...])
    for site, moved in enumerate(reach(net)):
        row, column = divmod(site, SHAPE[1] // PATCH)
        own = np.zeros(SHAPE[:2], bool)
        own[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = True
        np.testing.assert_array_equal(moved, own)


def test_every_pixel_depends_on_every_square() -> None:
    assert reach(decoder()).all()
