"""The codes of whole splits: what probes and clusterings are fitted to."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.model import Batch
from aecli.data.eval_batches import per_image
from aecli.evaluation.subject import Subject

LARGEST_PROBED = 4096
WORTH_KEEPING_S = 3.0
"""How long codes take to make that an evaluation which is interrupted keeps."""

HIDDEN = {"codes": "label hidden"}
"""What the protocol of a number says that holds codes of a conditional model against labels."""


def cannot(subject: Subject) -> str | None:
    """Why codes cannot be held against labels."""
    if subject.spec.classes < 2:
        return "the data has no labels"
    if subject.code_length > LARGEST_PROBED:
        return f"a code of {subject.code_length:,} numbers is too long"
    return None


def codes_of_split(subject: Subject, split: str | None = None) -> Any:
    """The codes of a split, by default the one that is measured, [n, latent] float32, as the model makes them: of a conditional
    one they may hold the label. For whatever is held against labels or factors there is `codes_without_labels`."""
    return _codes(subject, split or subject.split, hidden=False)


def codes_without_labels(subject: Subject, split: str | None = None) -> Any:
    """The same of images whose label the model is not told (-1): what is read off them is of the image. Of a model that
    looks at no label they are the same codes."""
    return _codes(subject, split or subject.split, hidden=True)


def protocol_of(subject: Subject) -> dict[str, Any]:
    """What numbers by `codes_without_labels` say of them."""
    return dict(HIDDEN) if subject.model.is_conditional else {}


def _codes(subject: Subject, split: str, hidden: bool) -> Any:
    def encode(batch: Batch) -> Any:
        shown = batch._replace(label=jnp.full_like(batch.label, -1)) if hidden else batch
        return jitted.encode(subject.model, subject.state, shown)

    def make() -> dict[str, Any]:
        return {"code": per_image(subject.batches(split), lambda batch, _: encode(batch)).astype(np.float32)}

    return subject.journal.kept(f"codes-{split}{'-without-labels' if hidden else ''}", make, WORTH_KEEPING_S)["code"]
