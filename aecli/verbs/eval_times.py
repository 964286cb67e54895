"""How long each evaluator takes: told before it is waited for, by the last time, and afterwards."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aecli.system.arrays import keep, kept
from aecli.system.folders import cache_root

WORTH_TELLING_S = 1.0


class Times:
    """Seconds of each part that began, in their order; a part that begins again goes on."""

    def __init__(self, begin: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._begin, self._part, self._since = begin, "", 0.0

    def begin(self, part: str) -> None:
        """The part before has ended."""
        self.end()
        self._part = part
        self._begin(part)

    def end(self) -> None:
        """Nothing is measured until the next part begins."""
        now = time.monotonic()
        if self._part:
            self.seconds[self._part] = self.seconds.get(self._part, 0.0) + now - self._since
        self._part, self._since = "", now


class Work(NamedTuple):
    """What decides how long an evaluation takes, but for the machine and the size of the model: `n` images of a split."""

    variant: str
    split: str
    fingerprint: str
    n: int
    samples: int
    draws: int
    per_class: int


def _file(work: Work) -> Path:
    name = "-".join(map(str, work._replace(fingerprint=work.fingerprint[:16])))
    return cache_root() / "shared" / f"seconds-{name}.npz"


def last_time(work: Work) -> dict[str, float]:
    """Seconds of each part, the last time that such work was done on this machine; none if it was not."""
    path = _file(work)
    return {name: float(value) for name, value in (kept(path, path.name) or {}).items()}


def remember(work: Work, seconds: Mapping[str, float]) -> None:
    """For `last_time`, beside what is known of other parts. Where nothing can be written, nothing is remembered."""
    path = _file(work)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        every = last_time(work) | dict(seconds)
        keep(path, path.name, {name: np.float64(value) for name, value in every.items()})


def plan(evaluators: Sequence[str], known: Mapping[str, float]) -> str | None:
    """`8 evaluators, about 20 s the last time; --only reconstruction took about 2`, or that the first time takes longer; None of
    one alone, which is nothing to choose from."""
    if len(evaluators) < 2:
        return None
    of = f"{len(evaluators)} evaluators"
    if not known.keys() >= set(evaluators):
        return f"{of}; the first time on this data takes longer than the next ones: plain methods are fitted to it"
    seconds = sum(known[name] for name in evaluators) + (known.get("draws", 0.0) if "generation" in evaluators else 0.0)
    quickest = min((name for name in evaluators if name != "objective"), key=lambda name: known[name])
    return f"{of}, about {max(1, seconds):.0f} s the last time; --only {quickest} took about {max(1, known[quickest]):.0f}"


def of_left_out(evaluator: str, flop: float, known: Mapping[str, float], stays: bool) -> str:
    """`no likelihood: 3.4e+13 operations of the network (112 s the last time); aecli eval --only likelihood runs it, or --all`;
    `likelihood stays as it was measured` where it `stays`. Sweeps tell it, too, whose own flags are others."""
    took = f" ({known[evaluator]:.0f} s the last time)" if evaluator in known else ""
    what = f"{evaluator} stays as it was measured" if stays else f"no {evaluator}"
    again = "measures it anew" if stays else "runs it"
    return f"{what}: {flop:.1e} operations of the network{took}; aecli eval --only {evaluator} {again}, or --all"


def told(seconds: Mapping[str, float]) -> str:
    """`generation 5 s, representation 4 s`, the longest first; nothing of what takes less than a second."""
    long = sorted((item for item in seconds.items() if item[1] >= WORTH_TELLING_S), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:.0f} s" for name, value in long)
