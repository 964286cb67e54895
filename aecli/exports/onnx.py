"""Functions as ONNX, by jax2onnx: for onnxruntime and what else reads it. What is drawn is an input, since ONNX has no keys."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Generator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import jaxpr_as_fun
from numpy.typing import NDArray

from aecli.errors import UsageError
from aecli.exports import noise, scripts
from aecli.exports.formats import Arrays, Format, Unable, Written, first_line
from aecli.exports.functions import KEY, Form, Function
from aecli.system.files import write_atomic

OPSET = 21
TRACED = 5
"""Examples that a function is traced for to see what it draws."""


def check() -> None:
    """Raises UsageError if what writes or runs ONNX is not installed."""
    for package in ("jax2onnx", "onnxruntime"):
        try:
            with _quiet():
                import_module(package)
        except ImportError:
            raise UsageError(f"{package} is not installed, and ONNX needs it", "pip install 'aecli[onnx]'") from None


def write(folder: Path, function: Function, batch: int | None) -> Written:
    """Raises Unable for a function that ONNX cannot hold, or not for any number of examples."""
    drawn = _drawn(function)
    inputs = (*(form for form in function.inputs if form.name != KEY), *drawn)
    file = folder / f"{function.name}.onnx"
    n: Any = batch if batch is not None else export.symbolic_shape("n")[0]
    forms = [form.of(n) for form in inputs]
    with _quiet():
        to_onnx: Any = import_module("jax2onnx").to_onnx
        try:
            model = to_onnx(
                _program(_explicit(function, len(drawn)), forms),
                forms,
                model_name=function.name,
                opset=OPSET,
                input_names=[form.name for form in inputs],
                output_names=[function.output.name],
            )
        except Exception as error:  # whatever it raises of an operation that it has no form for
            help = None if batch is not None else "--batch N, of N examples at once, may be had"
            raise Unable(f"jax2onnx cannot: {first_line(error)}", help) from error
    write_atomic(file, model.SerializeToString())

    def given(arrays: Arrays) -> list[NDArray[Any]]:
        kept = [array for form, array in zip(function.inputs, arrays, strict=True) if form.name != KEY]
        made = noise.drawn(function.call, [jnp.asarray(array) for array in arrays]) if drawn else []
        return [*kept, *map(np.asarray, made)]

    return Written(file.name, inputs, given, lambda arrays: _read(file, inputs, arrays))


def _drawn(function: Function) -> list[Form]:
    """The forms of what a function draws."""
    if not function.is_random:
        return []
    found = noise.draws(function.call, [form.of(TRACED) for form in function.inputs])
    return [draw.form(number, TRACED) for number, draw in enumerate(found)]


def _explicit(function: Function, count: int) -> Any:
    """The function of its inputs without the key, and what it draws."""
    if not function.is_random:
        return function.call

    def call(*given: jax.Array) -> jax.Array:
        drawn = iter(given[len(given) - count :])
        rest = iter(given[: len(given) - count])
        key = jnp.zeros(2, jnp.uint32)
        arguments = [key if form.name == KEY else next(rest) for form in function.inputs]
        return noise.run(function.call, arguments, lambda *_: next(drawn))

    return call


def _program(call: Callable[..., jax.Array], forms: Sequence[jax.ShapeDtypeStruct]) -> Callable[..., Any]:
    """A function that runs the program of another one. jax2onnx puts functions of its own in the place of many of jax while it
    traces, some of which know no number of examples but a fixed one: it is given what jax itself makes of the function."""
    run = jaxpr_as_fun(jax.make_jaxpr(call)(*forms))
    return lambda *arrays: run(*arrays)[0]


def _read(file: Path, inputs: Sequence[Form], arrays: Arrays) -> NDArray[Any]:
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
        return session.run(None, {form.name: array for form, array in zip(inputs, arrays, strict=True)})[0]
    except Exception as error:  # whatever it raises of a program that it cannot run
        raise Unable(f"onnxruntime cannot run it: {first_line(error)}") from error


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Without the hundreds of lines that jax2onnx says of packages that are not there."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


FORMAT = Format("onnx", check, write, scripts.ONNX, ("jax2onnx", "onnxruntime"))
