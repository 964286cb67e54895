"""The verb to begin with: a config of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aecli.cli import completing


def init(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A config that comes with aecli.", autocompletion=completing.shipped_configs)
    ] = "quickstart",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", readable=False, help="Where to; by default NAME.yaml, here.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME|KIND:PATH", help="Other data: a data set, or folder:, npz:, vectors:, pairs: and a path."),
    ] = None,
) -> None:
    """Write a config to change: one that comes with aecli, every setting explained, for your data. Prints its name."""
    import shlex

    from aecli.errors import printable_lines
    from aecli.system.progress import say
    from aecli.verbs.init import begin

    begun = begin(name, out, data)
    print(begun.path)
    train = f"aecli train {shlex.quote(str(begun.path))}"
    if begun.wrong is None:
        say(f"{begun.told}; next: {train}")
        return
    print(printable_lines(begun.wrong.render()), file=sys.stderr)
    say(f"{begun.path} is written, and does not fit yet; once it does: {train}")
    raise typer.Exit(begun.wrong.code)
