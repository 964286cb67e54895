r"""Whether the code falls into the classes by itself, and whether single units stand for single factors of the data.

Features are those of `representation`. k-means makes as many clusters of the split as it has classes, of at most 20,000
labelled images, of each class its share, with the best of ten starts; beside it k-means on pixels. Where the factors of the
images are known (`shapes`), units are held against them. With $I$ the mutual information of a unit, cut into 20 bins of equal
width, and a factor $v$, and $j_1$, $j_2$ the two units that tell most of it,

$$\mathrm{MIG} = \frac{1}{\lvert V \rvert} \sum_{v \in V} \frac{I(z_{j_1}; v) - I(z_{j_2}; v)}{H(v)}$$

(Chen et al. 2018, "Isolating sources of disentanglement in VAEs", equation 6). DCI (Eastwood & Williams 2018, "A framework
for the quantitative evaluation of disentangled representations", section 2) takes the importances of units for factors from
random forests of 100 trees fitted to the train split.

Factors that do not vary, as the shape where `data.classes` keeps one, are left out; the protocol names the others.

Of few images `mig` is too small, since by chance every unit tells something of every factor. A factor that no unit tells
lowers the first two of `dci_*` as much as any: the importances of its reader are a whole share, spread over noise.

Metrics
-------
- `nmi` (1, higher): normalized mutual information of clusters and classes.
- `ari` (1, higher): adjusted Rand index, 0 by chance.
- `mig` (1, higher): the gap above.
- `dci_disentanglement` (1, higher): whether a unit is important for one factor alone, weighted by its importance.
- `dci_completeness` (1, higher): whether a factor has one important unit alone.
- `dci_informativeness` (1, higher): the accuracy of the forests.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from aecli.data.sources import factors as known
from aecli.evaluation import codes
from aecli.evaluation.subject import Subject
from aecli.measures.disentanglement import BINS, TREES, Dci, dci, mutual_information_gap, varying
from aecli.measures.metric import Findings, Metric
from aecli.measures.probes import Labelled, some_of

RESTARTS = 10
MOST_CLUSTERED = 20_000


def cannot(subject: Subject) -> str | None:
    few = len(subject.rows) < 2 * subject.spec.classes  # or there are two of each class, whichever they are
    if subject.spec.classes >= 2 and few and len(subject.rows) < 2 * _classes(subject):
        return f"{len(subject.rows)} {subject.spec.kind}s are too few"
    return codes.cannot(subject)


def measure(subject: Subject) -> Findings:
    """For models that encode, on labelled data. None where the labelled images are of one class."""
    found, told = codes.features_without_labels(subject), codes.protocol_of(subject)
    metrics, notes = _clusters(found, subject, {"clusters": _classes(subject), "restarts": RESTARTS, **told})
    n = len(found)
    factors = known.of(subject.dataset.intensity(subject.split))
    train = None if factors is None else known.of(subject.dataset.train)
    if factors is None or train is None:
        return Findings(metrics, {}, notes)
    varied = varying(factors) & varying(train)
    names = {"factors": [name for name, varies in zip(known.READABLE, varied, strict=True) if varies], **told}
    gap = Metric(None, None, n, "1", "higher", {}, names | {"bins": BINS})
    score = Metric(None, None, n, "1", "higher", {}, names | {"trees": TREES})
    if not varied.any():
        why = "no factor varies among the images"
        return Findings(metrics | {"mig": gap.none(why)} | {f"dci_{name}": score.none(why) for name in Dci._fields}, {}, notes)
    factors, train = factors[:, varied], train[:, varied]
    metrics["mig"] = gap._replace(value=mutual_information_gap(found, factors))
    read = dci(codes.features_without_labels(subject, "train"), train, found, factors)
    for name, value in read._asdict().items():
        told_of = score._replace(value=value)
        metrics[f"dci_{name}"] = told_of if value is not None else score.none("no unit tells anything of any factor")
    return Findings(metrics, {}, notes)


def _classes(subject: Subject) -> int:
    """How many classes the labelled images of the split are of."""
    return len(np.unique(subject.labels[subject.labels >= 0]))


def _clusters(features: Any, subject: Subject, protocol: dict[str, Any]) -> tuple[dict[str, Metric], tuple[str, ...]]:
    """`nmi` and `ari` of the features of labelled images, and what is to be known of them."""
    every = np.flatnonzero(subject.labels >= 0)
    labelled, label = some_of(Labelled(every, subject.labels[every]), MOST_CLUSTERED)
    features = features[labelled]
    none = Metric(None, None, len(labelled), "1", "higher", {}, protocol)
    if len(np.unique(label)) < 2:
        note = f"the labelled {subject.spec.kind}s of the split are of fewer than two classes: there is nothing to agree with"
        return {"nmi": none.none(note), "ari": none.none(note)}, ()
    clusters = _classes(subject)
    nmi, ari, distinct = _agreement(features, label, clusters)

    def of_pixels() -> dict[str, Any]:
        return {"scores": np.asarray(_agreement(subject.chosen(subject.split, labelled), label, clusters)[:2])}

    pixels = subject.shared(f"kmeans-pixels-{len(labelled)}-{clusters}", of_pixels)["scores"]
    metrics = {
        "nmi": none._replace(value=nmi, baselines={subject.raw: float(pixels[0])}),
        "ari": none._replace(value=ari, baselines={subject.raw: float(pixels[1])}),
    }
    if distinct == clusters:
        return metrics, ()
    return metrics, (f"k-means finds {distinct} of {clusters} clusters: the features take no more values than that",)


def _agreement(of: Any, label: Any, clusters: int) -> tuple[float, float, int]:
    """nmi, ari, and how many clusters there are: fewer than asked for where there are fewer different points."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    kmeans: Any = KMeans  # its types know the default of n_init alone
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer points than clusters, which the caller tells
        found = kmeans(min(clusters, len(of)), n_init=RESTARTS, random_state=0).fit_predict(np.asarray(of, np.float32))
    nmi, ari = float(normalized_mutual_info_score(label, found)), float(adjusted_rand_score(label, found))
    return nmi, ari, len(np.unique(found))
