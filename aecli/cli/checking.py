"""The verb that validates configs, and how it tells people, programs and GitHub what it found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from aecli.cli import completing
from aecli.cli.options import Sets, keep_programs, print_json
from aecli.errors import AecliError, ConfigError, Diagnostic, VariantError, printable_lines, translate

Format = Literal["text", "json", "github"]


class Found(NamedTuple):
    """What is known of a config by now. `resolved`: the blocks of the experiment, every default written out."""

    path: str
    variant: str | None = None
    told: str | None = None
    resolved: dict[str, Any] | None = None
    error: AecliError | None = None


def check(
    context: typer.Context,
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG", help="YAML files.", autocompletion=completing.configs)],
    sets: Sets = [],  # noqa: B006 (typer reads the default, nothing changes it)
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Also train 2 steps, evaluate and sample, in a temporary place.")
    ] = False,
    data: Annotated[bool, typer.Option("--data", help="Also prepare the data and decode every image.")] = False,
    resolved: Annotated[bool, typer.Option("--print", help="Print the config with every default written out.")] = False,
    format: Annotated[Format, typer.Option(help="For people, for programs, or as annotations of a GitHub workflow.")] = "text",
) -> None:
    """Validate configs, and try them with --smoke. What a CI would call.

    With --print stdout has the configs alone, as YAML documents, and what is told of them goes to stderr."""
    from aecli.config.load import load
    from aecli.config.schema import to_yaml
    from aecli.data.sources.registry import check_name
    from aecli.verbs import check

    if smoke:
        keep_programs(context)
    done: list[Found] = []
    for path in configs:
        found = Found(str(path))
        try:
            config = load(path, sets, check_name)
            found = found._replace(variant=config.experiment.model.variant, resolved=config.experiment.model_dump())
            found = found._replace(told=check.smoke(config) if smoke else check.hold_against_data(config, data))
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            if context.find_root().params["debug"]:
                sys.excepthook(type(error), error, error.__traceback__)
            found = found._replace(error=known)
        done.append(found)
        if format != "json":
            tell(found, format, sys.stderr if resolved else sys.stdout)
            if resolved and found.resolved is not None:
                print(f"--- # {found.path}\n{to_yaml(found.resolved)}", end="", flush=True)
    if format == "json":
        print_json([as_json(found, resolved) for found in done])
    if failed := [found.error for found in done if found.error]:
        raise typer.Exit(failed[0].code)


def tell(found: Found, format: Format, stream: Any) -> None:
    """Says how it went with one config, an error to stderr, where people look for it, or as annotations."""
    if found.error is None:
        print(f"{found.path}: ok ({found.variant}, {found.told})", file=stream, flush=True)
    elif format == "github":
        for diagnostic in diagnostics(found.path, found.error):
            print(annotation(diagnostic), file=stream, flush=True)
    else:
        text = found.error.render()
        if not text.startswith(found.path):
            print(f"{found.path}:", file=sys.stderr)
        print(printable_lines(text), file=sys.stderr)


def diagnostics(path: str, error: AecliError) -> Sequence[Diagnostic]:
    """The mistakes of a config, each with its place; of another error the one that it is, at the top of the config or in the
    variant's file."""
    if isinstance(error, ConfigError):
        # What stands in no file is a flag's, which is told with it: the config that it was for is the place.
        return [
            each if each.line or each.file == path else each._replace(file=path, message=f"{each.file}: {each.message}")
            for each in error.diagnostics
        ]
    kind = type(error).__name__.removesuffix("Error").lower()
    if isinstance(error, VariantError):
        return [Diagnostic(error.file, error.line, 1, kind, error.message, label=error.rule, help=error.help or "")]
    return [Diagnostic(path, 0, 0, kind, error.message, help=error.help or "")]


def annotation(diagnostic: Diagnostic) -> str:
    """A mistake as GitHub's workflow command `error`, by which it stands beside its line in a pull request. What would end a
    property or the line is percent-encoded, as its documentation asks."""
    place: dict[str, Any] = {"file": diagnostic.file}
    if diagnostic.line:
        place |= {"line": diagnostic.line, "col": diagnostic.column, "endColumn": diagnostic.column + max(1, diagnostic.width)}
    place["title"] = diagnostic.rule
    properties = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in place.items())
    lines = [diagnostic.message + (f": {diagnostic.label}" if diagnostic.label else "")]
    lines += [f"help: {diagnostic.help}"] if diagnostic.help else []
    return f"::error {properties}::{_escaped(printable_lines(chr(10).join(lines)))}"


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def as_json(found: Found, resolved: bool) -> dict[str, Any]:
    """One config of what `--format json` prints."""
    told: dict[str, Any] = {"config": found.path, "ok": found.error is None, "variant": found.variant, "told": found.told}
    told["code"] = found.error.code if found.error else 0
    told["errors"] = [
        {
            "file": each.file,
            "line": each.line or None,
            "column": each.column or None,
            "rule": each.rule,
            "message": each.message,
            "label": each.label or None,
            "help": each.help or None,
        }
        for each in (diagnostics(found.path, found.error) if found.error else ())
    ]
    return told | ({"resolved": found.resolved} if resolved else {})
