"""How long a user waits for the first step: of a first process, which compiles, and of a second, which reads what the first kept.

  python benchmarks/start.py [--rounds 5] [--only CONFIG,...] [--write benchmarks/RESULTS.md] [--numbers FILE]

Seconds from the start of the process to the first training call on the device; beside them those of a process that imports jax
and flax and nothing else. The data is prepared before. Each round starts with nothing kept. FILE is for `suite.py`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from results import answer, fresh, put, spread

CONFIGS = Path(__file__).parent.parent / "configs"
CHOSEN = ("quickstart", "vae_fashion", "bottleneck_conv_fashion", "hvae_fashion", "autoregressive_fashion")
IMPORTS = "import time, jax, flax.nnx; print(time.time())"
TRAIN = """
import os, signal, sys, time
from aecli.system.progress import Progress

def begin(self, step):
    print(time.time(), flush=True)
    os.kill(os.getpid(), signal.SIGINT)

Progress.begin = begin
from aecli.cli.app import main
sys.argv = ["aecli", "train", sys.argv[1]]
main()
"""


def seconds(code: str, *arguments: str, folder: Path, until: float | None = None) -> float:
    """Until the process prints the time. Raises Failed."""
    command, env = [sys.executable, "-c", code, *arguments], fresh(folder)
    start = time.time()
    said = answer(command, env, until, well=(0, 128 + signal.SIGINT))
    return float(said.split()[0]) - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(CHOSEN))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--numbers", type=Path)
    arguments = parser.parse_args()
    table = ["| config | imports, s | first start, s | second start, s | second / first |", "|---|---|---|---|---|"]
    print("\n".join(table), flush=True)
    numbers: dict[str, tuple[list[float], str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for config in arguments.only.split(","):
            path = str(CONFIGS / f"{config}.yaml")
            seconds(TRAIN, path, folder=folder)  # prepares the data
            imports, first, second = [], [], []
            for _ in range(arguments.rounds):
                shutil.rmtree(folder / "data" / "programs", ignore_errors=True)
                imports.append(seconds(IMPORTS, folder=folder))
                first.append(seconds(TRAIN, path, folder=folder))
                second.append(seconds(TRAIN, path, folder=folder))
            ratios = [b / a for a, b in zip(first, second, strict=True)]
            table.append(f"| `{config}` | {spread(imports)} | {spread(first)} | {spread(second)} | {spread(ratios)} |")
            print(table[-1], flush=True)
            numbers |= {f"start {config}, first": (first, "s"), f"start {config}, second": (second, "s")}
    if arguments.numbers is not None:
        arguments.numbers.write_text(json.dumps(numbers))
    if arguments.write is not None:
        put(arguments.write, "start", "\n".join(table))


if __name__ == "__main__":
    main()
