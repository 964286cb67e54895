"""Programs that the compiler is better told about."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp

P = ParamSpec("P")
R = TypeVar("R")

_UNFUSED = {"xla_cpu_experimental_ynn_fusion_type": ""}


def unfused(function: Callable[P, R], *static: str) -> Callable[P, R]:
    """jit with static arguments of these names, in which XLA on CPUs does not compute a product of matrices and the exponentials
    and sums that follow it in one loop: for likelihoods of many codes that loop takes more than twice the time."""

    @cache
    def compiled() -> Callable[P, R]:
        return jax.jit(function, static_argnames=static, compiler_options=_options())

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled()(*args, **kwargs)

    return call


@cache
def _options() -> dict[str, str] | None:
    """None but on a CPU, which the option is for. It is experimental: a jaxlib that does not know it does without."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(jnp.sin, compiler_options=_UNFUSED).lower(1.0).compile()
    except Exception:
        return None
    return _UNFUSED
