"""What `aecli env` tells: the program and the machine, as a report of a bug needs them."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from typing import Any

from aecli.config import shipped
from aecli.config import variants as catalog
from aecli.errors import DeviceError
from aecli.runs import provenance
from aecli.system.folders import cache_root
from aecli.system.placement import all_devices

_EXTRA = re.compile(r"\A([\w.-]+)(?![\w.\[-]).*;.*\bextra\s*==\s*['\"]([\w-]+)['\"]")
"""Of a package with extras of its own, as that of the GPU, the devices tell more."""
_OURS = re.compile(r"\A(AECLI|JAX|XLA|TFDS|CUDA|NVIDIA|OMP)_")
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL", re.IGNORECASE)


def environment() -> dict[str, Any]:
    """Versions, extras, devices, folders and variables by name, of this process. Values of variables that look like secrets are
    left out."""
    git = provenance.git(provenance.PACKAGE)
    broken = [error.message for error in catalog.load_all().broken]
    return {
        **provenance.versions(),
        "extras": ", ".join(f"{name}{'' if there else ' (not installed)'}" for name, there in _extras().items()),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": _devices(),
        "package": str(provenance.PACKAGE),
        "git": f"{git['commit']}{', dirty' if git['dirty'] else ''}" if git else None,
        "configs": None if (configs := shipped.folder()) is None else str(configs),
        "cache": str(cache_root()),
        "runs": os.path.abspath(os.environ.get("AECLI_RUNS_DIR") or "runs"),
        "broken variants": "; ".join(broken) or None,
        **{name: value for name, value in sorted(os.environ.items()) if _OURS.match(name) and not _SECRET.search(name)},
    }


def _devices() -> str:
    """What JAX finds, or why it finds nothing, which is what a report may be of."""
    try:
        return ", ".join(f"{device.platform}:{device.id} {device.device_kind}" for device in all_devices())
    except DeviceError as error:
        return f"none: {error.message}"


def _extras() -> dict[str, bool]:
    """The extras that users install, and whether all packages of each are here."""
    found: dict[str, bool] = {}
    for requirement in metadata.requires("aecli") or ():
        if (match := _EXTRA.match(requirement)) and match[2] != "dev":
            found[match[2]] = found.get(match[2], True) and _is_here(match[1])
    return found


def _is_here(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
