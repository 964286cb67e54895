"""The weights of a trained model as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from aecli.errors import AecliError
from aecli.exports.functions import averaged
from aecli.runs import checkpoint
from aecli.runs.trained import Trained
from aecli.system.files import write_atomic

FILE = "weights.safetensors"


SCALING = {
    "scaling/mean": "the model is given (x - mean) / scale of each vector x",
    "scaling/scale": "and what it gives is in the units of the data as output * scale + mean",
}
"""What `arrays` has beside a state."""


def arrays(trained: Trained) -> dict[str, NDArray[Any]]:
    """What an evaluation uses of a state, by path, such as `encoder/layers/0/kernel`: averaged weights where there are any,
    codebooks and statistics, and how vectors are scaled."""
    found = jax.device_get(checkpoint.leaves(averaged(trained.state)))
    named = {path.removesuffix("/value"): np.array(array, order="C") for path, array in found.items()}
    scaling = trained.scaling
    return named if scaling is None else {**named, "scaling/mean": scaling.mean, "scaling/scale": scaling.scale}


def write(folder: Path, named: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Writes the arrays, reads them again and compares every bit. Raises AecliError if one is not what it was."""
    write_atomic(folder / FILE, save(dict(named), dict(facts)))
    again = load_file(folder / FILE)
    wrong = [
        name
        for name, array in named.items()
        if name not in again
        or (again[name].dtype, again[name].shape) != (array.dtype, array.shape)
        or again[name].tobytes() != array.tobytes()
    ]
    if wrong or again.keys() != named.keys():
        raise AecliError(f"{FILE} does not hold the weights of the run: {', '.join(wrong[:3])}", "look after the disk")
