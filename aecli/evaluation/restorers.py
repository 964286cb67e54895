"""The restorer that every model of corrupted images is held against, fitted for the data once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import numpy as np

from aecli.core.model import Batch
from aecli.distributions.corruptions import Corruption, GaussianNoise, corrupt_batch, label, moments
from aecli.evaluation.subject import Subject
from aecli.measures.baselines import linear


def affine(subject: Subject, corruptions: tuple[Corruption, ...]) -> tuple[str, linear.Affine] | None:
    """The affine map of least squared error from corrupted images to clean ones, and what it is called, clipped; None if images
    are too large for one."""
    if subject.moments is None:
        return None
    if len(corruptions) == 1 and isinstance(noise := corruptions[0], GaussianNoise):
        return "Wiener, clipped", linear.wiener(subject.moments, noise.sigma)

    def pairs() -> Iterable[tuple[Any, Any]]:
        for batch, key, real in subject.batches("train"):
            clean, shown = (np.asarray(x)[:real].reshape(real, -1) for x in (batch.image, pair(corruptions, batch, key)[0]))
            yield clean, shown

    expected = moments(corruptions, linear.untouched(subject.moments), subject.spec)
    if expected is not None:
        return "affine, clipped", linear.restorer(expected)
    fitted = subject.shared(f"restorer {label(corruptions)}", lambda: linear.restorer(linear.seen(pairs()))._asdict())
    return "affine, clipped", linear.Affine(fitted["offset"], fitted["centre"], fitted["matrix"])


def restored(by: linear.Affine, shown: Any) -> Any:
    """What an affine map makes of images [n, H, W, C], clipped to [0, 1], float32."""
    return np.clip(by(shown.reshape(len(shown), -1)), 0, 1).reshape(shown.shape).astype(np.float32)


@partial(jax.jit, static_argnames=("corruptions",))
def pair(corruptions: tuple[Corruption, ...], batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The corrupted images, and which pixels are hidden."""
    shown = corrupt_batch(corruptions, batch, key)
    return shown.image, shown.hidden
