"""How lists of runs are printed: a table that fits the terminal, or CSV. No id is ever broken into pieces. Drawn without rich,
which takes longer for 500 rows than to find out what stands in them."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from aecli.errors import printable
from aecli.reports.table import csv_text
from aecli.runs.directory import HOW_TO_TRAIN, NO_RUNS
from aecli.system.progress import age, say, tell
from aecli.system.terminal import columns_of
from aecli.verbs.runs import Listing

TABLE = ("id", "state", "variant", "data", "step", "best", "age", "tags")
"""Columns of the usual table; `tags` only where a run has some."""
_GAP = "   "
LEAST = ("data", "age", "variant", "tags")
"""Of them, those that are left out of a narrow terminal, the least important first."""


def show_runs(listing: Listing, root: Path, usual: bool) -> None:
    """A table, on a narrow terminal without its least important columns; where the others do not fit, or those that were asked
    for, a line for each value."""
    if not listing.rows:
        if listing.among:
            say(f"no such runs in {root}")
        else:
            say(f"{NO_RUNS.format(root=root)}\n  help: {HOW_TO_TRAIN}")
        return
    rows = [_usual(row) if usual else row for row in listing.rows]
    columns = [each for each in TABLE if each != "tags" or any(row["tags"] for row in rows)] if usual else [*listing.columns]
    cells = {each: [printable(_cell(each, row[each])) for row in rows] for each in columns}
    widths = {each: max(map(cell_len, (each, *cells[each]))) for each in columns}
    room = columns_of(sys.stdout) or sys.maxsize
    left_out: list[str] = []
    for each in LEAST if usual else ():
        if _width(widths) > room and widths.pop(each, None) is not None:
            left_out.append(each)
    if _width(widths) > room:
        _print_listed(cells)
    else:
        _print_table(cells, widths, {each for each in widths if each == "age" or any(_is_number(row[each]) for row in rows)})
        if left_out:
            say(f"left out, since the terminal is narrow: {', '.join(left_out)} (a wider one and --format csv have them)")
    for run_id, wrong in listing.damage.items():
        tell(f"{run_id}: {wrong}")


def _usual(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "age": age(row["created"])}


def _width(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1) + 2


def _print_table(cells: Mapping[str, Sequence[str]], widths: Mapping[str, int], right: Collection[str]) -> None:
    def line(texts: Mapping[str, str]) -> str:
        padded = ((" " * (widths[each] - cell_len(texts[each])), texts[each], each in right) for each in widths)
        return " " + _GAP.join(f"{blank}{text}" if right else f"{text}{blank}" for blank, text, right in padded).rstrip()

    lines = [line({each: printable(each) for each in widths}), " " + "─" * (_width(widths) - 2)]
    lines += [line({each: cells[each][row] for each in widths}) for row in range(len(cells["id"]))]
    print("", *lines, "", sep="\n")


def _print_listed(cells: Mapping[str, Sequence[str]]) -> None:
    others = {each: texts for each, texts in cells.items() if each != "id"}
    width = max(map(cell_len, others), default=0)
    for row, run_id in enumerate(cells["id"]):
        print(run_id)
        for each, texts in others.items():
            if texts[row]:
                print(f"  {printable(each)}{' ' * (width - cell_len(each))}  {texts[row]}")


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if column == "seed" else f"{value:,}"
    if isinstance(value, float):
        return f"{value:.5g}"
    if column == "tags":
        return " ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def write_csv(listing: Listing) -> None:
    """A line a run: numbers with all their digits, tags with a blank between, other lists as JSON."""
    rows = [[_exact(column, row[column]) for column in listing.columns] for row in listing.rows]
    print(csv_text([*map(printable, listing.columns)], rows))


def _exact(column: str, value: Any) -> str | float | int | None:
    if value is None or _is_number(value):
        return value
    if column == "tags":
        return " ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
