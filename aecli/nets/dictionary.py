"""One affine encoder and one linear decoder whose rows are a dictionary: the net of a one-layer sparse autoencoder."""

from __future__ import annotations

from math import prod
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

FIRST_STEP = 0.5
"""The step of every unit before it is learned, as a share of what the encoder makes of the error."""


class Dictionary(nnx.Module):
    """`rows` [units, H W C], of norm 1 at the start; the encoder starts as their transpose (Gao et al. 2024, appendix A.1).
    `refinements`: how often a code may be refined, each with a step [units] of its own."""

    ARRAYS: ClassVar[dict[str, str]] = {
        "rows": "the dictionary, [units, values of an example]: an output is code @ rows + mean",
        "mean": "the decoder's bias, [values], which the encoder subtracts first",
        "kernel": "the encoder, [values, units], of (x - mean) @ kernel + bias; its columns are not the dictionary",
        "bias": "the encoder's bias, [units]",
        "steps": "how far each of the refinements moves a unit, [refinements, units]",
    }
    """What its arrays are. The values of an image are those of [H, W, C] in their order."""

    def __init__(self, shape: tuple[int, int, int], units: int, refinements: int = 0, *, rngs: nnx.Rngs) -> None:
        self.shape = shape
        rows = jax.random.normal(rngs.params(), (units, prod(shape)))
        rows /= jnp.linalg.norm(rows, axis=1, keepdims=True)
        self.rows = nnx.Param(rows)
        self.kernel = nnx.Param(rows.T)
        self.bias = nnx.Param(jnp.zeros(units))
        self.mean = nnx.Param(jnp.zeros(prod(shape)))
        self.steps = nnx.Param(jnp.full((refinements, units), FIRST_STEP)) if refinements else None

    def encode(self, image: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, units] before any nonlinearity, float32."""
        centred = image.reshape(image.shape[0], -1) - self.mean[...][None]
        kernel = self.kernel[...]
        return (centred.astype(kernel.dtype) @ kernel + self.bias[...][None]).astype(jnp.float32)

    def refine(self, code: jax.Array, image: jax.Array, turn: int) -> jax.Array:
        """The code moved by what the encoder makes of the error that it leaves: [B, units] before any nonlinearity, float32."""
        assert self.steps is not None
        left = (image - self.decode(code)).reshape(image.shape[0], -1)
        kernel = self.kernel[...]
        return code + self.steps[...][turn][None] * (left.astype(kernel.dtype) @ kernel).astype(jnp.float32)

    def expand(self, code: jax.Array) -> jax.Array:
        """The sum of the rows, weighted by the code: [B, units] -> [B, H, W, C]."""
        rows = self.rows[...]
        return (code.astype(rows.dtype) @ rows).reshape(-1, *self.shape)

    def decode(self, code: jax.Array) -> jax.Array:
        """The sum, and the mean."""
        return self.expand(code) + self.mean[...].reshape(1, *self.shape)

    def centre(self, image: jax.Array) -> None:
        """Takes the mean of a batch for the decoder's bias."""
        self.mean[...] = image.mean(axis=0).reshape(-1)

    def normalize(self) -> None:
        """Brings every row to norm 1."""
        rows = self.rows[...]
        self.rows[...] = rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
