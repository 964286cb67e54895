r"""How much of a finite set of codes is in use.

With $f_k$ the share of code $k$ among all codes of the split. A small split cannot use a large set: there are $n$ images
times sites of codes to find them among.

Metrics
-------
- `code_usage` (1, higher): the share of the codes that occur at all.
- `code_perplexity` (codes, higher): $\exp(-\sum_k f_k \log f_k)$: as many codes in equal use would have that entropy.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core.model import Batch
from aecli.core.parts import in_parts
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric


def measure(subject: Subject) -> Findings:
    """For models that quantize, over the whole split."""
    counts: Any = 0
    for batch, _, _ in subject.batches():
        counts = counts + np.asarray(_counts(subject.model, subject.state, batch), np.int64)
    share = counts[counts > 0] / counts.sum()
    n = len(subject.rows)
    return Findings(
        {
            "code_usage": Metric(float((counts > 0).mean()), None, n, "1", "higher"),
            "code_perplexity": Metric(float(np.exp(-(share * np.log(share)).sum())), None, n, "codes", "higher"),
        }
    )


@partial(jax.jit, static_argnames=("model",))
def _counts(model: Any, state: Any, batch: Batch) -> jax.Array:
    """How often each code occurs, [codes]."""
    codes = in_parts(model, lambda part: model.codes_of(state, part), batch)
    real = jnp.broadcast_to(batch.mask[:, None], codes.shape)
    return jnp.zeros(model.code_count(), jnp.int32).at[codes.reshape(-1)].add(real.reshape(-1).astype(jnp.int32))
