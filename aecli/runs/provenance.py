"""Where a run's numbers come from: versions, devices, the git commit, the command."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from typing import Any

_PACKAGES = ("aecli", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


def collect() -> dict[str, Any]:
    """What `run.json` says about the program and the machine."""
    from aecli.system.placement import local_devices

    return {
        "command": sys.argv,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "platform": platform.platform(),
        "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in local_devices()],
        "git": git(),
    }


def git() -> dict[str, Any] | None:
    """Commit and dirty flag of the repository that the command was run in; None outside of one."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit.strip(), "dirty": bool(_git("status", "--porcelain", "--untracked-files=no").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True).stdout


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
