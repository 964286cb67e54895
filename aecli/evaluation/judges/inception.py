"""Features of the Inception network that published Frechet distances are computed by, from a weights file that the user has.

Szegedy et al. 2016, "Rethinking the Inception architecture", table 1, as TensorFlow trained it and Heusel et al. 2017 used it:
average pooling leaves the padding out, and the last block pools by the maximum. The file is an npz with the names and shapes
of the usual PyTorch port (`pt_inception-2015-12-05-6726825d.pth`), made once by

    torch.load(...) -> numpy.savez("inception.npz", **{name: value.numpy() for name, value in weights.items()})
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from aecli.errors import UsageError
from aecli.system.arrays import read_arrays
from aecli.system.reading import Unreadable

FEATURES = 2048
SIDE = 299
BATCH = 50
EPSILON = 1e-3
"""What the batch normalization adds to a variance."""

Params = dict[str, jax.Array]


class Inception(NamedTuple):
    params: Params
    hash: str

    piece = BATCH
    """Images at once."""

    def features(self, image: Any) -> Any:
        """[n, H, W, 1 or 3] in [0, 1] -> [n, 2048] float32."""
        parts = [image[i : i + BATCH] for i in range(0, len(image), BATCH)]
        return np.concatenate([np.asarray(forward(self.params, jnp.asarray(part, jnp.float32))) for part in parts])


def load(path: Path) -> Inception:
    """Raises UsageError for a file that has not all the weights."""
    try:
        arrays = read_arrays(Path(os.path.realpath(path)))
    except (OSError, Unreadable) as error:
        raise UsageError(
            f"--inception {path}: cannot be read as an npz file ({error})", "see the head of aecli/evaluation/judges/inception.py"
        ) from None
    params = {name: jnp.asarray(value, jnp.float32) for name, value in arrays.items() if name != "num_batches_tracked"}
    try:
        jax.eval_shape(forward, params, jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32))
    except (KeyError, TypeError, ValueError) as error:
        reason = f"the weight {error} is missing" if isinstance(error, KeyError) else "its weights have other shapes"
        raise UsageError(f"--inception {path}: {reason}", "see the head of aecli/evaluation/judges/inception.py") from None
    return Inception(params, hashlib.sha256(path.read_bytes()).hexdigest())


@jax.jit
def forward(params: Params, image: jax.Array) -> jax.Array:
    """[B, H, W, 1 or 3] in [0, 1] -> [B, 2048]."""
    x = jnp.broadcast_to(image, (*image.shape[:3], 3))
    x = 2 * jax.image.resize(x, (len(x), SIDE, SIDE, 3), "linear", antialias=False) - 1
    conv = partial(_conv, params)
    x = conv(conv(conv(x, "Conv2d_1a_3x3", 2, valid=True), "Conv2d_2a_3x3", valid=True), "Conv2d_2b_3x3")
    x = _max(x, 2)
    x = _max(conv(conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3", valid=True), 2)
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _cat(
            conv(x, f"{name}.branch1x1"),
            _chain(conv, x, f"{name}.branch5x5", 2),
            _chain(conv, x, f"{name}.branch3x3dbl", 3),
            conv(_mean(x), f"{name}.branch_pool"),
        )
    x = _cat(
        conv(x, "Mixed_6a.branch3x3", 2, valid=True),
        conv(_chain(conv, x, "Mixed_6a.branch3x3dbl", 2), "Mixed_6a.branch3x3dbl_3", 2, valid=True),
        _max(x, 2),
    )
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        x = _cat(
            conv(x, f"{name}.branch1x1"),
            _chain(conv, x, f"{name}.branch7x7", 3),
            _chain(conv, x, f"{name}.branch7x7dbl", 5),
            conv(_mean(x), f"{name}.branch_pool"),
        )
    x = _cat(
        conv(conv(x, "Mixed_7a.branch3x3_1"), "Mixed_7a.branch3x3_2", 2, valid=True),
        conv(_chain(conv, x, "Mixed_7a.branch7x7x3", 3), "Mixed_7a.branch7x7x3_4", 2, valid=True),
        _max(x, 2),
    )
    for name, pool in (("Mixed_7b", _mean), ("Mixed_7c", partial(_max, stride=1, padding="SAME"))):
        narrow = conv(x, f"{name}.branch3x3_1")
        double = _chain(conv, x, f"{name}.branch3x3dbl", 2)
        x = _cat(
            conv(x, f"{name}.branch1x1"),
            *(conv(narrow, f"{name}.branch3x3_2{side}") for side in "ab"),
            *(conv(double, f"{name}.branch3x3dbl_3{side}") for side in "ab"),
            conv(pool(x), f"{name}.branch_pool"),
        )
    return x.mean(axis=(1, 2))


def _conv(params: Params, x: jax.Array, name: str, stride: int = 1, valid: bool = False) -> jax.Array:
    """Convolution, batch normalization with its fixed statistics, and a rectifier."""
    kernel = params[f"{name}.conv.weight"]  # [out, in, h, w]
    x = lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID" if valid else "SAME", dimension_numbers=("NHWC", "OIHW", "NHWC")
    )
    scale = params[f"{name}.bn.weight"] / jnp.sqrt(params[f"{name}.bn.running_var"] + EPSILON)
    shift = params[f"{name}.bn.bias"] - params[f"{name}.bn.running_mean"] * scale
    return jax.nn.relu(x * scale.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1))


def _chain(conv: Any, x: jax.Array, name: str, n: int) -> jax.Array:
    for number in range(1, n + 1):
        x = conv(x, f"{name}_{number}")
    return x


def _cat(*parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts, axis=-1)


def _max(x: jax.Array, stride: int, padding: str = "VALID") -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _mean(x: jax.Array) -> jax.Array:
    """Over 3x3 pixels, of which those outside the image do not count."""

    def total(y: jax.Array) -> jax.Array:
        return lax.reduce_window(y, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")

    return total(x) / total(jnp.ones((1, *x.shape[1:3], 1)))
