"""Where arrays live: the batch is split over all devices that train, the state is on each. The only file that knows shardings.

One process trains on its own devices; of several that train together (`hosts.py`) each holds its part of every batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from aecli.errors import DeviceError, SettingError
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

    @property
    def whole(self) -> bool:
        """Whether all of it is in this process."""
        return self.replicated.is_fully_addressable

    @property
    def here(self) -> Placement:
        """Over the devices of this process alone."""
        return self if self.whole else _over(sorted(self.replicated.addressable_devices, key=lambda device: device.id))

    def share(self, batch_size: int) -> NDArray[np.int64]:
        """Which rows of a batch are on the devices of this process, in order."""
        spans = self.chunk.addressable_devices_indices_map((1, batch_size)).values()
        return np.sort(np.concatenate([np.arange(batch_size)[span[1]] for span in spans if span is not None]))


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


def all_devices() -> list[Any]:
    """The devices of all processes that train together. Raises DeviceError as `local_devices` does."""
    local_devices()
    return jax.devices()


def placement(batch_size: int) -> Placement:
    """Over as many devices of this process as divide the batch evenly."""
    devices = local_devices()
    return _over(devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)])


def placement_of_all(batch_size: int) -> Placement:
    """Over all devices of all processes that train together; of one process as `placement`. Raises SettingError if they do not
    divide the batch evenly."""
    if (processes := jax.process_count()) == 1:
        return placement(batch_size)
    devices = all_devices()
    if batch_size % len(devices):
        message = f"a batch of {batch_size} cannot be split over the {len(devices)} devices of {processes} processes"
        raise SettingError(("data", "batch_size"), "unsuitable", message, help=f"set a multiple of {len(devices)}")
    return _over(devices)


def _over(devices: Sequence[Any]) -> Placement:
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
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
    """Copies a pytree of host arrays to the devices; where others have some of them, all processes give the same."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree)


def put_share(array: Any, place: Placement, batch_size: int) -> jax.Array:
    """The chunk [steps, B, ...] of which this process gives the columns of its `share`, [steps, part of B, ...]."""
    return jax.make_array_from_process_local_data(place.chunk, array, (len(array), batch_size, *array.shape[2:]))


def spread(tree: Any, place: Placement) -> Any:
    """A pytree that is whole on the devices of process 0, on those of all of them, bit by bit; the others give one of the same
    form. Every process calls it at the same time."""
    if place.whole:
        return tree
    flat, structure = jax.tree.flatten(jax.device_get(tree))
    parts = [np.asarray(leaf, order="C") for leaf in flat]
    ends = np.cumsum([part.nbytes for part in parts])
    words = np.zeros(-(-ends[-1] // 4), np.uint32)  # a sum with zeros keeps the bits of whole numbers, and not of -0.0
    for part, end in zip(parts, ends, strict=True):
        words.view(np.uint8)[end - part.nbytes : end] = part.reshape(-1).view(np.uint8)

    devices: Any = place.replicated.mesh.devices
    processes = [device.process_index for device in devices.flat]

    def row(index: Any) -> Any:
        """Of one device of process 0 the words, and of the others zeros."""
        return words[None] if (index[0].start or 0) == processes.index(0) else np.zeros((1, len(words)), np.uint32)

    # The collective is one of all devices, as those of the steps are: the first such connects them, and waits for no late one.
    rows = jax.make_array_from_callback((place.devices, len(words)), place.rows, row)
    add = jax.jit(lambda rows: rows.sum(0, dtype=rows.dtype), out_shardings=place.replicated)
    given = np.asarray(add(rows)).view(np.uint8)
    whole = [given[end - part.nbytes : end].view(part.dtype).reshape(part.shape) for part, end in zip(parts, ends, strict=True)]
    return jax.tree.unflatten(structure, put(whole, place.replicated))


def here(tree: Any, place: Placement) -> Any:
    """A pytree that is whole on every device of all processes, on those of this one alone: the same memory."""
    if place.whole:
        return tree
    own = place.here.replicated
    return jax.tree.map(
        lambda x: jax.make_array_from_single_device_arrays(x.shape, own, [shard.data for shard in x.addressable_shards]), tree
    )
