"""Runs each piece of work with aecli and with its peers, in turns, and prints the table of ratios.

  python benchmarks/compare.py --peers PYTHON [--rounds 3] [--seconds 8] [--only WORK,...] [--write benchmarks/RESULTS.md]

PYTHON is an interpreter that has torch and pythae; this one has aecli. Every number comes from a process of its own, and all of
one work run within minutes of each other: a machine that is slow this hour is slow for all of them. The rate is the median over
the rounds, the ratio the median of each round's ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from results import put, spread

HERE = Path(__file__).parent
OURS = "aecli"
MLP, CONV = HERE / "configs" / "mlp_vae.yaml", HERE.parent / "configs" / "bottleneck_conv_fashion.yaml"
PIXELCNN, TRANSFORMER = HERE / "configs" / "pixelcnn.yaml", HERE / "configs" / "transformer.yaml"
PUBLISHED = HERE.parent / "configs" / "vae_published_fashion.yaml"
TORCH, FLAX, PYTHAE, SCRIPT = (str(HERE / name) for name in ("torch_peer.py", "flax_peer.py", "pythae_peer.py", "ours.py"))


class Side(NamedTuple):
    """`arguments` follow the interpreter, of the peers or of aecli."""

    name: str
    peer: bool
    arguments: list[str]


class Work(NamedTuple):
    title: str
    unit: str
    sides: list[Side]
    slow: bool = False
    """One round is enough, and a second takes minutes."""


def bench(config: Path) -> Side:
    return Side(OURS, False, ["-m", "aecli", "bench", str(config), "--json"])


def script(name: str, work: str, config: Path, *more: str) -> Side:
    return Side(name, False, [SCRIPT, work, str(config), *more])


def naive(config: Path, batch: int) -> Side:
    return script(f"a pass per pixel, batch {batch}", "naive", config, "--batch", str(batch))


def torch(name: str, work: str, *more: str) -> Side:
    return Side(name, True, [TORCH, work, *more])


WORKS = {
    "mlp_vae": Work(
        "MLP VAE 784-400-20, training",
        "images/s",
        [
            bench(MLP),
            torch("PyTorch", "mlp_vae"),
            Side("plain Flax loop", False, [FLAX]),
            Side("Pythae", True, [PYTHAE]),
        ],
    ),
    "conv_ae": Work(
        "convolutional autoencoder, 684k weights, training",
        "images/s",
        [bench(CONV), torch("PyTorch", "conv_ae")],
    ),
    "pixelcnn": Work("gated PixelCNN, width 32, 5 layers, training", "images/s", [bench(PIXELCNN), torch("PyTorch", "pixelcnn")]),
    "importance": Work(
        "importance sampling, gated VAE 300-300-40",
        "codes/s",
        [script(OURS, "importance", PUBLISHED), torch("PyTorch", "importance")],
    ),
    "sampling_pixelcnn": Work(
        "sampling, gated PixelCNN, 28 x 28",
        "images/s",
        [
            script(OURS, "sampling", PIXELCNN),
            naive(PIXELCNN, 4),
            naive(PIXELCNN, 16),
            torch("PyTorch, a pass per pixel, batch 16", "sampling"),
        ],
        slow=True,
    ),
    "sampling_transformer": Work(
        "sampling, transformer over 4 x 4 squares",
        "images/s",
        [
            script(OURS, "sampling", TRANSFORMER),
            naive(TRANSFORMER, 4),
            naive(TRANSFORMER, 16),
        ],
        slow=True,
    ),
}
COMPILED = {"mlp_vae", "conv_ae", "pixelcnn"}


def run(side: Side, peers: str, seconds: float, cache: str) -> dict[str, object]:
    command = [peers if side.peer else sys.executable, *side.arguments, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "AECLI_DATA_DIR": cache})
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout[done.stdout.index("{") :])


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {name}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", default=",".join(WORKS))
    parser.add_argument("--compile", action="store_true", help="also torch.compile, where a C++ compiler is")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    rows: list[str] = []
    versions: dict[str, str] = {name: version(name) for name in ("jax", "jaxlib", "flax")}
    devices: set[str] = set()
    with tempfile.TemporaryDirectory() as cache:
        for key in arguments.only.split(","):
            work = WORKS[key]
            sides = [*work.sides]
            if arguments.compile and key in COMPILED:
                sides.append(torch("torch.compile", key, "--compile"))
            rates: dict[str, list[float]] = {side.name: [] for side in sides}
            shares: list[float] = []
            for _ in range(1 if work.slow else arguments.rounds):
                for side in sides:
                    facts = run(side, arguments.peers, arguments.seconds, cache)
                    rates[side.name].append(float(str(facts["images_per_s"])))
                    if side.peer:
                        versions["pythae" if side.name == "Pythae" else "torch"] = str(facts["version"])
                    if facts.get("matmul_share"):
                        shares.append(float(str(facts["matmul_share"])))
                    devices.add(str(facts.get("device") or facts["devices"]))
            for side in sides:
                ratios = [ours / theirs for ours, theirs in zip(rates[OURS], rates[side.name], strict=True)]
                note = f"{median(shares):.0%} of the matrix products' rate" if side.name == OURS and shares else ""
                ratio = "" if side.name == OURS else spread(ratios)
                rate = median(rates[side.name])
                shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
                rows.append(f"| {work.title} | {side.name} | {shown} {work.unit} | {ratio} | {note} |")
                print(rows[-1], flush=True)
    table = ["| work | side | rate | aecli is faster by | |", "|---|---|---|---|---|", *rows]
    of = ", ".join(f"{name} {number}" for name, number in versions.items())
    day = time.strftime("%Y-%m-%d")
    where = f"{processor()}, {', '.join(sorted(devices))}"
    head = f"{day}, {where}; Python {platform.python_version()}, {of}; {arguments.rounds} rounds, of sampling one."
    print(head)
    if arguments.write is not None:
        put(arguments.write, "compare", "\n".join([head, "", *table]))


main()
