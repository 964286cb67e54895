"""Blocks of rows and columns as text: for a terminal, as markdown, LaTeX and csv. Whatever a cell says, it stays text."""

from __future__ import annotations

import csv
import io
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from aecli.errors import printable
from aecli.runs.directory import ID_END
from aecli.system.terminal import NARROWEST

FORMATS = ("table", "md", "csv", "latex", "json")
UNBOUNDED = 400
WIDEST_CELL = 60
"""Columns of a terminal that one cell takes at most."""
WIDEST_NOTE = 120
_GAP = "  "
PLAIN = str.maketrans({"±": "+-", "†": "*", "‡": "#", "↓": "v", "↑": "^", "─": "-", "…": "~"})
"""What is written where an encoding has no such letters."""


class Line(NamedTuple):
    section: str
    label: str
    cells: tuple[str, ...]


class Block(NamedTuple):
    """A table: `columns` are the heads of the cells; the labels of the lines have none."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


class Notes(NamedTuple):
    """What stands below: `how` the numbers are to be read, what is to be known of runs, and commands, which are kept whole."""

    how: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def width() -> int:
    """Columns of the terminal, or of COLUMNS; into a file or a pipe nothing is cut."""
    return shutil.get_terminal_size((UNBOUNDED, 24)).columns


def beside(left: Block, right: Block) -> Block:
    """One block: the lines of the left, with the cells of the right's lines of the same section and label after theirs."""
    more = {(line.section, line.label): line.cells for line in right.lines}
    empty = ("",) * len(right.columns)
    lines = tuple(line._replace(cells=(*line.cells, *more.get((line.section, line.label), empty))) for line in left.lines)
    return Block(left.title, (*left.columns, *right.columns), lines)


def number_text(value: float | None) -> str:
    """To five digits; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.5g}" if abs(value) < 1e5 else f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.4g}"


def terminal(blocks: Sequence[Block], notes: Notes, width: int) -> str:
    """In so many columns. Of a block that is wider, first some of its columns, then the next, each with the labels; lines become
    columns where that takes less room."""
    width = max(width, NARROWEST)
    parts = [part for block in blocks for part in _fitted(_cut(block, width), width)]
    lines = [*_wrapped(notes.how, width), *_wrapped(notes.told, width), *map(printable, notes.commands)]
    return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])


def _fitted(block: Block, width: int) -> list[str]:
    upright = [_drawn(part, width) for part in _folded(block, width)]
    if len(upright) == 1:
        return upright
    turned = [_drawn(part, width) for part in _folded(_turned(block), width)]
    return min(upright, turned, key=lambda parts: sum(part.count("\n") + 2 for part in parts))


def _turned(block: Block) -> Block:
    """Its lines as columns, without their sections."""
    cells = zip(*(line.cells for line in block.lines), strict=True)
    lines = tuple(Line("", head, tuple(column)) for head, column in zip(block.columns, cells, strict=True))
    return Block(block.title, tuple(line.label for line in block.lines), lines)


def _wrapped(texts: Sequence[str], width: int) -> Iterator[str]:
    for text in texts:
        yield from textwrap.wrap(
            printable(text), min(width, WIDEST_NOTE), subsequent_indent=_GAP, break_long_words=False, break_on_hyphens=False
        )


def _cut(block: Block, width: int) -> Block:
    """With cells that are printable and not too wide; the id of a run stays whole, to be copied."""
    most = min(WIDEST_CELL, width // 2)

    def cell(text: str) -> str:
        text = printable(text)
        return text if ID_END.search(text) or cell_len(text) <= most else set_cell_size(text, most - 1).rstrip() + "…"

    lines = (Line(cell(line.section), cell(line.label), tuple(map(cell, line.cells))) for line in block.lines)
    return Block(printable(block.title), tuple(map(cell, block.columns)), tuple(lines))


def _label_width(block: Block) -> int:
    return max((cell_len(line.label) + len(_GAP) * bool(line.section) for line in block.lines), default=0)


def _widths(block: Block) -> list[int]:
    columns = zip(block.columns, *(line.cells for line in block.lines), strict=True)
    return [max(map(cell_len, column)) for column in columns]


def width_of(block: Block) -> int:
    """Columns of a terminal that a block takes in one piece."""
    return _label_width(block) + sum(len(_GAP) + width for width in _widths(block))


def _folded(block: Block, width: int) -> Iterator[Block]:
    widths, at = _widths(block), 0
    room = width - _label_width(block)
    while at < len(widths):
        end, taken = at, 0
        while end < len(widths) and (end == at or taken + len(_GAP) + widths[end] <= room):
            taken, end = taken + len(_GAP) + widths[end], end + 1
        lines = (line._replace(cells=line.cells[at:end]) for line in block.lines)
        yield Block(block.title if at == 0 else "", block.columns[at:end], tuple(line for line in lines if any(line.cells)))
        at = end


def _drawn(block: Block, width: int) -> str:
    label, widths = _label_width(block), _widths(block)

    def row(first: str, cells: Sequence[str]) -> str:
        padded = [set_cell_size(first, label), *(set_cell_size(cell, w) for cell, w in zip(cells, widths, strict=True))]
        return _GAP.join(padded).rstrip()

    lines = [*textwrap.wrap(block.title, width), row("", block.columns), "─" * width_of(block)]
    for section, group in groupby(block.lines, lambda line: line.section):
        lines += [section] if section else []
        lines += [row((_GAP if section else "") + line.label, line.cells) for line in group]
    return "\n".join(lines)


def markdown(blocks: Sequence[Block], notes: Notes) -> str:
    """A table of GitHub's markdown a block."""
    parts: list[str] = []
    for block in blocks:
        sections = any(line.section for line in block.lines)
        heads = [*([""] if sections else []), "", *block.columns]
        rows = [
            [*([line.section if first else ""] if sections else []), line.label, *line.cells]
            for _, group in groupby(block.lines, lambda line: line.section)
            for first, line in zip([True] + [False] * len(block.lines), group, strict=False)
        ]
        lines = [_md_row(heads), "|" + " --- |" * len(heads), *map(_md_row, rows)]
        parts.append("\n".join([*([f"{_md(block.title)}\n"] if block.title else []), *lines]))
    told = [f"- {_md(text)}" for text in (*notes.how, *notes.told)]
    told += [f"- `{printable(text).replace('`', '')}`" for text in notes.commands]
    return "\n\n".join([*parts, *(["\n".join(told)] if told else [])])


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_md, cells)) + " |"


def _md(text: str) -> str:
    """No character of a name makes a cell, a link, a tag or an emphasis."""
    escaped = re.sub(r"([\\`*\[\]<>|~&#!{}$@]|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.)", r"\\\1", printable(text))
    return escaped.strip()


_LATEX: Mapping[str, str] = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "…": r"\ldots{}",
}


_LETTERS = {chr(code) for code in range(0xC0, 0x100)} - {chr(code) for code in (0xD0, 0xD7, 0xDE, 0xF0, 0xF7, 0xFE)}
"""Of Latin-1, those that every font of LaTeX has."""


def latex(blocks: Sequence[Block], notes: Notes) -> str:
    """A `tabular` a block, for which the document needs `booktabs`; what is to be told stands below them."""
    parts: list[str] = ["% \\usepackage{booktabs}"]
    for block in blocks:
        lines = [f"% {latex_text(block.title)}"] if block.title else []
        lines += [r"\begin{tabular}{l" + "l" * len(block.columns) + "}", r"\toprule"]
        lines += [" & ".join(["", *map(latex_text, block.columns)]).strip() + r" \\", r"\midrule"]
        for number, (section, group) in enumerate(groupby(block.lines, lambda line: line.section)):
            lines += [r"\addlinespace"] if number else []
            lines += [rf"\emph{{{latex_text(section)}}} \\"] if section else []
            lines += [" & ".join(map(latex_text, (line.label, *line.cells))) + r" \\" for line in group]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    told = [rf"\par{{\footnotesize {latex_text(text)}\par}}" for text in notes.how]
    return "\n\n".join([*parts, *(["\n".join(told)] if told else [])])


def latex_text(text: str) -> str:
    """Letters beyond those that LaTeX knows by itself come out as escapes. A bracket that begins a cell would be an argument of
    what ends the row before it."""
    text = printable(text)
    found = "".join(_LATEX.get(c) or (c if c.isascii() or c in _LETTERS else _tex_escape(c)) for c in text)
    found = re.sub(r"(?<![\w-])-(?=\d)", "$-$", found)
    return f"{{}}{found}" if found.startswith(("[", "*")) else found


def _tex_escape(character: str) -> str:
    return rf"\textbackslash{{}}u{ord(character):04x}"


def csv_text(heads: Sequence[str], rows: Sequence[Sequence[str | float | int | None]]) -> str:
    """Texts that a spreadsheet would take for a formula begin with an apostrophe, numbers are as exact as they are."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_csv(cell) for cell in row] for row in rows)
    return buffer.getvalue().rstrip("\n")


def _csv(cell: str | float | int | None) -> str:
    if not isinstance(cell, str):
        return "" if cell is None else repr(cell)
    text = printable(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) and text != "-" else text
