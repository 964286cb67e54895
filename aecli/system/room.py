"""How much room there is: in memory, on a disk. What cannot fit is refused before it is begun."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


def free_memory() -> int:
    """Bytes that can be allocated: what Linux says is available, less where the process is in a group (a container) with a limit
    of its own; elsewhere what the machine has."""
    free = 0
    with contextlib.suppress(OSError, ValueError):
        free = 1024 * _number(Path("/proc/meminfo"), "MemAvailable:")
    if not free:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no group, no limit ("max"), or an older kernel
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free = min(free, max(0, limit - _number(Path("/sys/fs/cgroup/memory.stat"), "anon")))
    return free


def mapped_memory() -> int:
    """Bytes of this process's memory that are pages of files, as Linux counts them; elsewhere more than any limit."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 2**63


def free_disk(folder: Path) -> int:
    """Bytes that can be written to a folder, or to the nearest one above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _number(path: Path, name: str) -> int:
    """The number after a name in a file of such lines. Raises ValueError if there is none."""
    for line in path.read_text().splitlines():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1])
    raise ValueError(name)


def gigabytes(size: int) -> str:
    """Bytes for a person: `4.5 GB`, `12 MB`."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.0f} MB"
