"""Every error of a verb as a message and an exit code, whatever raised it, and every mistake in a command with its fix."""

from __future__ import annotations

import itertools
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from aecli.config.values import as_other_programs_have_it
from aecli.errors import AecliError, InterruptedRun, printable_lines, translate
from aecli.system.terminal import escaping, silence


class Group(TyperGroup):
    """Turns every error into a message and an exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        from aecli.system.signals import leave_to_python

        alone = options.get("standalone_mode", True)
        with escaping():
            try:
                try:
                    # What typer would print of its own errors and exit with is told here, as every other error is.
                    code = super().main(*arguments, **options | {"standalone_mode": False})
                    if not alone:
                        return code
                    raise SystemExit(code if isinstance(code, int) else 0)
                except Exception as error:
                    if not (alone and _is_usage(error)):
                        raise
                    raise SystemExit(_tell(error, arguments[0] if arguments else ())) from None
                finally:
                    sys.stdout.flush()
            except OSError as error:  # stdout is full
                known = translate(error)
                if known is None:
                    raise
                silence(sys.stdout)  # which Python flushes once more at its end
                print(printable_lines(known.render()), file=sys.stderr)
                raise SystemExit(known.code) from None
            finally:
                leave_to_python()

    def invoke(self, ctx: Any) -> Any:
        from aecli.system.signals import Terminated, end_on_signals, raise_on_signals

        try:
            raise_on_signals()
            return self._invoke(ctx)
        except (KeyboardInterrupt, Terminated) as error:
            code = 128 + (error.signum if isinstance(error, Terminated) else signal.SIGINT)
            print("interrupted", file=sys.stderr)
            raise typer.Exit(code) from None
        finally:
            end_on_signals()

    def _invoke(self, ctx: Any) -> Any:
        debug = bool(ctx.params.get("debug"))
        try:
            return super().invoke(ctx)
        except Exception as error:
            known = translate(error)
            if known is None and _is_usage(error):
                raise
            if debug:
                raise
            if known is None:
                text = str(error).splitlines()
                print(f"internal error: {type(error).__name__}: {text[0] if text else ''}", file=sys.stderr)
                print("  help: this is a bug in aecli; run the same with --debug for the traceback", file=sys.stderr)
                raise typer.Exit(1) from None
            print(printable_lines(known.render()), file=sys.stderr)
            raise typer.Exit(128 + known.signum if isinstance(known, InterruptedRun) else known.code) from None


def _is_usage(error: Exception) -> bool:
    """Whether the error is typer's own way of ending: a wrong flag, or an exit."""
    return type(error).__module__.startswith(("click", "typer"))


_CONFIG = ("--config", "-c", "--config-name", "--config-path", "--config-file")
_OF_A_CONFIG = ("train", "check", "bench", "sweep")
"""Verbs that take a config, and settings by --set."""
_EXTRA = re.compile(r"unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)


def _tell(error: Any, arguments: Sequence[str]) -> int:
    """Says what is wrong with a command in our words; returns the exit code."""
    if type(error).__name__ == "Abort":
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    text = str(error.format_message()).strip().rstrip(".")
    path = context.command_path if context is not None else "aecli"
    habit = _habit(_at_fault(error, text, arguments), arguments, path)
    known = AecliError(text[:1].lower() + text[1:], habit or f"{path} --help")
    print(printable_lines(known.render()), file=sys.stderr)
    return int(error.exit_code)


def _at_fault(error: Any, text: str, arguments: Sequence[str]) -> str:
    """The argument that no verb takes, as it was given; nothing where the error is another one."""
    if (found := _EXTRA.search(text)) is not None:
        return next((argument for argument in arguments if f"{found[1]} ".startswith(f"{argument} ")), "")
    option = str(getattr(error, "option_name", None) or "") if type(error).__name__ == "NoSuchOption" else ""
    return next((argument for argument in arguments if option and argument.partition("=")[0] == option), option)


def _habit(argument: str, arguments: Sequence[str], path: str) -> str | None:
    """How what was meant is said here, where it is known from other programs."""
    if argument == "-q":
        return "-q stands before the verb; --quiet anywhere"
    if path.rpartition(" ")[2] not in _OF_A_CONFIG:
        return None
    name, _, value = argument.partition("=")
    given = value or next((after for before, after in itertools.pairwise(arguments) if before == argument), "")
    if name in _CONFIG:
        return f"the config stands behind the verb: {path} {given or 'CONFIG'}"
    if (found := as_other_programs_have_it(argument)) is not None:
        return f"settings are changed by --set: {path} CONFIG --set {found[0]}={found[1] or given or 'VALUE'}"
    return None
