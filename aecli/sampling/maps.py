"""Codes of held-out images laid out in a plane."""

from __future__ import annotations

from typing import Any

import numpy as np

from aecli.core import jitted
from aecli.core.abilities import Activates
from aecli.data.eval_batches import per_image
from aecli.data.rows import choose
from aecli.errors import UsageError
from aecli.sampling.given import Drawn, Given
from aecli.sampling.scatter import scatter

PROJECTIONS = ("pca", "tsne")
PERPLEXITY = 30
"""Of t-SNE: about how many neighbours of each point it keeps near."""


def plane(given: Given) -> Drawn:
    """The codes of n test images in the colours of their classes: by the two directions in which these codes vary most (PCA), or
    with neighbours kept near each other (t-SNE, van der Maaten & Hinton 2008). Codes of one or two latents are shown as they are.

    The npz holds `point` [n, 2], `code` [n, latent], `label` [n], and of a code of units that are active or not `active`
    [units], the share of the images that each is active on."""
    projection, model, state = given.request.projection, given.model, given.state
    if projection not in PROJECTIONS:
        raise UsageError(f"--projection {projection}: there are {' and '.join(PROJECTIONS)}")
    rows = choose(given.dataset.test, given.n, given.seed)
    code, label = per_image(
        given.batches(rows), lambda batch, _: (jitted.encode(model, state, batch).reshape(batch.label.shape[0], -1), batch.label)
    )
    arrays: dict[str, Any] = {"code": code.astype(np.float32), "label": label}
    if isinstance(model, Activates):
        arrays["active"] = per_image(given.batches(rows), lambda batch, _: jitted.active(model, state, batch)).mean(0)
    points, axes = _projected(code.astype(np.float64), projection, given.seed)
    names = given.trained.class_names or tuple(map(str, range(given.trained.spec.classes)))
    return Drawn(scatter(points, label, names, axes), {"point": points.astype(np.float32), **arrays})


def _projected(code: Any, projection: str, seed: int) -> tuple[Any, tuple[str, str]]:
    n, d = code.shape
    if d <= 2:
        return np.pad(code, ((0, 0), (0, 2 - d))), ("z0", "z1" if d == 2 else "nothing")
    if not np.ptp(code, axis=0).any():  # such as those of a posterior that has collapsed
        return np.zeros((n, 2)), ("all codes are equal", "")
    if projection == "pca" or n < 4:  # of three points each is a neighbour of each
        from sklearn.decomposition import PCA

        found = PCA(2, random_state=seed).fit(code)
        first, second = (
            f"principal component {i + 1}, {of:.0%} of the variance" for i, of in enumerate(found.explained_variance_ratio_)
        )
        return found.transform(code), (first, second)
    from sklearn.manifold import TSNE

    near = TSNE(2, perplexity=min(PERPLEXITY, (n - 1) / 3), init="pca", random_state=seed)
    return near.fit_transform(code), ("t-SNE 1", "t-SNE 2")
