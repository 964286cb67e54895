"""The verbs that tell what there is: variants, the schema, data, and this environment."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aecli.cli import completing
from aecli.cli.options import Json, print_json
from aecli.errors import VariantError


def variants(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="This one alone.", autocompletion=completing.variants)
    ] = None,
    as_json: Json = False,
) -> None:
    """List model families, or tell all about one: papers, settings, modes, evaluators, and what its configs reached."""
    from aecli.cli.tables import show_variant, show_variants
    from aecli.verbs.variants import variants as describe

    told = describe(name)
    if as_json:
        print_json([variant.as_json() for variant in told.sound])
    elif name is not None:
        show_variant(told.sound[0])
    else:
        show_variants(told.sound)
    _tell_broken(told.broken)


def schema(
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", readable=False, help="Write it there, not to stdout.")
    ] = None,
) -> None:
    """Print the JSON Schema of a config, for editors: aecli schema -o configs/aecli.schema.json."""
    from aecli.config.json_schema import json_schema
    from aecli.system.files import to_json, write_atomic

    made = json_schema()
    if out is None:
        print_json(made.schema)
    else:
        write_atomic(out, to_json(made.schema))
        print(out)
    _tell_broken(made.broken)


def env(as_json: Json = False) -> None:
    """Tell versions, devices, folders and variables, for a report of a bug."""
    from aecli.cli.tables import show_facts
    from aecli.verbs.env import environment

    told = environment()
    if as_json:
        print_json(told)
    else:
        show_facts(told)


def _tell_broken(broken: Sequence[VariantError]) -> None:
    """Says what is wrong with the files of variants, and ends with their exit code if there are any."""
    for error in broken:
        print(error.line_of_text(), file=sys.stderr)
    if broken:  # so that a CI sees it
        raise typer.Exit(broken[0].code)


def data_list(
    every: Annotated[bool, typer.Option("--all", help="Also every name that TFDS knows.")] = False, as_json: Json = False
) -> None:
    """List data sets that are here, and where they are kept."""
    from aecli.cli.tables import show_data
    from aecli.verbs.data import data_sets

    found = data_sets(every)
    if as_json:
        print_json(
            {"root": str(found.root), "sets": [dict(zip(("name", "state", "about"), row, strict=True)) for row in found.sets]}
        )
    else:
        show_data(found)


def data_prepare(
    name: Annotated[str, typer.Argument(metavar="NAME", help="digits, shapes, photos, fashion_mnist, or any TFDS name.")],
    manual_dir: Annotated[str | None, typer.Option(help="A folder with the original files, instead of a download.")] = None,
) -> None:
    """Prepare and decode a data set now, for training without a network later. Prints where it is."""
    from aecli.verbs.data import prepare

    print(prepare(name, manual_dir))
