"""Programs that the compiler is better told about."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import jax

from aecli.system.compiler_options import cpu_options

P = ParamSpec("P")
R = TypeVar("R")


def unfused(function: Callable[P, R], *static: str) -> Callable[P, R]:
    """jit with static arguments of these names, in which XLA on CPUs does not compute a product of matrices and the exponentials
    and sums that follow it in one loop: for likelihoods of many codes that loop takes more than twice the time."""

    @cache
    def compiled() -> Callable[P, R]:
        options = cpu_options(xla_cpu_experimental_ynn_fusion_type="")
        return jax.jit(function, static_argnames=static, compiler_options=options)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return compiled()(*args, **kwargs)

    return call
