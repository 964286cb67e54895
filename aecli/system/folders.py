"""Folders outside of runs that aecli writes to."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Where prepared and decoded data is kept: AECLI_DATA_DIR, or aecli in the user's cache folder."""
    if given := os.environ.get("AECLI_DATA_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aecli"
