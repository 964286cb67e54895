"""Spectral normalization: every kernel divided by its largest singular value.

Miyato et al. 2018, "Spectral normalization for generative adversarial networks", algorithm 1: a kernel as a matrix [inputs,
outputs], one power iteration a step on vectors that are kept between steps.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

START_ITERATIONS = 30
"""The vectors of a fresh network have no steps behind them."""

Vectors = dict[str, jax.Array]
"""Path of a kernel -> its left singular vector in progress, [outputs]."""


def start(net: nnx.Module, key: jax.Array) -> Vectors:
    """Vectors close to the singular ones of a network."""
    vectors = {
        path: jax.random.normal(jax.random.fold_in(key, i), (kernel[...].shape[-1],))
        for i, (path, kernel) in enumerate(_kernels(net).items())
    }
    # A loop of the device: unrolled, these few products take longer to compile than the steps of a training.
    return jax.lax.fori_loop(0, START_ITERATIONS, lambda _, vectors: iterate(net, vectors), vectors)


def iterate(net: nnx.Module, vectors: Vectors) -> Vectors:
    """One power iteration for every kernel."""
    return {path: _iterate(_matrix(kernel), vectors[path])[1] for path, kernel in _kernels(net).items()}


def divide(net: nnx.Module, vectors: Vectors) -> None:
    """Divides the kernels of a network in place. The gradient reaches a kernel through its norm too, not the vectors."""
    for path, kernel in _kernels(net).items():
        matrix = _matrix(kernel)
        left, right = _iterate(jax.lax.stop_gradient(matrix), vectors[path])
        norm = left @ matrix.astype(jnp.float32) @ right
        kernel[...] = (kernel[...] / norm).astype(kernel[...].dtype)


def _iterate(matrix: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Unit vectors on both sides, [inputs] and [outputs]."""
    matrix = matrix.astype(jnp.float32)
    left = _unit(matrix @ right)
    return left, _unit(matrix.T @ left)


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x) + 1e-12)


def _matrix(kernel: Any) -> jax.Array:
    return kernel[...].reshape(-1, kernel[...].shape[-1])


def _kernels(net: nnx.Module) -> dict[str, Any]:
    """Path -> the parameters named `kernel`."""
    flat = nnx.to_flat_state(nnx.state(net, nnx.Param))
    return {"/".join(map(str, path)): leaf for path, leaf in flat if path[-1] == "kernel"}
