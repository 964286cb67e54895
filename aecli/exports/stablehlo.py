"""Functions as StableHLO, by `jax.export`: a file holds the weights and runs on a CPU, a CUDA GPU and a TPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from numpy.typing import NDArray

from aecli.errors import UsageError
from aecli.exports import scripts
from aecli.exports.formats import Arrays, Format, Unable, Written, first_line
from aecli.exports.functions import Function
from aecli.system.files import write_atomic

PLATFORMS = ("cpu", "cuda", "tpu")


def check() -> None:
    """Raises UsageError if `jax.export` lacks what it writes files by."""
    try:
        import flatbuffers  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingTypeStubs]
    except ImportError:
        raise UsageError("flatbuffers is not installed, and StableHLO needs it", "pip install flatbuffers") from None


def write(folder: Path, function: Function, batch: int | None) -> Written:
    """Raises Unable if a function cannot be had for any number of examples."""
    n: Any = batch if batch is not None else export.symbolic_shape("n")[0]
    try:
        exported = export.export(jax.jit(function.call), platforms=PLATFORMS)(*(form.of(n) for form in function.inputs))
    except (TypeError, ValueError, NotImplementedError) as error:  # what jax raises of shapes that it cannot decide
        if batch is not None:
            raise
        raise Unable(
            f"it cannot be had for any number of examples: {first_line(error)}", "--batch N exports it for N at once"
        ) from error
    file = folder / f"{function.name}.stablehlo"
    write_atomic(file, bytes(exported.serialize()))
    return Written(file.name, function.inputs, list, lambda arrays: _read(file, arrays))


def _read(file: Path, arrays: Arrays) -> NDArray[Any]:
    return np.asarray(export.deserialize(bytearray(file.read_bytes())).call(*arrays))


FORMAT = Format("stablehlo", check, write, scripts.STABLEHLO, ("jax", "jaxlib"))
