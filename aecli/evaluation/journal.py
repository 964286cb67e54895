"""What an unfinished evaluation has done so far, so that it goes on where it stopped."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aecli.system.files import kept_arrays, read_json, to_json, write_atomic


class Journal:
    """Keeps arrays by name in a folder, or nowhere. What was kept under another `protocol` is thrown away first."""

    def __init__(self, folder: Path | None = None, protocol: Mapping[str, Any] | None = None) -> None:
        self._folder = folder
        if folder is None:
            return
        stamp = folder / "protocol.json"
        if read_json(stamp) != dict(protocol or {}):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_atomic(stamp, to_json(dict(protocol or {})))

    def kept(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What `make()` gave before, or gives now: arrays by name."""
        if self._folder is None:
            return dict(make())
        return kept_arrays(self._folder / f"{name}.npz", make)

    def close(self) -> None:
        """The evaluation is done: nothing of this is needed any more."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)
