"""The command: which verbs there are, in the order of their help. Results go to stdout, messages to stderr. jax, flax, orbax and
tensorflow_datasets take seconds to import, so each verb imports what it needs when it is called."""

from __future__ import annotations

import gc
import io
import sys
from typing import Annotated, Any

import typer

from aecli import __version__
from aecli.cli import applying, checking, comparing, experiments, exporting, keeping, listing, models, moving, starting, sweeping
from aecli.cli.group import Group
from aecli.system import progress
from aecli.system.terminal import open_standard_streams

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: importing rich for its boxes would take longer than everything else that it shows
    help="Train, sample and compare autoencoders and their generative relatives from one YAML file.",
    epilog="Start with: aecli train quickstart. RUN is a run's id, the start or the end of one, 'last' or 'last~1'.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and prepare data sets.")
data_app.command("list")(listing.data_list)
data_app.command("prepare")(listing.data_prepare)
_NAMES: dict[Any, str] = {moving.import_: "import"}
_SETTINGS: dict[Any, dict[str, Any]] = {keeping.tag: {"ignore_unknown_options": True, "help_option_names": ["--help"]}}
"""A tag may stand behind a minus, and no letter of it is a flag."""
for _verb in (
    starting.init,
    experiments.train,
    sweeping.sweep,
    models.sample,
    models.eval,
    comparing.compare,
    comparing.report,
    applying.encode,
    applying.reconstruct,
    applying.score,
    exporting.export,
    keeping.runs,
    keeping.show,
    keeping.tag,
    keeping.note,
    keeping.rm,
    moving.archive,
    moving.import_,
    moving.watch,
    checking.check,
    experiments.bench,
    listing.variants,
    listing.schema,
    listing.env,
):
    app.command(_NAMES.get(_verb), context_settings=_SETTINGS.get(_verb))(_verb)
app.add_typer(data_app, name="data")


def _version(value: bool) -> None:
    if value:
        print(f"aecli {__version__}")
        raise typer.Exit


def _quiet(value: bool) -> None:
    progress.be_quiet(value)


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", callback=_quiet, is_eager=True, help="Tell results, warnings and errors alone.")
    ] = False,
    version: Annotated[bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


FEW_COLLECTIONS = (100_000, 20, 50)
"""Thresholds of the garbage collector. Tracing makes hundreds of thousands of small objects, nearly all of which stay: to look
through them after every 700, Python's default, takes an eighth of the time until the first step."""


def main() -> None:
    gc.set_threshold(*FEW_COLLECTIONS)
    open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: names of classes are in any letters
    arguments = sys.argv[1:]
    anywhere = ("--debug", "--quiet")  # also behind the verb
    flags = [flag for flag in anywhere if flag in arguments]
    rest = [argument for argument in arguments if argument not in anywhere]
    if rest[:1] == ["-q"]:
        flags, rest = [*flags, "-q"], rest[1:]
    if rest[:1] == ["help"]:
        rest = [*rest[1:], "--help"]
    arguments = [*flags, *rest]
    app(arguments, prog_name="aecli")
