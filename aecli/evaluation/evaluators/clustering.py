"""Whether the code falls into the classes by itself, and whether single units stand for single factors of the data.

MIG: Chen et al. 2018, "Isolating sources of disentanglement in VAEs", equation 6. DCI: Eastwood & Williams 2018, "A framework for
the quantitative evaluation of disentangled representations", section 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aecli.data.sources import factors as known
from aecli.evaluation import codes
from aecli.evaluation.subject import Subject
from aecli.measures.disentanglement import BINS, TREES, dci, mutual_information_gap
from aecli.measures.metric import Findings, Metric

RESTARTS = 10


def cannot(subject: Subject) -> str | None:
    if len(subject.rows) < 2 * subject.spec.classes:
        return f"{len(subject.rows)} images are too few"
    return codes.cannot(subject)


def measure(subject: Subject) -> Findings:
    """For models that encode, on labelled data. `nmi` and `ari`: agreement of k-means on the codes of the split, as many clusters
    as classes, with the classes (normalized mutual information; adjusted Rand index, 0 by chance); beside it k-means on pixels.

    Where the factors of the images are known (`shapes`): `mig`, codes cut into 20 bins of equal width; `dci_disentanglement`,
    `dci_completeness` and `dci_informativeness` (the accuracy), from random forests of 100 trees fitted to the train split."""
    code, n = codes.codes_of_split(subject), len(subject.rows)
    nmi, ari = _agreement(code, subject)
    pixels = subject.shared("kmeans-pixels", lambda: {"scores": np.asarray(_agreement(subject.pixels(subject.split), subject))})
    protocol = {"clusters": subject.spec.classes, "restarts": RESTARTS}
    metrics = {
        "nmi": Metric(nmi, None, n, "1", "higher", {"raw pixels": float(pixels["scores"][0])}, protocol),
        "ari": Metric(ari, None, n, "1", "higher", {"raw pixels": float(pixels["scores"][1])}, protocol),
    }
    factors = known.of(subject.dataset.intensity(subject.split))
    train = None if factors is None else known.of(subject.dataset.train)
    if factors is None or train is None:
        return Findings(metrics)
    names = {"factors": list(known.READABLE)}
    metrics["mig"] = Metric(mutual_information_gap(code, factors), None, n, "1", "higher", {}, names | {"bins": BINS})
    disentangled, complete, informative = dci(codes.codes_of_split(subject, "train"), train, code, factors)
    for name, value in (("disentanglement", disentangled), ("completeness", complete), ("informativeness", informative)):
        metrics[f"dci_{name}"] = Metric(value, None, n, "1", "higher", {}, names | {"trees": TREES})
    return Findings(metrics)


def _agreement(of: Any, subject: Subject) -> tuple[float, float]:
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    kmeans: Any = KMeans  # its types know the default of n_init alone
    found = kmeans(subject.spec.classes, n_init=RESTARTS, random_state=0).fit_predict(np.asarray(of, np.float32))
    return float(normalized_mutual_info_score(subject.labels, found)), float(adjusted_rand_score(subject.labels, found))
