"""The codes and features of whole splits: what probes, clusterings and objectives over a set are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.model import Batch
from aecli.data.eval_batches import per_image
from aecli.evaluation.subject import Subject

LARGEST_PROBED = 4096
"""Numbers of an image that probes are given at most."""
WORTH_KEEPING_S = 3.0
"""How long codes take to make that an evaluation which is interrupted keeps."""

HIDDEN = {"codes": "label hidden"}
"""What the protocol of a number says that holds features of a conditional model against labels."""


def cannot(subject: Subject) -> str | None:
    """Why features cannot be held against labels."""
    if subject.spec.classes < 2:
        return "the data has no labels"
    return too_long(subject)


def too_long(subject: Subject) -> str | None:
    """Why nothing is fitted to features whose cost grows with the square of their number."""
    if subject.feature_count > LARGEST_PROBED:
        return f"{subject.feature_count:,} numbers of an image are too many"
    return None


def codes_of_split(subject: Subject, split: str | None = None) -> Any:
    """The codes of a split, by default the one that is measured, [n, latent] float32, as the model makes them: of a conditional
    one they may hold the label. For whatever is held against labels or factors there is `features_without_labels`."""
    split = split or subject.split
    return _kept(subject, f"codes-{split}", split, lambda batch: jitted.encode(subject.model, subject.state, batch))


def features_without_labels(subject: Subject, split: str | None = None) -> Any:
    """The features of a split, [n, d] float32: the codes, unless the model represents images otherwise. They are of images whose
    label the model is not told (-1), so that what is read off them is of the image."""
    split = split or subject.split

    def features(batch: Batch) -> Any:
        return jitted.features(subject.model, subject.state, batch._replace(label=jnp.full_like(batch.label, -1)))

    return _kept(subject, f"features-{split}", split, features)


def protocol_of(subject: Subject) -> dict[str, Any]:
    """What numbers by `features_without_labels` say of them."""
    return {"feature_count": subject.feature_count, **(HIDDEN if subject.model.is_conditional else {})}


def _kept(subject: Subject, name: str, split: str, of: Callable[[Batch], Any]) -> Any:
    def make() -> dict[str, Any]:
        return {"code": per_image(subject.batches(split), lambda batch, _: of(batch)).astype(np.float32)}

    return subject.journal.kept(name, make, WORTH_KEEPING_S)["code"]
