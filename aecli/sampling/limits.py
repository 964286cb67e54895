"""How many images fit: `-n` is refused before anything is loaded or drawn, with the number that can be had."""

from __future__ import annotations

from aecli.core.model import Spec
from aecli.errors import UsageError
from aecli.system.room import free_memory, gigabytes

VALUE_BYTES = 64
"""Memory for each value of an image: it is there as float32 on the device and on the host, rounded, and in the picture, and a
network that draws it keeps several times its values on the way."""


def check_room(n: int, images: int, spec: Spec) -> None:
    """Raises UsageError if `images` for each of n take more than half of the memory that is free."""
    each = images * spec.size * VALUE_BYTES
    room = free_memory() // 2
    if n * each <= room:
        return
    most = room // each
    raise UsageError(
        f"-n {n:,} is {n * images:,} {spec.kind}s of {spec.size:,} values, about {gigabytes(n * each)} in all, and "
        f"{gigabytes(room)} may be used",
        f"-n {most} or fewer" if most else "free some memory",
    )
