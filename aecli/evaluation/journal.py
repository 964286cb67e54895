"""What an unfinished evaluation has done so far, so that it goes on where it stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aecli.system.arrays import keep, kept_arrays
from aecli.system.files import to_json, write_atomic
from aecli.system.reading import Unreadable, read_json, set_aside


class Journal:
    """Keeps arrays by name in a folder, or nowhere. What was kept under another `protocol` is thrown away first."""

    def __init__(self, folder: Path | None = None, protocol: Mapping[str, Any] | None = None) -> None:
        self._folder, self._key = folder, json.dumps(dict(protocol or {}), sort_keys=True)
        if folder is None:
            return
        stamp = folder / "protocol.json"
        if _protocol(stamp) != dict(protocol or {}):
            if os.path.lexists(folder) and not folder.is_dir():
                set_aside(folder)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_atomic(stamp, to_json(dict(protocol or {})))

    def kept(self, name: str, make: Callable[[], Mapping[str, Any]], worth_s: float = 0.0) -> dict[str, Any]:
        """What `make()` gave before, or gives now: arrays by name. What takes less than `worth_s` seconds is not kept: large
        arrays are made again sooner than they are written and read."""
        if self._folder is None:
            return dict(make())
        path, key = self._folder / f"{name}.npz", f"{name} {self._key}"
        if worth_s and not path.exists():
            start = time.monotonic()
            made = dict(make())
            if time.monotonic() - start >= worth_s:
                keep(path, key, made)
            return made
        return kept_arrays(path, key, make)

    def within(self, name: str) -> Journal:
        """A journal of its own inside of this one, for what bears the same names. It ends with this one."""
        return Journal(None if self._folder is None else self._folder / name, json.loads(self._key))

    def holds_part_of(self, evaluator: str) -> bool:
        """Whether something is kept of an evaluator's pieces, `likelihood-3` and the like."""
        return self._folder is not None and any(self._folder.glob(f"{evaluator}-*.npz"))

    def close(self) -> None:
        """The evaluation is done: nothing of this is needed any more."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                shutil.rmtree(self._folder)


def _protocol(path: Path) -> Any:
    """What a journal was kept under; None if that cannot be read."""
    with contextlib.suppress(OSError, Unreadable):
        return read_json(path)
    return None
