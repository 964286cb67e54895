"""stub"""

from typing import NamedTuple


class Slurm(NamedTuple):
    """How jobs are asked for: the partition, the time of a cell such as `2h`, GPUs and cores of a cell, how many run at once, and
    whether it is waited for them."""

    partition: str | None = None
    time: str | None = None
    gpus: int | None = None
    parallel: int | None = None
    wait: bool = True
