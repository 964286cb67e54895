"""Numbers of the suite that are kept for each kind of machine, in `kept/KIND.json`, and what has changed since.

Machines of a kind differ in speed, some of them by two: a number is held against the kept one times the ratio of their products
of matrices, which are measured with it. It has changed where the medians are further apart than both spreads together, and is
then a regression or better by the direction in which its unit is good; a number of one round has no spread, and is not judged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from results import processor, table

FOLDER = Path(__file__).parent / "kept"
HIGHER = ("images/s", "codes/s", "times")
"""Units of which more is better; of seconds less is."""
REGRESSION, BETTER, SAME, UNJUDGED, NEW = "**regression**", "better", "", "one round", "new"


class Number(NamedTuple):
    """`values`: of the rounds. `times` is a ratio of two sides on the same machine, which no machine's speed is in."""

    values: Sequence[float]
    unit: str

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        return max(self.values) - min(self.values)


class Kept(NamedTuple):
    """All of one run of the suite. `flop_per_s`: what products of matrices reached."""

    machine: Mapping[str, Any]
    flop_per_s: float
    numbers: Mapping[str, Number]


def kind(devices: str) -> str:
    """The name of the file for machines like this one: of its cores, and of its devices where they are no CPU."""
    words = processor() if "cpu" in devices.lower() else f"{devices} {processor()}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def read(path: Path) -> Kept | None:
    """None if nothing is kept of this kind yet."""
    if not path.exists():
        return None
    said = json.loads(path.read_text())
    return Kept(said["machine"], said["flop_per_s"], {name: Number(*values) for name, values in said["numbers"].items()})


def write(path: Path, kept: Kept) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(kept._asdict(), indent=1, ensure_ascii=False) + "\n")


def verdict(now: Number, before: Number, faster: float) -> tuple[float, str]:
    """The median over the one that would be expected of a machine that is so many times as fast, and what that means."""
    scale = {"times": 1.0, "s": 1 / faster}.get(now.unit, faster)
    expected = before.median * scale
    ratio = now.median / expected
    if min(len(now.values), len(before.values)) < 2:
        return ratio, UNJUDGED
    if abs(now.median - expected) <= now.spread + before.spread * scale:
        return ratio, SAME
    return ratio, BETTER if (ratio > 1) == (now.unit in HIGHER) else REGRESSION


def changes(now: Kept, before: Kept | None) -> tuple[str, list[str]]:
    """A table of every number beside the kept one, and the names of those that are regressions."""
    faster = 1.0 if before is None else now.flop_per_s / before.flop_per_s
    rows: list[list[str]] = []
    worse: list[str] = []
    for name, number in now.numbers.items():
        old = None if before is None else before.numbers.get(name)
        if old is None or old.unit != number.unit:
            rows.append([name, _shown(number), "", "", NEW])
            continue
        ratio, told = verdict(number, old, faster)
        if told == REGRESSION:
            worse.append(name)
        rows.append([name, _shown(number), _shown(old), f"{ratio:.2f}", told])
    first = "Nothing was kept of this kind of machine before." if before is None else _before(before, faster, len(worse))
    return f"{first}\n\n{table(['number', 'now', 'kept', 'now / expected', ''], rows)}", worse


def merged(now: Kept, before: Kept | None, keep: bool) -> Kept:
    """What is to be kept: all of this run and what it left out, if that was asked for or there was nothing before; otherwise the
    kept numbers and those that are new. The new ones are of a machine of another speed: they are brought to the kept one's."""
    if before is None:
        return now
    ours, theirs = (now, before) if keep else (before, now)
    faster = ours.flop_per_s / theirs.flop_per_s
    added = {
        name: Number([value * {"times": 1.0, "s": 1 / faster}.get(number.unit, faster) for value in number.values], number.unit)
        for name, number in theirs.numbers.items()
        if name not in ours.numbers
    }
    return ours._replace(numbers={**ours.numbers, **added})


def _before(before: Kept, faster: float, worse: int) -> str:
    when = ", ".join(f"{name} {value}" for name, value in before.machine.items())
    found = f"{worse} regression{'s' * (worse > 1)}" if worse else "No regression"
    return f"{found}. Kept: {when}; products of matrices are {faster:.2f} times as fast now."


def _shown(number: Number) -> str:
    digits = ",.0f" if number.median >= 100 else ".3g"
    text = f"{number.median:{digits}}"
    if len(number.values) > 1:
        text += f" ({min(number.values):{digits}} to {max(number.values):{digits}})"
    return f"{text} {number.unit}" if number.unit != "times" else f"{text} times"
