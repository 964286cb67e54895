"""Options of XLA that a release has and another has not."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp


@cache
def known_options(**options: str | bool) -> dict[str, str | bool]:
    """The options, or none of them where this jaxlib does not know them all."""
    try:
        jax.jit(jnp.sin, compiler_options=options).lower(1.0).compile()
    except Exception:
        return {}
    return options
