"""The codes of whole splits: what probes and clusterings are fitted to."""

from __future__ import annotations

from typing import Any

import numpy as np

from aecli.core import jitted
from aecli.data.eval_batches import per_image
from aecli.evaluation.subject import Subject

LARGEST_PROBED = 4096


def cannot(subject: Subject) -> str | None:
    """Why codes cannot be held against labels."""
    if subject.spec.classes < 2:
        return "the data has no labels"
    if subject.code_length > LARGEST_PROBED:
        return f"a code of {subject.code_length:,} numbers is too long"
    return None


def codes_of_split(subject: Subject, split: str | None = None) -> Any:
    """The codes of a split, by default the one that is measured, [n, latent] float32."""

    def make() -> dict[str, Any]:
        code = per_image(subject.batches(split), lambda batch, _: jitted.encode(subject.model, subject.state, batch))
        return {"code": code.astype(np.float32)}

    return subject.journal.kept(f"codes-{split or subject.split}", make)["code"]
