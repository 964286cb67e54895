"""What processes that train one run together must have in common: config, code, devices and data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from aecli.config.schema import Experiment
from aecli.data.dataset import Dataset
from aecli.errors import DataError, DeviceError, UsageError
from aecli.runs import provenance
from aecli.system.hosts import Facts
from aecli.system.placement import local_devices

_PATHS = ("path", "manual_dir")
"""Settings of `data` that are a machine's own: what lies there is held against a fingerprint."""


def program(experiment: Experiment) -> Facts:
    """What is known before JAX has made its devices: the config, and the code that it is trained by."""
    settings = experiment.model_dump(mode="json")
    settings["data"] = {key: value for key, value in settings["data"].items() if key not in _PATHS}
    return {"settings": settings, "versions": provenance.versions(), "code": provenance.code(experiment.model.variant)}


def check_program(process: int, theirs: Facts, mine: Facts) -> None:
    """Raises UsageError if another process was started with other settings or other code than process 0."""
    for key, there, here in _differing(theirs["settings"], mine["settings"]):
        message = f"process {process} was started with another config: {key} is {there!r} there, and {here!r} in process 0"
        raise UsageError(message, "start all of them with the same config and the same --set")
    for key, there, here in _differing(theirs["versions"], mine["versions"]):
        raise UsageError(f"process {process} has another {key}: {there} there, and {here} in process 0", "install the same")
    if theirs["code"] != mine["code"]:
        message = f"process {process} has other code of variant '{mine['settings']['model']['variant']}' than process 0"
        raise UsageError(message, "bring both to the same commit")


def machine(dataset: Dataset) -> Facts:
    """What is known when the data has been opened: that, and the devices."""
    return {"fingerprint": dataset.fingerprint, "train": len(dataset.train), "platform": local_devices()[0].platform}


def check_machine(process: int, theirs: Facts, mine: Facts) -> None:
    """Raises DataError if another process has other images or labels than process 0, DeviceError if it has devices of another
    kind."""
    if theirs["platform"] != mine["platform"]:
        message = f"process {process} computes on {theirs['platform']}, and process 0 on {mine['platform']}"
        raise DeviceError(message, "set JAX_PLATFORMS to the same in all of them")
    if (theirs["fingerprint"], theirs["train"]) != (mine["fingerprint"], mine["train"]):
        was = f"fingerprint {theirs['fingerprint'][:12]} there, and {mine['fingerprint'][:12]} in process 0"
        raise DataError(f"process {process} has other data: {was}", "copy the images and labels from one machine to the other")


def _differing(theirs: Any, mine: Any, above: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The names of the settings that two blocks have different values of, and both values."""
    if not (isinstance(theirs, dict) and isinstance(mine, dict)):
        if theirs != mine:
            yield above, theirs, mine
        return
    blocks = cast("Mapping[str, Any]", theirs), cast("Mapping[str, Any]", mine)
    for key in dict.fromkeys((*blocks[0], *blocks[1])):
        yield from _differing(blocks[0].get(key), blocks[1].get(key), f"{above}.{key}" if above else key)
