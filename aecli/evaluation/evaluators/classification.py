r"""Classes by Bayes' rule: the label under which the image is likeliest, argmax over y of log p(x | y) + log p(y).

With $p(y)$ the frequencies of the train split,

$$p(y \mid x) = \frac{p(x \mid y)\, p(y)}{\sum_{y'} p(x \mid y')\, p(y')},$$

where $\log p(x \mid y)$ is exact, or estimated from a tenth of the likelihood's importance samples, with the same random
numbers for each label. Of gray images under a Bernoulli likelihood it is a cross-entropy, which ranks the labels as well.
Frequencies are of the labels of the train split, half an image added to each of its classes, also where other data that is of
some of these is measured. Images without a label, or of a class that `data.classes` kept from the model, are left out. Beside
it stand the commonest class, and the frequencies for every image.

Metrics
-------
- `bayes_accuracy` (share, higher): how often that label is the image's.
- `label_nll_nats` (nats, lower): $-\log p(y \mid x)$ of the image's label.
- `calibration_error` (1, lower): the mean distance between $p(y \mid x)$ of the class that is said and the share of such
  answers that is right, over 15 bins (Guo et al. 2017, "On calibration of modern neural networks", equation 3).
- `nll_given_label_nats` (nats, lower): $-\log p(x \mid y)$, as it was used; null of a cross-entropy, which is no likelihood.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core.abilities import Scores
from aecli.core.model import Batch
from aecli.evaluation.evaluators import likelihood
from aecli.evaluation.importance import importance_bounds
from aecli.evaluation.subject import Subject
from aecli.measures.calibration import BINS, expected_calibration_error
from aecli.measures.metric import Findings, Metric, average
from aecli.system.unfused import unfused


def cannot(subject: Subject) -> str | None:
    if not subject.model.is_conditional:
        return "the model is not conditional on the label (conditional: true)"
    if not (subject.labels >= 0).any():
        return f"no {subject.spec.kind} of the split has a label"
    if not _known(subject).any():
        return f"the {subject.spec.kind}s of the split are of no class that the model was trained on"
    return None


def _known(subject: Subject) -> Any:
    """Which images of the split are of a class that the model knows, [n] bool."""
    kept = subject.dataset.kept
    return subject.labels >= 0 if kept is None else np.isin(subject.labels, kept)


def measure(subject: Subject) -> Findings:
    """For likelihood models of images given their label."""
    model, spec = subject.model, subject.spec
    seen = subject.dataset.train.labels
    counts = np.bincount(seen[seen >= 0], minlength=spec.classes)
    kept = np.arange(spec.classes) if subject.dataset.kept is None else list(subject.dataset.kept)
    log_prior = np.full(spec.classes, -np.inf)  # of the others the model knows nothing
    log_prior[kept] = np.log((counts[kept] + 0.5) / (counts[kept] + 0.5).sum())
    samples = max(1, subject.request.samples // 10)
    parts: list[Any] = []
    for number, (batch, key, real) in enumerate(subject.batches()):

        def make(batch: Batch = batch, key: jax.Array = key) -> dict[str, Any]:
            each = [_log_prob(model, subject.state, batch, key, jnp.int32(y), jnp.int32(samples)) for y in range(spec.classes)]
            return {"log_prob": np.stack([np.asarray(x) for x in each], axis=1)}

        parts.append(subject.journal.kept(f"classification-{number}", make)["log_prob"][:real])
    labelled = np.flatnonzero(_known(subject))
    unknown = int((subject.labels >= 0).sum()) - len(labelled)
    notes = (f"{unknown:,} {spec.kind}s of classes that the model was not trained on are left out",) if unknown else ()
    log_prob, label = np.concatenate(parts).astype(np.float64)[labelled], subject.labels[labelled]
    joint = log_prob + log_prior
    right = joint.argmax(1) == label
    largest = joint.max(1, keepdims=True)
    given = joint - largest - np.log(np.exp(joint - largest).sum(1, keepdims=True))
    image = np.arange(len(label))
    surprise, nll = -given[image, label], -log_prob[image, label]
    commonest = {"commonest class": label == log_prior.argmax()}
    protocol = {"exact": True} if isinstance(model, Scores) else {"samples": samples}
    frequencies = {"class frequencies": -log_prior[label]}
    blocks = None if subject.blocks is None else subject.blocks[labelled]
    error = expected_calibration_error(np.exp(given.max(1)), right)
    over = partial(average, blocks=blocks, protocol=protocol)
    given_label = over("nll_given_label_nats", nll, "lower", likelihood.density_unit(subject))
    values = {"right": right, "label_nll_nats": surprise}
    if (why := likelihood.no_likelihood(subject)) is None:
        values["nll_given_label_nats"] = nll
    else:
        given_label = given_label.none(f"{why}: a cross-entropy (BCE), no NLL; {likelihood.BINARIZE}")
    return Findings(
        {
            "bayes_accuracy": over("bayes_accuracy", right, "higher", beside=commonest),
            "label_nll_nats": over("label_nll_nats", surprise, "lower", beside=frequencies),
            "calibration_error": Metric(error, None, len(label), "1", "lower", {}, protocol | {"bins": BINS}),
            "nll_given_label_nats": given_label,
        },
        values,
        notes,
    )


def _log_prob_as(model: Any, state: Any, batch: Batch, key: jax.Array, label: jax.Array, samples: jax.Array) -> jax.Array:
    as_if = batch._replace(label=jnp.full_like(batch.label, label))
    if isinstance(model, Scores):
        return model.log_prob(state, as_if)
    return -importance_bounds(model, state, as_if, key, samples)["nll_nats"]


_log_prob = unfused(_log_prob_as, "model")
