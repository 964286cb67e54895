"""How much of an image survives the code, or is restored from its corruption. For models that reconstruct."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.config import Binarize
from aecli.core import Batch
from aecli.data.rows import Rows
from aecli.evaluate.batches import batches, collect
from aecli.evaluate.metric import Metric, average, psnr_db
from aecli.likelihoods import mse
from aecli.mesh import Placement


def measure(
    model: Any, state: Any, rows: Rows, binarize: Binarize, root: jax.Array, place: Placement, poll: Callable[[], None]
) -> dict[str, Metric]:
    """`mse` per value against the clean image, the pooled `psnr_db` of it, and `explained_variance`, the share of the variance
    around the mean image of the split that is not error. Of a model that is shown corrupted images, also the pooled psnr of
    those, as they are and clipped to [0, 1]: the corruption is a function of the seed and the image's place."""
    parts: list[tuple[dict[str, jax.Array], int]] = []
    total: Any = 0.0
    for batch, key, real in batches(rows, binarize, root, place, poll):
        values, pixels = _values(model, state, batch, key)
        parts.append((values, real))
        total += np.asarray(pixels, np.float64)
    found = collect(parts)
    error = average("mse", found["mse"])
    # Streamed over the whole split: the average of every batch's own share would be another number, and a smaller one.
    variance = found["square"].astype(np.float64).sum() - (total**2).sum() / error.n
    share = 1.0 - error.value * error.n * total.size / max(variance, 1e-12)
    metrics = {"mse": error, "psnr_db": psnr_db(error), "explained_variance": Metric(float(share), None, error.n, "1")}
    for name in ("corrupted", "clipped"):
        if f"{name}_mse" in found:
            metrics[f"{name}_psnr_db"] = psnr_db(average("mse", found[f"{name}_mse"]))
    return metrics


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, state: Any, batch: Batch, key: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """Per-example values, and the sum of the images [H, W, C]."""
    shown = model.corrupt(batch.image, key)
    values = {
        "mse": mse(model.reconstruct(state, batch._replace(image=shown)), batch.image),
        "square": (batch.image**2).sum(axis=(1, 2, 3)),
    }
    if shown is not batch.image:
        values["corrupted_mse"] = mse(shown, batch.image)
        values["clipped_mse"] = mse(jnp.clip(shown, 0.0, 1.0), batch.image)
    return values, jnp.where(batch.mask[:, None, None, None], batch.image, 0.0).sum(axis=0)
