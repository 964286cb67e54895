"""Writes what a mode shows into a run."""

from __future__ import annotations

from pathlib import Path

from aecli.sampling import pictures
from aecli.sampling.request import Shown
from aecli.system.files import write_arrays


def write(folder: Path, stem: str, shown: Shown) -> tuple[Path, Path]:
    """Writes `stem`.png and `stem`.npz; returns their paths."""
    folder.mkdir(exist_ok=True)
    picture, arrays = folder / f"{stem}.png", folder / f"{stem}.npz"
    pictures.save(picture, shown.picture)
    write_arrays(arrays, shown.arrays)
    return picture, arrays
