"""`aecli watch`: how far a run is, from its files alone. It writes nothing, and the run does not know of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aecli.config.length import epoch_end
from aecli.errors import RunError
from aecli.runs.directory import MOST_LINE, Run
from aecli.runs.query import settings
from aecli.runs.records import Row, validated
from aecli.system.reading import GONE, Unreadable, open_regular, parse_json

LOOK_SECONDS = 0.5
RECENT = 2**20
"""Bytes at the end of `metrics.jsonl` that are read at first, and the most that are read at once later."""
CODES = {"completed": 0, "diverged": 6}
"""What a watch ends with; 4 for a run that is in any other state."""


class Length(NamedTuple):
    """How long a run is, in steps of so many examples."""

    steps: int
    batch: int


def length(run: Run) -> Length:
    """Raises RunError if the config does not say."""
    said, size = settings(run), run.info().data.sizes.train
    steps, epochs, batch = (_count(said.get(key)) for key in ("train.steps", "train.epochs", "data.batch_size"))
    if batch is None or (steps is None and epochs is None):
        raise RunError(f"config.resolved.yaml of run {run.id} does not say how long it is", "restore it from a backup")
    return Length(steps if steps is not None else epoch_end(epochs or 0, size, batch), batch)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


class Tail:
    """The rows of `metrics.jsonl` as they come. What was read is not read again, and of a long file the end alone is read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None

    def rows(self) -> list[Row]:
        """Those that were written since the last call, but for lines that are none. After a resume has cut some off, all."""
        try:
            handle = open_regular(self._path)
        except (*GONE, Unreadable):
            return []
        with os.fdopen(handle, "rb") as file:
            size = os.fstat(handle).st_size
            if self._offset is None or size < self._offset:
                self._offset = max(0, size - RECENT)
            file.seek(self._offset)
            data = file.read(RECENT)
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= MOST_LINE:  # this is no line
            end = len(data)
        self._offset += end
        found: list[Row] = []
        for line in data[:end].splitlines():
            try:
                found.append(validated(Row, parse_json(line)))
            except Unreadable:
                continue  # the first may be the end of a line
        return found


def follow(run: Run, pause: Callable[[float], None] = time.sleep) -> Iterator[list[Row]]:
    """Looks again and again at a run, as long as a process holds it: the rows that are new each time."""
    tail = Tail(run.metrics)
    while run.is_locked():
        yield tail.rows()
        pause(LOOK_SECONDS)


def ended(run: Run) -> tuple[str, str]:
    """The state of a run that nobody holds, and it in words. Raises RunError if the run has been removed."""
    if not run.path.is_dir():
        raise RunError(f"run {run.id} has been removed", "`aecli runs` lists those that are there")
    recorded = run.recorded()
    state = run.state_now(recorded)
    best = ""
    if recorded.best_step is not None and recorded.best_value is not None:
        best = f", best {recorded.best_value:.5g} at step {recorded.best_step:,}"
    reason = f" ({recorded.reason})" if recorded.reason and recorded.reason != "done" else ""
    return state, f"{run.id}: {state} at step {recorded.step:,}{best}{reason}"
