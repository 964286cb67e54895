"""What is told of work: while it goes on, and the command that does it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aecli.runs.directory import Run

_RUNS = Path("runs")
"""Where runs are looked for unless a flag says where."""


class Watch(NamedTuple):
    """`plan(line)` says what is coming; then of each part `begin(part)` and `tell(done, total)`."""

    begin: Callable[[str], None] = lambda name: None
    tell: Callable[[int, int], None] = lambda done, total: None
    plan: Callable[[str], None] = lambda line: None


NOBODY = Watch()


def command(run: Run, verb: str, words: Sequence[str]) -> str:
    """What is typed for a verb on a run, with the flag by which the run is found if it does not lie in `runs`."""
    folder = run.path.parent
    where = ["--runs-dir", str(folder)] if folder.absolute() != _RUNS.absolute() else []
    return shlex.join(["aecli", verb, *words, *where])
