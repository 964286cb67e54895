"""Images that a model draws to be measured: in batches of one size, each kept in the journal."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core.flop import products
from aecli.core.keys import Stream, stream
from aecli.core.model import Spec
from aecli.data.binarize import draw
from aecli.data.eval_batches import eval_batch
from aecli.evaluation.subject import Subject
from aecli.system.untraced import computed

DRAW_BATCH = 250
BITS = 0x62697473
"""What is folded into the key of a draw for the bits of binary data: far from the small numbers that models fold or split by."""


def batch_size(spec: Spec) -> int:
    """How many images are drawn at once."""
    return eval_batch(spec.size, DRAW_BATCH)


def drawn(subject: Subject, labels: Any, kept_as: str, first: int = 0) -> Any:
    """An image for each of `labels` [n] int32, its class, [n, H, W, C] float32 in [0, 1]; of binary data, drawn bits. The keys
    are those of the run's seed, from that of batch `first` on. The last batch is filled up with its last label."""
    size, n = batch_size(subject.spec), len(labels)
    every = np.pad(labels, (0, -n % size), mode="edge")
    parts: list[Any] = []
    for number, start in enumerate(range(0, n, size), first):
        subject.poll()
        subject.tell(start, n)

        def make(number: int = number, start: int = start) -> dict[str, Any]:
            key = stream(subject.root, Stream.SAMPLE, number)
            label = jnp.asarray(every[start : start + size])
            return {"image": np.asarray(_sample(subject.model, subject.state, key, label, subject.is_binary))}

        parts.append(subject.journal.kept(f"{kept_as}-{number}", make)["image"])
    return np.concatenate(parts)[:n]


def flop_of_batch(subject: Subject) -> float:
    """The operations of drawing a batch."""
    label = jax.ShapeDtypeStruct((batch_size(subject.spec),), jnp.int32)

    def count() -> float:
        return products(jax.make_jaxpr(subject.model.sample)(subject.state, subject.root, label))

    return computed("operations of draws", (subject.model, subject.spec), count)


@partial(jax.jit, static_argnames=("model", "binary"))
def _sample(model: Any, state: Any, key: jax.Array, label: jax.Array, binary: bool) -> jax.Array:
    image = model.sample(state, key, label)
    return draw(image, jax.random.fold_in(key, BITS)) if binary else image
