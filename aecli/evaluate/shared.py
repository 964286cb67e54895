"""What evaluations of all runs on the same data have in common, computed once and kept beside the decoded data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aecli.files import exclusive, write_arrays


def kept(folder: Path, name: str, protocol: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The arrays that `make()` gives for such a protocol, from `folder` where they were made before."""
    digest = hashlib.sha256(json.dumps(dict(protocol), sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"{name}-{digest}.npz"
    if not path.exists():
        with exclusive(folder / ".lock"):
            if not path.exists():
                write_arrays(path, make())
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
