"""What a run folder may consist of: regular files and folders. A run may come from a stranger, and a link in it would lead what
is read from it, written to it or removed from it to a place that the user never named."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from aecli.errors import RunError
from aecli.system.reading import kind_of

FOLDERS = ("checkpoints", "samples", "eval", "samplers")
MOST = 200_000
"""Entries in all."""


def check_parts(run: Path) -> None:
    """Raises RunError if anything below a run folder is a link, a FIFO, a socket or a device, or one of FOLDERS is no folder."""
    for name in FOLDERS:
        if os.path.lexists(run / name) and (not os.path.isdir(run / name) or os.path.islink(run / name)):
            raise RunError(
                f"{name} of run {run.name} is {kind_of(os.lstat(run / name).st_mode) or 'a file'}, and no folder", _FIX
            )
    seen = 0
    folders = [run]
    while folders:
        # A run that is being trained makes and removes folders; what has gone holds nothing.
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        what = kind_of(entry.stat(follow_symlinks=False).st_mode)
                        where = os.path.relpath(entry.path, run)
                        raise RunError(f"{where} of run {run.name} is {what}, which no run holds", _FIX)
        if seen > MOST:
            raise RunError(f"run {run.name} holds more than {MOST:,} files", "this is no run that aecli made")


_FIX = "move it away, or ask whoever gave you the run"
