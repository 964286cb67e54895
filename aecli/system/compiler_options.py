"""Options of XLA for CPUs, which a release has and another has not."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp


@cache
def cpu_options(**options: str | bool) -> dict[str, str | bool]:
    """The options, or none of them on another device, and where this jaxlib does not know them all."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(jnp.sin, compiler_options=options).lower(1.0).compile()
    except Exception:
        return {}
    return options
