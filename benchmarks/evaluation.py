"""How long `aecli eval` takes and each of its evaluators: on a data set for the first time, and again.

  python benchmarks/evaluation.py [--rounds 2] [--only CONFIG,...] [--set KEY=VALUE ...] [--write benchmarks/RESULTS.md]
    [--numbers FILE]

Each config is trained for a few steps, which costs its evaluation nothing and saves an hour. A first evaluation finds nothing
of the data set but its images, a second one what the first kept of it: features, baselines, and compiled programs. Both are
processes of their own; seconds are from the start of the process to its end. FILE is for `suite.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from results import Failed, answer, fresh, put, spread, table

CONFIGS = Path(__file__).parent.parent / "configs"
CHOSEN = ("quickstart", "vae_fashion", "bottleneck_conv_fashion", "sparse_fashion")
STEPS = 20
COLUMNS = ("config", "evaluator", "first, s", "second, s")
WHOLE = "all of it"
EVALUATE = """
import contextlib, json, sys, time
from aecli.cli.app import main
from aecli.evaluation import registry

spent = {}

def timed(name, measure):
    def wrapped(subject):
        begun = time.perf_counter()
        try:
            return measure(subject)
        finally:
            spent[name] = time.perf_counter() - begun
    return wrapped

registry.EVALUATORS = {name: each._replace(measure=timed(name, each.measure)) for name, each in registry.EVALUATORS.items()}
sys.argv = ["aecli", "eval", *sys.argv[1:]]
code = 0
with contextlib.redirect_stdout(sys.stderr):
    try:
        main()
    except SystemExit as end:
        code = end.code
print(json.dumps(spent))
sys.exit(code)
"""
"""What evaluators take is measured from outside: the program need not tell it, and older ones can be compared."""


def evaluated(run: str, env: dict[str, str], until: float | None) -> dict[str, float]:
    """Seconds of each evaluator, and of the whole process."""
    begun = time.perf_counter()
    said = answer([sys.executable, "-c", EVALUATE, run], env, until)
    return {**json.loads(said), WHOLE: time.perf_counter() - begun}


def measure(config: Path, rounds: int, settings: Sequence[str], until: float | None = None) -> dict[str, tuple[list[float], ...]]:
    """Of each evaluator, and of the whole: the seconds of first evaluations, and of second ones. Raises Failed."""
    flags = [word for setting in settings for word in ("--set", setting)]
    found: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = fresh(folder)
        few = ["--set", "train.epochs=null", "--set", f"train.steps={STEPS}"]
        run = answer([sys.executable, "-m", "aecli", "train", str(config), *few, *flags], env, until).split()[-1]
        for _ in range(rounds):
            for kept in ("shared", "programs"):
                shutil.rmtree(folder / "data" / kept, ignore_errors=True)
            for turn in (0, 1):
                for evaluator, seconds in evaluated(run, env, until).items():
                    found.setdefault(evaluator, ([], []))[turn].append(seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default=",".join(CHOSEN))
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--numbers", type=Path)
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    numbers: dict[str, tuple[list[float], str]] = {}
    for config in arguments.only.split(","):
        try:
            found = measure(CONFIGS / f"{config}.yaml", arguments.rounds, arguments.set)
        except Failed as error:
            sys.exit(f"{config}: {error}")
        for evaluator, times in found.items():
            rows.append([f"`{config}`", evaluator, *map(spread, times)])
            print(*rows[-1], sep=" | ", flush=True)
            for turn, values in zip(("first", "second"), times, strict=True):
                numbers[f"eval {config}, {evaluator}, {turn}"] = (values, "s")
    if arguments.write is not None:
        put(arguments.write, "evaluation", table(COLUMNS, rows))
    if arguments.numbers is not None:
        arguments.numbers.write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
