"""How much of a finite set of codes is in use. For models that quantize."""

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
from aecli.evaluate.batches import batches
from aecli.evaluate.metric import Metric
from aecli.mesh import Placement


def measure(
    model: Any, state: Any, rows: Rows, binarize: Binarize, root: jax.Array, place: Placement, poll: Callable[[], None]
) -> dict[str, Metric]:
    """Over the whole split: `code_usage`, the share of the codes that occur, and `code_perplexity`, the exponential of the
    entropy of their frequencies: as many codes in equal use would have it."""
    counts: Any = 0
    for batch, _, _ in batches(rows, binarize, root, place, poll):
        counts = counts + np.asarray(_counts(model, state, batch), np.int64)
    share = counts[counts > 0] / counts.sum()
    n = len(rows)
    return {
        "code_usage": Metric(float((counts > 0).mean()), None, n, "1"),
        "code_perplexity": Metric(float(np.exp(-(share * np.log(share)).sum())), None, n, "codes"),
    }


@partial(jax.jit, static_argnames=("model",))
def _counts(model: Any, state: Any, batch: Batch) -> jax.Array:
    """How often each code occurs, [codes]."""
    codes = model.codes_of(state, batch)
    real = jnp.broadcast_to(batch.mask[:, None], codes.shape)
    return jnp.zeros(model.code_count, jnp.int32).at[codes.reshape(-1)].add(real.reshape(-1).astype(jnp.int32))
