"""`aecli`, and `python -m aecli`. Signals are heeded before all else is imported, which takes longer than some verbs; while
Python itself starts, it ends the process in its own way."""

import sys

try:
    from aecli.system.signals import end_on_signals
except KeyboardInterrupt:
    sys.stderr.write("interrupted\n")
    sys.exit(130)


def main() -> None:
    end_on_signals()
    from aecli.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
