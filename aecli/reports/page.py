"""A page of HTML that is one file: to be looked at, sent on and printed without aecli, a network or a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import groupby
from typing import Any, NamedTuple

from aecli import __version__
from aecli.errors import printable
from aecli.reports.charts import Series, lines
from aecli.reports.comparison import SETTINGS, Comparison
from aecli.reports.embedding import Picture
from aecli.reports.facts import MOST_CHARTS, Page, Split, series
from aecli.reports.table import Block
from aecli.runs.directory import Run

MARK = "<!-- made by aecli report -->"
"""What begins every page: only such a file is written over."""
MOST_WHOLE = 12
"""Runs that a page tells all of; of more the comparison alone."""


class Beside(NamedTuple):
    """What several runs have in common: tables, curves over each other, and of each kind of picture those of the groups."""

    tables: tuple[Block, ...]
    settings: Block
    how: tuple[str, ...]
    notes: tuple[str, ...]
    commands: tuple[str, ...]
    curves: tuple[str, ...]
    pictures: tuple[tuple[str, tuple[tuple[str, Picture], ...]], ...]


def beside(comparison: Comparison, pages: Mapping[str, Page]) -> Beside:
    """Of the groups of a comparison, whose runs have `pages` by their ids."""
    main, apart = comparison.blocks()
    notes = comparison.told()
    groups = {group.name: [member.run for member in group.members] for group in comparison.groups}
    return Beside(
        (
            main._replace(lines=tuple(line for line in main.lines if line.section != SETTINGS)),
            *(each for each in apart if each.lines),
            *comparison.plain_blocks(),
        ),
        main._replace(lines=tuple(line._replace(section="") for line in main.lines if line.section == SETTINGS)),
        notes.how,
        notes.told,
        notes.commands,
        tuple(_curves(groups)),
        tuple(_pictures(groups, pages)),
    )


def _curves(groups: Mapping[str, Sequence[Run]]) -> list[str]:
    """A chart a value, a line a group: the mean of its runs at the steps that all have, and their extremes."""
    found = {name: [series(run.rows()) for run in runs] for name, runs in groups.items()}
    values = dict.fromkeys(
        (key, split) for each in found.values() for one in each for key, splits in one.items() for split in splits
    )
    charts: list[str] = []
    for key, split in values:
        drawn: list[Series] = []
        for number, (name, each) in enumerate(found.items()):
            mine = [dict(zip(*one[key][split], strict=True)) for one in each if split in one.get(key, {})]
            at = sorted(set.intersection(*map(set, mine))) if mine else []
            if len(at) < 2:
                continue
            y = [[one[step] for one in mine] for step in at]
            several = len(mine) > 1
            label = f"{name} ({len(mine)} runs)" if several else name
            low, high = ([min(of) for of in y], [max(of) for of in y]) if several else (None, None)
            drawn.append(Series(label, at, [sum(of) / len(of) for of in y], low, high, colour=number))
        if drawn:
            charts.append(lines(f"{key}, {split}", drawn, "step"))
    return charts[:MOST_CHARTS]


def _pictures(
    groups: Mapping[str, Sequence[Run]], pages: Mapping[str, Page]
) -> list[tuple[str, tuple[tuple[str, Picture], ...]]]:
    """Of each kind that two groups have, the pictures of the first run of each that has one."""
    kinds = dict.fromkeys(shown.asked for page in pages.values() for shown in page.pictures)
    captions = {asked: text for page in pages.values() for asked, text in page.captions.items()}
    found: list[tuple[str, tuple[tuple[str, Picture], ...]]] = []
    for asked in kinds:
        mine: list[tuple[str, Picture]] = []
        for name, runs in groups.items():
            of = (s for run in runs if run.id in pages for s in pages[run.id].pictures if s.asked == asked)
            first = next(of, None)
            mine += [] if first is None else [(name, first)]
        if len(mine) > 1:
            found.append((captions[asked], tuple(mine)))
    return found


def render(title: str, pages: Sequence[Page], together: Beside | None = None, left_out: int = 0) -> str:
    """The page as text. `left_out` says how many runs it does not tell all of."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Any] = {"printable": printable, "by_evaluator": _by_evaluator, "sections": _sections}
    environment.filters.update(filters)
    source = resources.files("aecli.reports").joinpath("templates", "page.html").read_text("utf-8")
    shown = environment.from_string(source).render(
        title=title, pages=pages, together=together, left_out=left_out, version=__version__
    )
    return f"{MARK}\n{shown}"


def _by_evaluator(split: Split) -> list[tuple[str, list[Any]]]:
    return [(name, list(rows)) for name, rows in groupby(split.rows, lambda row: row.evaluator)]


def _sections(block: Block) -> list[tuple[str, list[Any]]]:
    return [(name, list(rows)) for name, rows in groupby(block.lines, lambda line: line.section)]
