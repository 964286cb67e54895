"""How much of an image survives the code. For models that reconstruct."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from aecli.config import Binarize
from aecli.core import Batch, Reconstructs
from aecli.data.rows import Rows
from aecli.evaluate.batches import batches, collect
from aecli.evaluate.metric import Metric, average, psnr_db
from aecli.likelihoods import mse
from aecli.mesh import Placement


def measure(
    model: Reconstructs, state: Any, rows: Rows, binarize: Binarize, root: jax.Array, place: Placement, poll: Callable[[], None]
) -> dict[str, Metric]:
    """`mse` per pixel, and the pooled `psnr_db` of it."""
    parts = [(_values(model, state, batch), real) for batch, _, real in batches(rows, binarize, root, place, poll)]
    error = average("mse", collect(parts)["mse"])
    return {"mse": error, "psnr_db": psnr_db(error)}


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, state: Any, batch: Batch) -> dict[str, jax.Array]:
    return {"mse": mse(model.reconstruct(state, batch.image), batch.image)}
