"""How many steps passes over the data take. Imports no jax."""

from __future__ import annotations

LENGTHS = ("steps", "epochs", "flop", "minutes")
"""The settings of `train` that say how long a run is, of which a config has one."""
BUDGETS = ("flop", "minutes")
"""Those among them that are turned into steps when a run starts, see `verbs/budget.py`."""


def epoch_end(epoch: int, size: int, batch: int) -> int:
    """The step at which `epoch` passes over `size` images are complete. Batches run on across the end of a pass, so that each
    image is seen once in every pass and none is dropped."""
    return -(-epoch * size // batch)
