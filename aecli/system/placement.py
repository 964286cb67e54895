"""Where arrays live: the batch is split over all local devices, the state is on each. The only file that knows shardings."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from aecli.errors import DeviceError
from aecli.system import backend
from aecli.system.progress import peak_bytes


class Placement(NamedTuple):
    """`replicated`: whole on every device; `rows`: the first axis split; `chunk`: the second axis split (steps come first)."""

    replicated: NamedSharding
    rows: NamedSharding
    chunk: NamedSharding

    @property
    def devices(self) -> int:
        return self.replicated.mesh.size


def local_devices() -> list[Any]:
    """The devices of this process, which the first call starts. Raises DeviceError if JAX finds none of the platform that was
    asked for."""
    backend.prepare()
    try:
        devices = jax.local_devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS") or "any platform"
        lines = str(error).strip().splitlines()
        raise DeviceError(
            f"JAX finds no device of {asked}" + (f": {lines[0]}" if lines else ""),
            "unset JAX_PLATFORMS, or install the device's package: pip install 'aecli[cuda]' or 'aecli[tpu]'",
        ) from None
    backend.multiply_exactly(devices[0].platform)
    return devices


def placement(batch_size: int) -> Placement:
    """Over as many local devices as divide the batch evenly."""
    devices = local_devices()
    count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,), devices=devices[:count])
    return Placement(
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
        NamedSharding(mesh, PartitionSpec(None, "data")),
    )


def most_bytes() -> int:
    """The most memory that this process has had: of the device, or on a CPU of the process."""
    stats = local_devices()[0].memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats and "peak_bytes_in_use" in stats else peak_bytes()


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Copies a pytree of host arrays to the devices."""
    return jax.device_put(tree, sharding)
