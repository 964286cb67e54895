r"""The objective and its terms, as the model defines them.

Of every value $v$ that a variant's `evaluate` returns for an image, the mean over the $n$ images of the split,
$\frac1n \sum_i v_i$, each image once. Their names are the variant's own: its page says what is minimized. Terms that are of
all codes together, such as an MMD, are measured once of the whole split and added to `loss`; the sum has no standard error,
since images do not contribute to it one by one.

It is no measure across variants: a squared error, a bound and an energy score have the name `loss` alike. Where another quick
evaluator measures the same name (`mse`, `l0`), that evaluator's number is kept.

Metrics
-------
- `loss` (nats, lower): what is minimized, as it is at evaluation: without what only helps training. Of `gan` it is an energy
  score of pixels, a distance of images in place of nats; its unit says so (intensity).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.abilities import MeasuresCodes
from aecli.core.contract import ContractError
from aecli.core.keys import Stream, stream
from aecli.core.model import Batch, check_values
from aecli.data.eval_batches import collect
from aecli.evaluation.codes import codes_of_split
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric, average, unit_of


def measure(subject: Subject) -> Findings:
    """For every model: the mean of each of its values over the split; what it measures of all codes together stands beside
    them."""
    values = collect([(_values(subject.model, subject.state, batch, key), real) for batch, key, real in subject.batches()])
    unit = subject.model.loss_unit
    metrics = {name: average(name, value, blocks=subject.blocks) for name, value in values.items()}
    metrics["loss"] = metrics["loss"]._replace(unit=unit, better="lower")
    if isinstance(subject.model, MeasuresCodes):
        codes, key = jnp.asarray(codes_of_split(subject)), stream(subject.root, Stream.CODES)
        of_set = jitted.measure_codes(subject.model, codes, key)
        if clash := sorted(set(of_set) & set(metrics) - {"loss"}):
            raise ContractError(
                f"measure_codes and evaluate both return {', '.join(clash)}",
                "a name stands for one thing; only `loss` is the sum of both",
                "rename one",
                type(subject.model).__module__,
            )
        for name, value in of_set.items():
            if name == "loss":
                mean = float(values["loss"].astype(np.float64).mean())
                metrics[name] = Metric(mean + float(value), None, len(codes), unit, "lower")
            else:
                metrics[name] = Metric(float(value), None, len(codes), unit_of(name))
    return Findings(metrics, values)


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, state: Any, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    return dict(check_values(model, "evaluate", model.evaluate(state, batch, key), len(batch.image)))
