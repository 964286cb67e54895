"""What plain methods reach on the images on which runs were measured, and which groups of runs are better."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from aecli.reports.groups import Group


class Held(NamedTuple):
    """How many runs of a group, each by its own verdict, are better than a plain method, of how many that have the number."""

    group: str
    better: int
    runs: int


class Plain(NamedTuple):
    """The best plain method beside a metric, and `value`, its mean over the runs of the first group of which it is. `held` leaves
    out groups without an error to tell by."""

    evaluator: str
    metric: str
    unit: str
    better: str
    method: str
    value: float
    held: tuple[Held, ...]

    def beaten_by(self) -> str:
        """`all`, `none`, or the groups that are better, some with how many of their runs."""
        if not self.held:
            return "-"
        by = [
            each.group + ("" if each.better == each.runs else f" ({each.better} of {each.runs} runs)")
            for each in self.held
            if each.better
        ]
        if len(by) > 1 and by == [each.group for each in self.held]:
            return "all"
        return ", ".join(by) or "none"


def plain_methods(groups: Sequence[Group], keys: Sequence[tuple[str, str]]) -> tuple[Plain, ...]:
    """Of each metric, by evaluator and name, the best plain method of each group; one that several have stands once."""
    from aecli.measures.metric import best_of, verdict

    made: list[Plain] = []
    for evaluator, name in keys:
        found: dict[str, Plain] = {}
        for group in groups:
            every = [number for member in group.members if (number := member.number(evaluator, name)) is not None]
            numbers = [number for number in every if number.value is not None and number.baselines]
            shared = [method for method in numbers[0].baselines if all(method in n.baselines for n in numbers)] if numbers else []
            means = {method: fmean(number.baselines[method] for number in numbers) for method in shared}
            better = numbers[0].better if numbers else None
            best = best_of(means, better)
            if best is None or better is None:
                continue
            said = [verdict(number, best[0]) for number in numbers]
            held = () if None in said else (Held(group.name, said.count("better"), len(said)),)
            first = found.setdefault(best[0], Plain(evaluator, name, numbers[0].unit, better, *best, ()))
            found[best[0]] = first._replace(held=(*first.held, *held))
        made += found.values()
    return tuple(made)
