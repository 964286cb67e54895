"""What a run folder may consist of: regular files and folders. A run may come from a stranger, and a link in it would lead what
is read from it, written to it or removed from it to a place that the user never named."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from aecli.errors import RunError
from aecli.system.reading import kind_of

FOLDERS = ("checkpoints", "samples", "eval", "samplers", "tensorboard", "wandb", "mlflow")
MOST = 200_000
"""Entries in all."""


def check_parts(run: Path) -> None:
    """Raises RunError if anything below a run folder is a link, a FIFO, a socket or a device, or one of FOLDERS is no folder."""
    seen = 0
    top = str(run)
    folders = [top]
    while folders:
        # Of a run that is listed this is most of the work: texts, since a Path takes longer to make than an entry to look at.
        # A run that is being trained makes and removes folders; what has gone holds nothing.
        folder = folders.pop()
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                named = folder is top and entry.name in FOLDERS
                if named or not entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        what = kind_of(entry.stat(follow_symlinks=False).st_mode)
                        where = os.path.relpath(entry.path, run)
                        wrong = f"{what or 'a file'}, and no folder" if named else f"{what}, which no run holds"
                        raise RunError(f"{where} of run {run.name} is {wrong}", _FIX)
        if seen > MOST:
            raise RunError(f"run {run.name} holds more than {MOST:,} files", "this is no run that aecli made")


_FIX = "move it away, or ask whoever gave you the run"
