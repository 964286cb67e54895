"""Which numbers may stand side by side: those whose protocols agree in everything that decides them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aecli.reports.member import setting_as_json
from aecli.runs.records import Number

OWN = (
    *("step", "seed", "code", "choice", "feature_count", "units", "active", "target", "classifier_accuracy", "data", "against"),
    "error_over_blocks",
)
"""What a protocol says of the run, and not of how it was measured: how far it was trained, its seed, the size of its code and
features, how many units are active, the target of its penalty, what a probe chose; `code` is told by a mark, and a judge is
known by the hash of its features, as other data is, whatever it is called, by its fingerprint. Over how many blocks an error is
says nothing of the value."""
SAME_IMAGES = ("split", "fingerprint", "binarize")
"""What is alike where the values of two runs are of the same images."""
_MOST_RUNS = 3
_MOST_SHOWN = 10


class Conflict(NamedTuple):
    """A part of the protocol that runs disagree in: `values` as (value, ids of runs), for metrics that are all apart alike."""

    key: str
    values: tuple[tuple[str, tuple[str, ...]], ...]
    metrics: tuple[str, ...]

    def __str__(self) -> str:
        told = "; ".join(f"{_short(value)} ({_some(runs)})" for value, runs in self.values[:_MOST_RUNS])
        more = len(self.values) - _MOST_RUNS
        told += f"; and {more} more values" if more > 0 else ""
        return f"{self.key} of {_some(self.metrics)}: {told}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_RUNS]) + (f" and {len(names) - _MOST_RUNS} more" if len(names) > _MOST_RUNS else "")


def _short(value: str) -> str:
    """The beginning of a hash tells it from another."""
    return value if len(value) <= 40 else f"{value[:12]}..."


def deciding(number: Number) -> dict[str, str]:
    """What decides a number beside the run, as texts."""
    kept = {key: value for key, value in number.protocol.items() if key not in OWN}
    texts = {key: value if isinstance(value, str) else setting_as_json(value) for key, value in kept.items()}
    return {**texts, "unit": number.unit, "images": str(number.n)}


def conflicts(metric: str, numbers: Mapping[str, Number]) -> list[Conflict]:
    """In what the numbers of runs, by their ids, were measured in different ways."""
    protocols = {run: deciding(number) for run, number in numbers.items() if number.value is not None}
    found: list[Conflict] = []
    for key in dict.fromkeys(key for protocol in protocols.values() for key in protocol):
        by_value: dict[str, list[str]] = {}
        for run, protocol in protocols.items():
            by_value.setdefault(protocol.get(key, "none"), []).append(run)
        if len(by_value) > 1:
            found.append(Conflict(key, tuple((value, tuple(runs)) for value, runs in by_value.items()), (metric,)))
    return found


def joined(found: Sequence[Conflict]) -> list[Conflict]:
    """Those that are alike of several metrics as one."""
    alike: dict[tuple[str, tuple[tuple[str, tuple[str, ...]], ...]], list[str]] = {}
    for conflict in found:
        alike.setdefault((conflict.key, conflict.values), []).extend(conflict.metrics)
    return [Conflict(key, values, tuple(metrics)) for (key, values), metrics in alike.items()]


def told(found: Sequence[Conflict]) -> str:
    """A line a conflict; of many the first."""
    more = [f"and {len(found) - _MOST_SHOWN} more"] if len(found) > _MOST_SHOWN else []
    return "\n".join(f"  {line}" for line in [*map(str, found[:_MOST_SHOWN]), *more])


def same_images(numbers: Sequence[Number]) -> bool:
    """Whether the values of images behind the numbers belong together one by one."""
    return len({(number.n, *(setting_as_json(number.protocol.get(key)) for key in SAME_IMAGES)) for number in numbers}) == 1
