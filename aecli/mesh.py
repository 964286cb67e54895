"""Where arrays live: the batch is split over all local devices, the state is on each. The only file that knows shardings."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


class Placement(NamedTuple):
    """`replicated`: whole on every device; `rows`: the first axis split; `chunk`: the second axis split (steps come first)."""

    replicated: NamedSharding
    rows: NamedSharding
    chunk: NamedSharding

    @property
    def devices(self) -> int:
        return self.replicated.mesh.size


def placement(batch_size: int) -> Placement:
    """Over as many local devices as divide the batch evenly."""
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])
    return Placement(
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
        NamedSharding(mesh, PartitionSpec(None, "data")),
    )


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Copies a pytree of host arrays to the devices."""
    return jax.device_put(tree, sharding)
