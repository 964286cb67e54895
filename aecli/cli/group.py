"""Every error of a verb as a message and an exit code, whatever raised it."""

from __future__ import annotations

import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from aecli.errors import InterruptedRun, printable_lines, translate
from aecli.system.terminal import escaping, silence


class Group(TyperGroup):
    """Turns every error into a message and an exit code."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        from aecli.system.signals import leave_to_python

        with escaping():
            try:
                try:
                    return super().main(*arguments, **options)
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
