"""Invertible maps of codes by affine coupling (Dinh et al. 2017, "Density estimation using Real NVP", equations 4 to 8)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.mlp import Gate

HIDDEN = 128
"""Units of the gated layer of a coupling."""
MOST_LOG_SCALE = 2.0
"""A coupling scales a number by exp(-2) to exp(2): no step can make a density explode."""


class Coupling(nnx.Module):
    """Half of the numbers, scaled and moved by what a gated layer makes of the other half, which stays: [B, latent] both ways.
    It starts as the identity."""

    def __init__(self, latent: int, hidden: int, turned: bool, *, rngs: nnx.Rngs) -> None:
        self.turned, self.kept = turned, latent - latent // 2 if turned else latent // 2
        moved = latent - self.kept
        self.hidden = Gate(self.kept, hidden, rngs=rngs)
        self.last = nnx.Linear(hidden, 2 * moved, kernel_init=nnx.initializers.zeros_init(), rngs=rngs)

    def to_base(self, code: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Nearer to the base, and the logarithm of the determinant of the map's derivative, [B, latent] and [B]."""
        kept, moved = self._halves(code)
        log_scale, shift = self._map(kept)
        return self._whole(kept, (moved - shift) * jnp.exp(-log_scale)), -log_scale.sum(-1)

    def from_base(self, code: jax.Array) -> jax.Array:
        """The inverse."""
        kept, moved = self._halves(code)
        log_scale, shift = self._map(kept)
        return self._whole(kept, moved * jnp.exp(log_scale) + shift)

    def _halves(self, code: jax.Array) -> tuple[jax.Array, jax.Array]:
        if self.turned:
            return code[:, -self.kept :], code[:, : -self.kept]
        return code[:, : self.kept], code[:, self.kept :]

    def _whole(self, kept: jax.Array, moved: jax.Array) -> jax.Array:
        return jnp.concatenate([moved, kept] if self.turned else [kept, moved], axis=-1)

    def _map(self, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = self.last(self.hidden(kept.astype(self.last.kernel[...].dtype))).astype(jnp.float32)
        log_scale, shift = jnp.split(out, 2, axis=-1)
        return MOST_LOG_SCALE * jnp.tanh(log_scale / MOST_LOG_SCALE), shift


class CouplingFlow(nnx.Module):
    """Couplings of which each moves the half that the one before kept."""

    def __init__(self, latent: int, couplings: int, *, rngs: nnx.Rngs) -> None:
        self.couplings = nnx.List([Coupling(latent, HIDDEN, bool(turn % 2), rngs=rngs) for turn in range(couplings)])

    def to_base(self, code: jax.Array) -> tuple[jax.Array, jax.Array]:
        """As of `Coupling`."""
        total = jnp.zeros(code.shape[0])
        for coupling in self.couplings:
            code, log_det = coupling.to_base(code)
            total += log_det
        return code, total

    def from_base(self, code: jax.Array) -> jax.Array:
        for coupling in reversed(self.couplings):
            code = coupling.from_base(code)
        return code
