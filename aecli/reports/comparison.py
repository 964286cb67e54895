"""What `aecli compare` found, and how it is written: groups as columns, settings, numbers and costs as rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aecli.errors import UsageError, did_you_mean
from aecli.reports import table
from aecli.reports.groups import Group, Spread
from aecli.reports.member import COSTS
from aecli.reports.paired import Difference
from aecli.reports.plain import Plain
from aecli.reports.protocols import Conflict
from aecli.reports.table import Block, Line, Notes, number_text

ANYWAY, CODE = "†", "‡"
_MARKS = {
    ANYWAY: "† measured by differing protocols: {}",
    CODE: "‡ measured with other code than the run was trained with",
}
_ARROW = {"lower": " ↓", "higher": " ↑"}
SETTINGS = "settings"
"""The section of the settings that differ."""
_MOST_SEEDS = 6
_MOST_COMMANDS, _MOST_NOTES = 10, 20


class Cell(NamedTuple):
    """A number of a group: None where no run has it. `by_run`: the values by the ids of the runs that have one. `note` says why
    there is none. `marks` are of ANYWAY and CODE."""

    spread: Spread | None
    by_run: Mapping[str, float]
    marks: str = ""
    note: str | None = None


class Judged(NamedTuple):
    """A difference, second group less first, with the p of its test corrected for all tests of the comparison. `better` is the
    name of the group that is, if one was found to be."""

    difference: Difference
    corrected: float | None
    verdict: str
    better: str | None


class Metric(NamedTuple):
    """A row: a cell a group, and for each pair what was found, None where a side has no number."""

    evaluator: str
    name: str
    unit: str
    better: str | None
    cells: tuple[Cell, ...]
    found: tuple[Judged | None, ...]


class Pair(NamedTuple):
    """Places of two groups; differences are the second's numbers less the first's."""

    first: int
    second: int


class Missing(NamedTuple):
    """Numbers that a run has not, and the command that makes them; `certain` where a run of the same variant has them."""

    run: str
    metrics: tuple[str, ...]
    command: str
    certain: bool


class Pareto(NamedTuple):
    """`groups`: the places of those that no other is at least as good as in all of `by` and better in one. `left_out`: of those
    that lack one of them."""

    by: tuple[str, ...]
    groups: tuple[int, ...]
    left_out: tuple[int, ...]


PLAIN_METHODS = "Plain methods, and whether the runs are better"


class Comparison(NamedTuple):
    """Groups of runs side by side. `str()` is the table as text, `render(format)` the same in one of FORMATS, and `as_json()`
    everything by name."""

    split: str
    groups: tuple[Group, ...]
    settings: Mapping[str, tuple[str, ...]]
    metrics: tuple[Metric, ...]
    costs: Mapping[str, tuple[Cell, ...]]
    pairs: tuple[Pair, ...]
    baseline: int | None
    pareto: Pareto | None
    conflicts: tuple[Conflict, ...]
    missing: tuple[Missing, ...]
    how: tuple[str, ...]
    notes: tuple[str, ...]
    plain: tuple[Plain, ...] = ()

    def __str__(self) -> str:
        return self.render("table", table.width())

    def render(self, format: str = "table", width: int = 120) -> str:
        """As text, of a table in so many columns. Raises UsageError if there is no such format."""
        if format == "json":
            return json.dumps(self.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
        if format == "csv":
            return table.csv_text(*self._tidy())
        if format not in table.FORMATS:
            known = "formats: " + ", ".join(table.FORMATS)
            raise UsageError(f"--format {format}: there is no such format", did_you_mean(format, table.FORMATS) or known)
        main, apart = self.blocks()
        wide = table.beside(main, apart[0]) if len(apart) == 1 else None
        if wide is not None and (format != "table" or table.width_of(wide) <= width):
            blocks = [wide._replace(title=f"{main.title}. {apart[0].title}")]
        else:
            blocks = [main, *apart]
        blocks += self.plain_blocks()
        notes = self.told()
        if format == "table":
            return table.terminal(blocks, notes, width)
        return table.markdown(blocks, notes) if format == "md" else table.latex(blocks, notes)

    def blocks(self) -> tuple[Block, tuple[Block, ...]]:
        """The groups side by side, and the differences of each pair."""
        return self._main(), tuple(self._apart(at) for at in range(len(self.pairs)))

    def plain_blocks(self) -> list[Block]:
        """What plain methods reach, and whether the groups are better; no block where there are none."""
        lines = tuple(
            Line(
                each.evaluator,
                each.name + _ARROW[each.better],
                (each.method, each.value, *("" if held is None else held.text for held in each.held)),
            )
            for each in self.plain
        )
        return [Block(PLAIN_METHODS, ("best", "value", *(g.name for g in self.groups)), lines)] if lines else []

    def told(self) -> Notes:
        """What stands below the tables."""
        more = len(self.notes) - _MOST_NOTES
        told = (*self.notes[:_MOST_NOTES], *([f"and {more:,} more notes, which --format json has"] if more > 0 else []))
        return Notes(self._how(), told, self.commands())

    def commands(self) -> tuple[str, ...]:
        """The numbers that are missing, each with the command that makes it; of many runs those of the first."""
        lines = [
            f"{each.run} has no {_listed(each.metrics)}: run `{each.command}`"
            + ("" if each.certain else ", if its variant can be measured so")
            for each in self.missing[:_MOST_COMMANDS]
        ]
        more = len(self.missing) - _MOST_COMMANDS
        return (*lines, *([f"and {more:,} more runs lack numbers"] if more > 0 else []))

    def as_json(self) -> dict[str, Any]:
        """`split`; `groups`: name, runs (ids), seeds, and `differ_in`, the settings beside the seed in which its runs differ;
        `baseline`: the name of that group, or null; `settings`: a text a group, by the setting's path.

        `metrics`: evaluator, name, unit, better ("lower", "higher" or null), `groups` and `differences`. Of each group `mean`,
        `sd_over_seeds` (null of one run), `seeds` (how many runs the mean is of), `se_over_images` (null where it is not known),
        `by_run` (values by id), `differing_protocols`, `changed_code`, and `note`, why there is no mean. Of each difference
        `first` and `second` (names of groups), `difference` (second less first), `low` and `high` (95 %), `over` ("seeds",
        "images" or null), `p`, `p_holm`, `verdict` and `better`, the name of the better group or null.

        `costs`: by name (parameters, seconds, images, flop, peak_bytes) of each group mean, sd_over_seeds, seeds and by_run.
        `pareto`: by, groups (names of those that are not dominated), left_out; or null. `conflicts`: key, metrics, values (value
        and runs). `missing`: run, metrics, command, certain. `how` and `notes`: texts. `plain`: evaluator, name (of the metric),
        unit, better, `method`, the best plain one beside some runs, and `groups`: of each null, or the method's mean `value`
        beside those of its runs, how many these are (`runs`), how many of them have an error to tell by (`judged`), and how many
        of these are `better` and `alike`."""
        return {
            "split": self.split,
            "groups": [
                {
                    "name": g.name,
                    "runs": [m.id for m in g.members],
                    "seeds": [_seed(s) for s in g.seeds],
                    "differ_in": list(g.varied),
                }
                for g in self.groups
            ],
            "baseline": None if self.baseline is None else self.groups[self.baseline].name,
            "settings": {key: list(texts) for key, texts in self.settings.items()},
            "metrics": [self._metric_json(metric) for metric in self.metrics],
            "costs": {name: [_cell_json(cell) for cell in cells] for name, cells in self.costs.items()},
            "pareto": None
            if self.pareto is None
            else {
                "by": list(self.pareto.by),
                "groups": [self.groups[at].name for at in self.pareto.groups],
                "left_out": [self.groups[at].name for at in self.pareto.left_out],
            },
            "conflicts": [
                {"key": c.key, "metrics": list(c.metrics), "values": [{"value": v, "runs": list(r)} for v, r in c.values]}
                for c in self.conflicts
            ],
            "missing": [{**each._asdict(), "metrics": list(each.metrics)} for each in self.missing],
            "how": list(self._how()),
            "notes": list(self.notes),
            "plain": [self._plain_json(each) for each in self.plain],
        }

    def _plain_json(self, plain: Plain) -> dict[str, Any]:
        groups = [
            None if held is None else {key: getattr(held, key) for key in ("value", "runs", "judged", "better", "alike")}
            for held in plain.held
        ]
        return {**{key: value for key, value in plain._asdict().items() if key != "held"}, "groups": groups}

    def _metric_json(self, metric: Metric) -> dict[str, Any]:
        cells = [
            {
                **_cell_json(cell),
                "se_over_images": None if cell.spread is None else cell.spread.standard_error,
                "differing_protocols": ANYWAY in cell.marks,
                "changed_code": CODE in cell.marks,
                "note": cell.note,
            }
            for cell in metric.cells
        ]
        differences = [
            {
                "first": self.groups[pair.first].name,
                "second": self.groups[pair.second].name,
                "difference": each.difference.value,
                "low": each.difference.low,
                "high": each.difference.high,
                "over": each.difference.over,
                "p": each.difference.p,
                "p_holm": each.corrected,
                "verdict": each.verdict,
                "better": each.better,
            }
            for pair, each in zip(self.pairs, metric.found, strict=True)
            if each is not None
        ]
        facts = {"evaluator": metric.evaluator, "name": metric.name, "unit": metric.unit, "better": metric.better}
        return {**facts, "groups": cells, "differences": differences}

    def _main(self) -> Block:
        sizes = sorted({number.n for g in self.groups for m in g.members for number in m.numbers.values()})
        data = dict.fromkeys(str(m.settings.get("data.name", "?")) for g in self.groups for m in g.members)
        runs = sum(len(g.members) for g in self.groups)
        title = f"{self.split}{'' if '-' in self.split else ' split'} of {_listed(tuple(data))}" + (
            f", {sizes[-1]:,} examples" if sizes else ""
        )
        title += f"; {_count(runs, 'run')}" + (f" in {_count(len(self.groups), 'group')}" if runs > len(self.groups) else "")
        lines = [
            Line("", "run", tuple(g.members[0].id if len(g.members) == 1 else f"{len(g.members)} runs" for g in self.groups)),
            Line("", "seed", tuple(_seeds(g) for g in self.groups)),
            *(Line(SETTINGS, key, texts) for key, texts in self.settings.items()),
            *(
                Line(m.evaluator, m.name + _ARROW.get(m.better or "", ""), tuple(map(self._cell, m.cells, self.groups)))
                for m in self.metrics
            ),
            *(
                Line("cost", COSTS[name].title, tuple(_cost(name, cell) for cell in cells))
                for name, cells in self.costs.items()
                if any(cell.spread for cell in cells)
            ),
        ]
        if self.pareto is not None:
            best = ("yes" if at in self.pareto.groups else "" for at in range(len(self.groups)))
            lines.append(Line("", f"Pareto: {', '.join(self.pareto.by)}", tuple(best)))
        return Block(title, tuple(g.name for g in self.groups), tuple(lines))

    def _cell(self, cell: Cell, group: Group) -> str:
        if cell.spread is None:
            return "-"
        value, deviation, n, error = cell.spread
        parts = [
            number_text(value),
            "" if deviation is None else f"±{deviation:.2g}",
            "" if error is None else f"({error:.2g})",
            f"[{n} of {len(group.members)} runs]" if n < len(group.members) else "",
            cell.marks,
        ]
        return " ".join(filter(None, parts))

    def _apart(self, at: int) -> Block:
        pair = self.pairs[at]
        first, second = self.groups[pair.first].name, self.groups[pair.second].name
        lines: list[Line] = []
        for metric in self.metrics:
            found = metric.found[at]
            if found is not None:
                low, high = found.difference.low, found.difference.high
                interval = "" if low is None or high is None else f"[{_signed(low)}, {_signed(high)}]"
                words = f"{found.better} better" if found.better is not None else found.verdict
                cells = (_signed(found.difference.value), interval, words)
                lines.append(Line(metric.evaluator, metric.name + _ARROW.get(metric.better or "", ""), cells))
        return Block(f"Difference: {second} less {first}", ("difference", "95 % interval", "verdict"), tuple(lines))

    def _how(self) -> tuple[str, ...]:
        spreads = [cell.spread for metric in self.metrics for cell in metric.cells if cell.spread is not None]
        over = "runs" if any(group.varied for group in self.groups) else "seeds"
        legend = [
            f"± standard deviation over {over}" if any(each.deviation is not None for each in spreads) else "",
            "( ) standard error over images" if any(each.standard_error is not None for each in spreads) else "",
            "↓ lower is better, ↑ higher" if any(metric.better for metric in self.metrics) else "",
        ]
        used = "".join(cell.marks for metric in self.metrics for cell in metric.cells)
        apart = ", ".join(dict.fromkeys(conflict.key for conflict in self.conflicts))
        marks = [text.format(apart) for mark, text in _MARKS.items() if mark in used]
        return (*filter(None, ["; ".join(filter(None, legend))]), *marks, *self.how)

    def _tidy(self) -> tuple[Sequence[str], list[Sequence[str | float | int | None]]]:
        """A line a row and group; of a metric a line for each pair that the group is the second of."""
        heads = ("kind", "evaluator", "name", "unit", "better", "group", "runs", "value", "sd_over_seeds", "seeds")
        heads += ("se_over_images", "differing_protocols", "changed_code", "against", "difference", "low", "high", "over")
        heads += ("p", "p_holm", "verdict", "better_group")
        lines: list[Sequence[str | float | int | None]] = []

        def add(facts: Sequence[str], group: Group, *more: str | float | int | None) -> None:
            line = (*facts, group.name, " ".join(member.id for member in group.members), *more)
            lines.append((*line, *[None] * (len(heads) - len(line))))

        for key, texts in self.settings.items():
            for group, text in zip(self.groups, texts, strict=True):
                add(("setting", "", key, "", ""), group, text)
        for metric in self.metrics:
            facts = ("metric", metric.evaluator, metric.name, metric.unit, metric.better or "")
            for at, (group, cell) in enumerate(zip(self.groups, metric.cells, strict=True)):
                value = (*_numbers(cell), str(ANYWAY in cell.marks).lower(), str(CODE in cell.marks).lower())
                pairs = [(p, f) for p, f in zip(self.pairs, metric.found, strict=True) if p.second == at and f is not None]
                for pair, found in pairs:
                    apart = found.difference
                    told = (apart.value, apart.low, apart.high, apart.over, apart.p, found.corrected, found.verdict, found.better)
                    add(facts, group, *value, self.groups[pair.first].name, *told)
                if not pairs:
                    add(facts, group, *value)
        for plain in self.plain:
            facts = ("plain method", plain.evaluator, plain.name, plain.unit, plain.better)
            for group, held in zip(self.groups, plain.held, strict=True):
                if held is not None:
                    numbers = (held.value, None, held.runs, None, None, None, plain.method)
                    add(facts, group, *numbers, *[None] * 6, held.said or None)
        for name, cells in self.costs.items():
            for group, cell in zip(self.groups, cells, strict=True):
                add(("cost", "", name, COSTS[name].unit, "lower"), group, *_numbers(cell))
        return heads, lines


def _numbers(cell: Cell) -> tuple[float | int | None, ...]:
    return (None, None, None, None) if cell.spread is None else tuple(cell.spread)


def _cell_json(cell: Cell) -> dict[str, Any]:
    mean, deviation, n = (None, None, 0) if cell.spread is None else cell.spread[:3]
    return {"mean": mean, "sd_over_seeds": deviation, "seeds": n, "by_run": dict(cell.by_run)}


def _cost(name: str, cell: Cell) -> str:
    if cell.spread is None:
        return ""
    value, deviation, _, _ = cell.spread
    scale = 1e-9 if name == "peak_bytes" else 1.0
    text = f"{value:,.0f}" if name in ("parameters", "images") else f"{value * scale:.4g}"
    return text + (f" ±{deviation * scale:.2g}" if deviation else "")


def _signed(value: float) -> str:
    """To three digits, with its sign."""
    return f"{value:+,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:+.3g}" if value else "0"


def _seeds(group: Group) -> str:
    seeds = group.seeds
    return ", ".join(seeds) if len(seeds) <= _MOST_SEEDS else f"{', '.join(seeds[: _MOST_SEEDS - 1])}, ... ({len(seeds)})"


def _seed(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
