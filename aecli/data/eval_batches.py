"""Held-out images in batches of one shape: the last one is padded, and its padding masked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.config.schema import Binarize
from aecli.core.keys import Stream, stream
from aecli.core.model import Batch, loss_first
from aecli.data.binarize import draw
from aecli.data.rows import Rows, apart, as_kept
from aecli.data.train_batches import to_unit
from aecli.system.placement import Placement, put

EVAL_BATCH = 256
"""Images at once, of those that are not large."""
EVAL_VALUES = 2**22
"""Values at once, of images that are: what a network keeps of a batch takes many times their memory."""


def eval_batch(values: int, most: int = EVAL_BATCH) -> int:
    """How many images of so many values each are looked at at once: `most`, or the largest power of two whose values are at most
    EVAL_VALUES. A part of the protocol: the keys of random draws are per batch."""
    fitting = max(1, EVAL_VALUES // values)
    return most if fitting >= most else 1 << (fitting.bit_length() - 1)


def batches(
    rows: Rows,
    binarize: Binarize,
    root: jax.Array,
    place: Placement,
    poll: Callable[[], None] = lambda: None,
    size: int | None = None,
) -> Iterator[tuple[Batch, jax.Array, int]]:
    """Every row once: the batch of `size`, by default as `eval_batch` has it, its key, and how many of its rows are real. Calls
    `poll` before each."""
    if size is None:
        size = eval_batch(rows.take(np.arange(1))[0].size) if len(rows) else EVAL_BATCH
    kept = as_kept(rows)
    split = place.rows if size % place.devices == 0 else place.replicated
    for number, start in enumerate(range(0, len(rows), size)):
        poll()
        index = np.minimum(np.arange(start, start + size), len(rows) - 1)
        real = min(size, len(rows) - start)
        images, labels = put(kept.take(index), split)
        yield _batch(images, labels, real, binarize, kept is not rows, root, number), stream(root, Stream.EVALUATE, number), real


@partial(jax.jit, static_argnames=("binarize", "paired"))
def _batch(
    kept: jax.Array, labels: jax.Array, real: Any, binarize: Binarize, paired: bool, root: jax.Array, number: Any
) -> Batch:
    image, pair = apart(to_unit(kept), paired)
    if binarize == "dynamic":
        image = draw(image, stream(root, Stream.BINARIZE_HELD_OUT, number))
    return Batch(image, labels, jnp.arange(len(labels)) < real, pair=pair)


def per_image(parts: Iterable[tuple[Batch, jax.Array, int]], function: Callable[[Batch, jax.Array], Any]) -> Any:
    """What `function(batch, key)` gives for each image of `batches`: of a pytree of arrays [B, ...] the same pytree of [n, ...]
    on the host, without the padding."""
    found = [jax.tree.map(lambda x, real=real: np.asarray(x)[:real], function(batch, key)) for batch, key, real in parts]
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *found)


def collect(parts: list[tuple[dict[str, jax.Array], int]]) -> dict[str, Any]:
    """Per-example values of all batches, without the padding: name -> [n]."""
    fetched = jax.device_get([values for values, _ in parts])
    names = loss_first(fetched[0]) if fetched else ()
    return {
        name: np.concatenate([np.asarray(values[name])[:real] for values, (_, real) in zip(fetched, parts, strict=True)])
        for name in names
    }
