"""Where tables are drawn: a console and a table that never read a text from a file as markup, and escape what could move a
cursor. rich alone is imported: lists of runs are to be there at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console as RichConsole
from rich.table import Table as RichTable

from aecli.errors import printable, printable_lines
from aecli.system.terminal import columns_of, silence, unescaped

UNBOUNDED = 400
"""Columns where there is no terminal."""


class Console(RichConsole):
    """Below the stream that escapes, since it draws; so what it is given is escaped here."""

    def __init__(self, **options: Any) -> None:
        super().__init__(file=unescaped(sys.stdout), markup=False, highlight=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable_lines(each) if isinstance(each, str) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        """rich would exit with 1; that a reader has seen enough is no error."""
        silence(self.file)


def console() -> Console:
    # Into a file or a pipe nothing is cut to the width of a terminal that is not there; rich takes every dumb one for 80 wide.
    return Console(width=columns_of(sys.stdout) or UNBOUNDED)


class Table(RichTable):
    def __init__(self) -> None:
        super().__init__(box=SIMPLE_HEAD, pad_edge=False)

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    made = Table()
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made
