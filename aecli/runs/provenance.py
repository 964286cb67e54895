"""Where a run's numbers come from: versions, devices, the git commit, the code of the variant, the command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import aecli
from aecli.runs import code_hash
from aecli.runs.records import RunFile
from aecli.system.untraced import computed

PACKAGE = Path(aecli.__file__).resolve().parent
_PACKAGES = ("aecli", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")


def collect(variant: str) -> dict[str, Any]:
    """What `run.json` says about the program, the variant's part of it, and the machine."""
    from aecli.system.placement import all_devices

    devices = all_devices()
    return {
        "command": sys.argv,
        "versions": versions(),
        "platform": platform.platform(),
        "devices": [f"{device.platform}:{device.id} {device.device_kind}" for device in devices],
        "processes": len({device.process_index for device in devices}),
        "git": git(PACKAGE),
        "code": code(variant),
    }


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


class Code(NamedTuple):
    """A variant's code as it is now. `hash` is empty if there are no sources to read; `changed` names the files that are not
    what a run was trained with."""

    hash: str
    changed: tuple[str, ...]


def code(variant: str) -> dict[str, Any] | None:
    """The SHA-256 of a variant's code and of each of its files; None if there are no sources to read."""
    files = _files(variant)
    return {"hash": code_hash.hash_all(files), "files": files} if files else None


def _files(variant: str) -> dict[str, str]:
    """To parse them takes as long as to start on a small network: of the files that this process runs, it is kept."""
    if Path(aecli.__file__).resolve().parent != PACKAGE:
        return code_hash.hash_files(PACKAGE, variant)
    return computed("hashes of code", (variant,), lambda: code_hash.hash_files(PACKAGE, variant))


def code_now(info: RunFile) -> Code:
    """How the code compares with that in a run's `run.json`. A run that keeps no hash, as older ones, counts as unchanged."""
    files = _files(info.variant)
    changed = () if info.code is None else code_hash.differing(info.code.files, files)
    return Code(code_hash.hash_all(files) if files else "", changed)


def code_warning(info: RunFile) -> str | None:
    """One line that says which files have changed since a run was trained; None if none have."""
    changed = code_now(info).changed
    if not changed:
        return None
    shown = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
    return f"the code of variant '{info.variant}' has changed since this run was trained: {shown}"


def git(folder: Path) -> dict[str, Any] | None:
    """The commit of the checkout that a package lies in, and whether it is dirty: anything differs from the commit, or there
    are files that git neither knows nor ignores. Those count wherever they lie, since any of them may be a config, a helper or
    a variant that a number came from. None if git does not track the package: one that is installed below somebody's own
    repository has nothing to do with its commits."""
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        commit = _git(folder, "rev-parse", "HEAD").strip()
        # Without the lock, which runs that start together would take from each other to refresh git's index.
        changes = _git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=normal")
        return {"commit": commit, "dirty": bool(changes.strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    # A hook of another repository sets these, and they would lead git there.
    leading = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
    environment = {name: value for name, value in os.environ.items() if name not in leading}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True, env=environment).stdout


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
