"""What a function computes, counted in its trace: nothing is compiled for it, and it is the same on every machine of a kind. On a
CPU convolutions are products of matrices with the padding in them, which makes up to a fifth more than they have on a GPU."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np


def products(jaxpr: Any) -> float:
    """The floating-point operations of the matrix products and convolutions of a jaxpr, a multiplication and an addition each;
    what is done value by value is left out. The body of a `scan` counts as often as it runs, that of a loop of unknown length
    once, and of the branches of a `cond` the largest."""
    return sum(_of(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _of(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2.0 * prod(equation.outvars[0].aval.shape) * prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        return _convolution(equation)
    inner = [
        products(part)
        for value in parameters.values()
        for part in (value if isinstance(value, tuple | list) else (value,))
        if hasattr(part, "jaxpr") or hasattr(part, "eqns")
    ]
    if name == "cond":
        return max(inner, default=0.0)
    return sum(inner) * (parameters["length"] if name == "scan" else 1)


def _convolution(equation: Any) -> float:
    """Two for each value of the input that a value of the output is made of: neither padding nor the zeros between the values of
    a dilated input count."""
    p = equation.params
    numbers = p["dimension_numbers"]
    image, kernel = (variable.aval.shape for variable in equation.invars)
    out = equation.outvars[0].aval.shape
    total = 2.0 * out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for axis, (stride, (before, _), spread, dilation) in enumerate(
        zip(p["window_strides"], p["padding"], p["lhs_dilation"], p["rhs_dilation"], strict=True)
    ):
        width = image[numbers.lhs_spec[2 + axis]]
        places = np.arange(out[numbers.out_spec[2 + axis]])[:, None] * stride - before
        places = places + np.arange(kernel[numbers.rhs_spec[2 + axis]])[None, :] * dilation
        total *= int(((places >= 0) & (places <= (width - 1) * spread) & (places % spread == 0)).sum())
    return total
