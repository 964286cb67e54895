r"""How well a model's scores tell the images of another data set, anomalies, from held-out images of its own.

For a score $s$ that is higher of anomalies $a$ than of normal images $x$,

$$\mathrm{AUROC} = P(s(a) > s(x)) + \tfrac12 P(s(a) = s(x)),$$

with DeLong's standard error (DeLong, DeLong & Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver
operating characteristic curves"; of the difference from a plain method with the covariance of both), and the average precision
with anomalies as positives, whose share, `anomalous_share` of the protocol, is what a score that says nothing reaches. Beside
each stands what needs no model: the distance from the mean train image, the error of PCA of the code's size, and of likelihoods
the length as a PNG file and its negative.

A likelihood alone may mislead: images that are simpler than those of train are often likelier (Nalisnick et al. 2019, "Do
deep generative models know what they don't know?", arXiv 1810.09136); an AUROC below one half says so. Two corrections stand
beside it: by the complexity of each image (Serra et al. 2020, "Input complexity and out-of-distribution detection with
likelihood-based generative models", arXiv 1909.11480), and by a bound for which the lower layers of a hierarchy are not
inferred (Havtorn et al. 2021, "Hierarchical VAEs know what they don't know", arXiv 2102.08248). An AUROC is of these
anomalies: others may be told better or worse.

Metrics
-------
- `loss_auroc`, `loss_average_precision` (1, higher): of the objective of each image.
- `nll_auroc`, `nll_average_precision` (1, higher): of $-\log p(x)$, exact or by importance sampling.
- `nll_less_complexity_auroc`, `nll_less_complexity_average_precision` (1, higher): of the same less the length of the image
  as a PNG file, in nats.
- `likelihood_ratio_auroc`, `likelihood_ratio_average_precision` (1, higher): of the bound on $\log p(x)$ less the one with
  the lower codes from the prior given the upper ones, $\mathrm{LLR}^{>k}$ of Havtorn et al. 2021; of models with layers of
  codes.
- `squared_error_auroc`, `squared_error_average_precision` (1, higher): of the squared error, summed over the image.
- `latent_distance_auroc`, `latent_distance_average_precision` (1, higher): of the squared Mahalanobis distance of the code
  from the codes of train, under one Gaussian, labels unused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.abilities import Encodes, WeighsTop
from aecli.core.model import Batch
from aecli.data.eval_batches import per_image
from aecli.distributions.corruptions import as_shown
from aecli.distributions.discrete import quantize
from aecli.evaluation import codes
from aecli.evaluation.evaluators import likelihood, objective
from aecli.evaluation.evaluators.reconstruction import code_size
from aecli.evaluation.importance import top_bounded
from aecli.evaluation.subject import Subject
from aecli.measures.baselines import linear
from aecli.measures.complexity import png_nats
from aecli.measures.detection import auroc, average_precision
from aecli.measures.metric import Findings, Metric, over_blocks

RIDGE = 1e-3
"""What is added to the variance of each feature, as a share of their mean: units that never vary would decide alone."""
AT_ONCE = 4096
"""Images whose features are in float64 at once."""


class Scored(NamedTuple):
    """A score of the `normal` images [n] and of the anomalies [m]: higher means anomalous."""

    normal: Any
    anomalous: Any


def names(*scores: str) -> tuple[str, ...]:
    """What is measured of each score."""
    return tuple(f"{score.removesuffix('_nats')}_{measure}" for score in scores for measure in ("auroc", "average_precision"))


def of_objective(subject: Subject) -> Findings:
    """For models with an evidence lower bound: `loss`, the objective of each image. Of gray images under a Bernoulli likelihood,
    where there is no `nll`, it is the cross-entropy and the rate."""
    return _findings(subject, {"loss": _of_both(subject, lambda each: objective.measure(each).values["loss"])})


def of_likelihood(subject: Subject) -> Findings:
    """For models that score or weigh: `nll_nats`, -log p(x), as `likelihood` measures it. Of images `nll_less_complexity_nats`,
    the same less the length of the image as a PNG file (Serra et al. 2020). Of models with layers of codes
    `likelihood_ratio_nats`, LLR^>k = L - L^>k of Havtorn et al. 2021: L the importance-weighted bound on log p(x) of all samples,
    as theirs, and L^>k (`WeighsTop`) the mean over as many, unweighted: weights would tighten it towards the same log p(x)."""
    scores = {"nll_nats": _of_both(subject, lambda each: likelihood.values_of(each)["nll_nats"])}
    nll = scores["nll_nats"]
    lengths: dict[str, Scored] = {}
    if subject.spec.kind == "image":
        png = _of_both(subject, _png)
        scores["nll_less_complexity_nats"] = Scored(nll.normal - png.normal, nll.anomalous - png.anomalous)
        # Both ways: the correction alone, which any model can be given, tells simple images by how short they are.
        lengths |= {"length as PNG": png, "shortness as PNG": Scored(-png.normal, -png.anomalous)}
    if isinstance(subject.model, WeighsTop):
        top = _of_both(subject, _top_bound)
        scores["likelihood_ratio_nats"] = Scored(-nll.normal - top.normal, -nll.anomalous - top.anomalous)
    return _findings(subject, scores, likelihood.protocol_of(subject), lengths)


def no_likelihood(subject: Subject) -> str | None:
    """Why images have no likelihood."""
    if (why := likelihood.no_likelihood(subject)) is not None:
        return f"{why}; {likelihood.BINARIZE}"
    why = likelihood.no_likelihood(_against(subject))
    return None if why is None else f"of the anomalies {why}"


def of_reconstruction(subject: Subject) -> Findings:
    """For models that reconstruct: `squared_error` of each image as it is, nothing of it corrupted; what is made of images is
    clipped to [0, 1]."""
    return _findings(subject, {"squared_error": _of_both(subject, _squared_error)})


def of_latent_distance(subject: Subject) -> Findings:
    """For models that encode: `latent_distance`, the squared Mahalanobis distance of the features from those of the train split,
    under one Gaussian for all classes, labels hidden."""
    train = codes.features_without_labels(subject, "train")
    mean, covariance, _ = linear.moments(train[start : start + AT_ONCE] for start in range(0, len(train), AT_ONCE))
    if not np.isfinite(covariance).all():
        return _findings(subject, {"latent_distance": _of_both(subject, lambda each: np.full(len(each.rows), np.nan))})
    ridge = RIDGE * float(np.trace(covariance)) / len(covariance) or 1.0  # of features that are all alike any will do
    lower = np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))

    def distance(each: Subject) -> Any:
        found = codes.features_without_labels(each)
        pieces = (found[start : start + AT_ONCE].astype(np.float64) - mean for start in range(0, len(found), AT_ONCE))
        return np.concatenate([(np.linalg.solve(lower, apart.T) ** 2).sum(0) for apart in pieces])

    protocol = {**codes.protocol_of(subject), "ridge": RIDGE}
    return _findings(subject, {"latent_distance": _of_both(subject, distance)}, protocol)


def _against(subject: Subject) -> Subject:
    assert subject.against is not None
    return subject.against


def _of_both(subject: Subject, score: Callable[[Subject], Any]) -> Scored:
    return Scored(*(np.asarray(score(each), np.float64) for each in (subject, _against(subject))))


def _png(subject: Subject) -> Any:
    """[n] nats, of the levels that the likelihood is of; of a density 256."""
    levels = subject.model.support() or 256

    def pieces() -> Iterator[Any]:
        for batch, _, real in subject.batches():
            yield png_nats(np.asarray(quantize(batch.image, levels))[:real], levels)

    return np.concatenate(list(pieces()))


def _top_bound(subject: Subject) -> Any:
    parts: list[Any] = []
    for number, (batch, key, real) in enumerate(subject.batches()):

        def make(batch: Batch = batch, key: jax.Array = key) -> dict[str, Any]:
            bound = top_bounded(subject.model, subject.state, batch, key, jnp.int32(subject.request.samples))
            return {"bound_nats": np.asarray(bound)}

        parts.append(subject.journal.kept(f"likelihood-top-{number}", make)["bound_nats"][:real])
    return np.concatenate(parts)


def _squared_error(subject: Subject) -> Any:
    model = subject.model

    def error(batch: Batch, _: jax.Array) -> Any:
        made = np.asarray(jitted.reconstruct(model, subject.state, as_shown(model.corruptions, batch)), np.float64)
        made = made.clip(0, 1) if subject.spec.kind == "image" else made
        return ((made - np.asarray(batch.image)) ** 2).sum(axis=(1, 2, 3))

    return per_image(subject.batches(), error)


def _plain(subject: Subject) -> dict[str, Scored]:
    """What is known of the images without the model: how far they are from the mean of train, and from the plane that PCA of the
    size of the code has of it."""
    pca = subject.pca
    if pca is None:
        return {}
    size = code_size(subject) if isinstance(subject.model, Encodes) else None

    def error(each: Subject, made: Callable[[Any], Any]) -> Any:
        return np.concatenate([((made(x) - x) ** 2).sum(1) for x in each.images()])

    found = {f"mean {subject.spec.kind}": _of_both(subject, lambda each: error(each, lambda _: pca.mean[None]))}
    if size is not None:
        found[f"PCA {size}"] = _of_both(subject, lambda each: error(each, lambda x: pca.reconstruct(x, size)))
    return found


def _findings(
    subject: Subject,
    scores: Mapping[str, Scored],
    protocol: Mapping[str, Any] = {},
    beside: Mapping[str, Scored] = {},
) -> Findings:
    """Of each score how well it tells the two apart, with the scores of each image; `beside` are more plain methods."""
    plain = {**_plain(subject), **beside}
    n, m = len(subject.rows), len(_against(subject).rows)
    whole = {**protocol, "normal": n, "anomalous": m, "anomalous_share": m / (n + m)}
    areas = {key: auroc(*each) for key, each in plain.items()}
    blocks = subject.blocks, _against(subject).blocks
    metrics: dict[str, Metric] = {}
    values: dict[str, Any] = {}
    for name, (normal, anomalous) in scores.items():
        values |= {name: normal, f"anomalous_{name}": anomalous}
        area, precision = names(name)
        none = Metric(None, None, n + m, "1", "higher", {}, whole)
        if np.isnan(normal).any() or np.isnan(anomalous).any():
            metrics |= {key: none.none("the scores of some images are no numbers") for key in (area, precision)}
            continue
        found = auroc(normal, anomalous)
        apart = {key: found.less(each).standard_error(blocks) for key, each in areas.items()}
        metrics[area] = none._replace(
            protocol=whole | over_blocks(*blocks),
            value=found.value,
            standard_error=found.standard_error(blocks),
            baselines={key: each.value for key, each in areas.items()},
            difference_errors={key: error for key, error in apart.items() if error is not None},
        )
        precisions = {key: average_precision(*each) for key, each in plain.items()}
        metrics[precision] = none._replace(value=average_precision(normal, anomalous), baselines=precisions)
    return Findings(metrics, values)
