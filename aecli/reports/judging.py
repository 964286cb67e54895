"""The rows of a comparison: the number of each group, how far pairs of groups are apart, and what may be said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

from aecli.reports import paired, protocols
from aecli.reports.comparison import ANYWAY, CODE, Cell, Judged, Metric, Pair
from aecli.reports.groups import Group, spread
from aecli.reports.paired import FIRST, ONE_SEED, SECOND, VARIED, Difference, Sample
from aecli.runs.records import Number

OBJECTIVE = "objective"
"""The evaluator whose numbers are defined by the settings of the model."""

Key = tuple[str, str]
"""Evaluator and name of a metric."""


class Judge(NamedTuple):
    """`values` of each image by the id of a run, then by `evaluator/name`. `neutral`: whether no way is better of the objective,
    whose settings differ. `marked`: the metrics of differing protocols."""

    groups: Sequence[Group]
    pairs: Sequence[Pair]
    values: Mapping[str, Mapping[str, Any]]
    neutral: bool
    marked: set[str]

    def rows(self, keys: Sequence[Key]) -> tuple[Metric, ...]:
        """A row a metric. The p of all tests over seeds are corrected together. Runs that differ in more than the seed are no
        sample of seeds: of a group of such nothing is said, and it takes part in no test."""
        varied = {pair: bool(self.groups[pair.first].varied or self.groups[pair.second].varied) for pair in self.pairs}
        found = {key: [self._difference(pair, key, varied[pair]) for pair in self.pairs] for key in keys}
        tested = [each.p for row in found.values() for each, _ in filter(None, row) if each.p is not None]
        corrected = iter(paired.holm(tested))
        made: list[Metric] = []
        for key, row in found.items():
            judged: list[Judged | None] = []
            for pair, each in zip(self.pairs, row, strict=True):
                if each is None:
                    judged.append(None)
                    continue
                p = None if each[0].p is None else next(corrected)
                word = paired.verdict(each[0], each[1], p, self.better(key))
                if varied[pair] and word != ONE_SEED:
                    word = VARIED
                place = {FIRST: pair.first, SECOND: pair.second}.get(word)
                judged.append(Judged(each[0], p, word, None if place is None else self.groups[place].name))
            made.append(Metric(*key, self._one(key).unit, self.better(key), self.cells(key), tuple(judged)))
        return tuple(made)

    def better(self, key: Key) -> str | None:
        return None if self.neutral and key[0] == OBJECTIVE else self._one(key).better

    def _one(self, key: Key) -> Number:
        """Any of the numbers: the others have the same unit and direction, or are marked."""
        return next(number for group in self.groups for member in group.members if (number := member.number(*key)) is not None)

    def cells(self, key: Key) -> tuple[Cell, ...]:
        return tuple(self._cell(group, key) for group in self.groups)

    def _cell(self, group: Group, key: Key) -> Cell:
        having = _having(group, key)
        if not having:
            notes = (number.note for member in group.members if (number := member.number(*key)) is not None)
            return Cell(None, {}, "", next(notes, None))
        marks = ANYWAY * (key[1] in self.marked) + CODE * any("code" in each.number.protocol for each in having)
        by_run = {each.run: each.value for each in having}
        return Cell(spread(list(by_run.values()), self._error(having, key)), by_run, marks)

    def _error(self, having: Sequence[_Has], key: Key) -> float | None:
        """Over images, of the mean of all runs that have the number."""
        if len(having) == 1:
            return having[0].number.standard_error
        from aecli.measures.metric import standard_error

        images = self._images(having, key)
        error = None if images is None else standard_error(images, self._blocks(having, key))
        return error if error is not None and isfinite(error) else None

    def _images(self, having: Sequence[_Has], key: Key) -> Any:
        """The values of each image [n], of several runs their mean; None where not every run that has the number has them."""
        kept = [self.values.get(each.run, {}).get("/".join(key)) for each in having]
        arrays: list[Any] = [array for array in kept if array is not None]
        if not arrays or len(arrays) < len(having) or not protocols.same_images([each.number for each in having]):
            return None
        return sum(arrays[1:], arrays[0]) / len(arrays)

    def _blocks(self, having: Sequence[_Has], key: Key) -> Any:
        """Which block each of their images is of, [n]: a matter of the data, that a run may have been measured without."""
        from aecli.measures.metric import BLOCKS

        kept = (self.values.get(each.run, {}).get(f"{key[0]}/{BLOCKS}") for each in having)
        return next((blocks for blocks in kept if blocks is not None), None)

    def _difference(self, pair: Pair, key: Key, varied: bool) -> tuple[Difference, int] | None:
        """How far apart, without a test where a group is `varied`, and how many seeds the side with fewer has; None where a side
        has no number."""
        sides = _having(self.groups[pair.first], key), _having(self.groups[pair.second], key)
        if not all(sides):
            return None
        alike = protocols.same_images([each.number for side in sides for each in side])
        samples = [Sample(_means(side), self._images(side, key) if alike else None) for side in sides]
        found = paired.difference(samples[0], samples[1], self._blocks([*sides[0], *sides[1]], key))
        found = found._replace(p=None) if varied else found
        return (found, min(len(sample.seeds) for sample in samples)) if isfinite(found.value) else None


class _Has(NamedTuple):
    """A run that has a value, by its id."""

    run: str
    seed: str
    value: float
    number: Number


def _having(group: Group, key: Key) -> list[_Has]:
    found = [(member, member.number(*key)) for member in group.members]
    return [_Has(m.id, m.seed, n.value, n) for m, n in found if n is not None and n.value is not None]


def _means(having: Sequence[_Has]) -> list[float]:
    """A number a run. Of runs of one seed, which differ in other settings, one number: they are no seeds."""
    found = [each.value for each in having]
    return found if len({each.seed for each in having}) > 1 else [sum(found) / len(found)]
