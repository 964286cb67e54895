"""What plain methods reach on the images on which runs were measured, and which runs are better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aecli.reports.groups import Group, spread
from aecli.reports.table import number_text


class Held(NamedTuple):
    """The runs of a group whose best plain method this is: `runs` of them, of `of` in the group, and the method's mean `value`
    beside them. Of the `judged` ones, those with an error to tell by, `better` are better than it and `alike` even with it, each
    by its own verdict; the others are worse."""

    value: float
    better: int
    alike: int
    judged: int
    runs: int
    of: int

    @property
    def said(self) -> str:
        """Whether the runs are better: `yes`, `even` or `no` of all that have an error to tell by, else of how many, as in
        `1 yes, 2 even`. Nothing where none has."""
        counts = {"yes": self.better, "even": self.alike, "no": self.judged - self.better - self.alike}
        some = {word: n for word, n in counts.items() if n}
        return ", ".join(f"{n} {word}" if len(some) > 1 else word for word, n in some.items())

    @property
    def text(self) -> str:
        """`said`, or a dash; behind it of how many runs the method is the best one, if not of all."""
        return (self.said or "-") + (f" [{self.runs} of {self.of} runs]" if self.runs < self.of else "")


class Plain(NamedTuple):
    """A plain method that is the best beside a metric of some runs, and what is said of each group: None where it is so beside no
    run of it."""

    evaluator: str
    name: str
    unit: str
    better: str
    method: str
    held: tuple[Held | None, ...]

    @property
    def value(self) -> str:
        """What the method reaches: of groups that were measured otherwise, from the least to the greatest."""
        found = sorted(each.value for each in self.held if each is not None)
        low, high = number_text(found[0]), number_text(found[-1])
        return low if low == high else f"{low} to {high}"


def plain_methods(groups: Sequence[Group], keys: Sequence[tuple[str, str]]) -> tuple[Plain, ...]:
    """Of each metric, by evaluator and name, the best plain method of each run; one that is that of several stands once."""
    from aecli.measures.metric import best_of, verdict

    made: list[Plain] = []
    for evaluator, name in keys:
        found: dict[str, Plain] = {}
        for at, group in enumerate(groups):
            mine: dict[str, tuple[list[float], list[str]]] = {}
            for number in (member.number(evaluator, name) for member in group.members):
                best = None if number is None or number.value is None else best_of(number.baselines, number.better)
                if number is None or number.better is None or best is None:
                    continue
                found.setdefault(best[0], Plain(evaluator, name, number.unit, number.better, best[0], (None,) * len(groups)))
                values, said = mine.setdefault(best[0], ([], []))
                values.append(best[1])
                said += [word] if (word := verdict(number)) is not None else []
            for method, (values, said) in mine.items():
                mean = spread(values)
                held = Held(
                    values[0] if mean is None else mean.value,
                    said.count("better"),
                    said.count("alike"),
                    len(said),
                    len(values),
                    len(group.members),
                )
                row = found[method]
                found[method] = row._replace(held=(*row.held[:at], held, *row.held[at + 1 :]))
        made += found.values()
    return tuple(made)
