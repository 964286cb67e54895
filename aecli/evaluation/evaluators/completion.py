r"""How likely the lower half of an image is given the upper one.

Of a model whose likelihood is a chain over values in an order,
$-\log p(x_{\text{lower}} \mid x_{\text{upper}}) = -\sum_{d \in \text{lower}} \log p(x_d \mid x_{<d})$: exact, since all of
the upper half comes first. Where a model makes several rows at once, the halves meet between two of these. Beside it every
pixel is taken for itself, with the frequencies of the train split. It says nothing of how drawn completions look:
`aecli sample RUN --mode complete` shows them.

Metrics
-------
- `completion_nats` (nats, lower): that, the mean over images; of a conditional model given the label, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.model import Batch
from aecli.distributions.discrete import quantize
from aecli.evaluation.subject import Subject
from aecli.measures.baselines import pixels
from aecli.measures.metric import Findings, average


def cannot(subject: Subject) -> str | None:
    """Why no rest can be told from what is given."""
    if subject.model.support() == 2 and not subject.is_binary:
        return "the images are gray and the likelihood is of binary pixels; set data.binarize"
    if not 0 < _given_rows(subject) < subject.spec.height:
        return f"the model makes images of {subject.spec.height} rows in one piece"
    return None


def measure(subject: Subject) -> Findings:
    """For models whose likelihood is a chain over values in an order."""
    spec, levels, rows = subject.spec, subject.model.support(), _given_rows(subject)
    known = jnp.broadcast_to(jnp.arange(spec.height)[:, None, None] < rows, spec.shape)
    parts: list[Any] = []
    for number, (batch, _, real) in enumerate(subject.batches()):

        def make(batch: Batch = batch) -> dict[str, Any]:
            given = jnp.broadcast_to(known, batch.image.shape)
            return {"nats": -np.asarray(jitted.rest_log_prob(subject.model, subject.state, batch, given))}

        parts.append(subject.journal.kept(f"completion-{number}", make)["nats"][:real])
    nats = np.concatenate(parts)
    protocol = {"exact": True, "levels": levels, "given_rows": rows}
    if subject.model.is_conditional:
        protocol["given"] = "label"
    beside = _independent(subject, rows) if subject.baselines else {}
    found = average("completion_nats", nats, "lower", blocks=subject.blocks, beside=beside, protocol=protocol)
    return Findings({"completion_nats": found}, {"completion_nats": nats})


def _given_rows(subject: Subject) -> int:
    """Half of them, or as near to it as the rows that a model makes at once allow."""
    step = subject.model.rows_at_once()
    return round(subject.spec.height / 2 / step) * step


def _independent(subject: Subject, rows: int) -> dict[str, Any]:
    levels, first = subject.model.support(), rows * subject.spec.width * subject.spec.channels

    def rest(split: str) -> Iterator[Any]:
        return (np.asarray(quantize(jnp.asarray(x[:, first:]), levels)) for x in subject.images(split))

    if levels == 2:
        name, nats = "independent pixels", pixels.independent_bernoulli(rest("train"), rest(subject.split))
    else:
        name, nats = "pixel histograms", pixels.independent_levels(rest("train"), rest(subject.split), levels)
    return {name: nats}
