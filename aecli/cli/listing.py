"""The verbs that tell what there is to choose from: variants and data."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aecli.cli.options import Json, print_json


def variants(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="This one alone.")] = None, as_json: Json = False
) -> None:
    """List model families with abilities, settings, modes and evaluators."""
    from aecli.cli.tables import show_variants
    from aecli.verbs.variants import variants as describe

    told = describe(name)
    if as_json:
        print_json([variant.as_json() for variant in told.sound])
    else:
        show_variants(told.sound)
    for error in told.broken:
        print(error.line_of_text(), file=sys.stderr)
    if told.broken:  # so that a CI sees it
        raise typer.Exit(told.broken[0].code)


def data_list(every: Annotated[bool, typer.Option("--all", help="Also every name that TFDS knows.")] = False) -> None:
    """List data sets that are here, and where they are kept."""
    from aecli.cli.tables import show_data
    from aecli.verbs.data import data_sets

    show_data(data_sets(every))


def data_prepare(
    name: Annotated[str, typer.Argument(help="digits, shapes, photos, fashion_mnist, or any TFDS name.")],
    manual_dir: Annotated[str | None, typer.Option(help="A folder with the original files, instead of a download.")] = None,
) -> None:
    """Prepare and decode a data set now, for training without a network later. Prints where it is."""
    from aecli.verbs.data import prepare

    print(prepare(name, manual_dir))
