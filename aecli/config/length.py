"""How many steps passes over the data take. Imports no jax."""

from __future__ import annotations


def epoch_end(epoch: int, size: int, batch: int) -> int:
    """The step at which `epoch` passes over `size` images are complete. Batches run on across the end of a pass, so that each
    image is seen once in every pass and none is dropped."""
    return -(-epoch * size // batch)
