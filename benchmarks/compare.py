"""Runs each piece of work with aecli and with its peers, in turns, and prints the table of ratios.

  python benchmarks/compare.py [--peers PYTHON] [--rounds 3] [--seconds 8] [--only WORK,...] [--compile [MODE]]
    [--precision float32,tf32,bfloat16] [--batch N,...] [--write benchmarks/RESULTS.md] [--numbers FILE]

PYTHON is an interpreter that has torch and pythae, without which aecli's sides alone are timed; this one has aecli. Every
number comes from a process of its own, and all of one work run within minutes of each other: a machine that is slow this hour is
slow for all of them. The rate is the median over the rounds, the ratio the median of each round's ratio. Precisions and batch
sizes are those of trainings, of aecli's side and of PyTorch's; peers that can only do float32 and their own batch are left out
where another one is asked for. FILE is for `suite.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from results import Failed, answer, head, put, spread

HERE = Path(__file__).parent
OURS = "aecli"
MLP, CONV = HERE / "configs" / "mlp_vae.yaml", HERE / "configs" / "conv_ae.yaml"
PIXELCNN, TRANSFORMER = HERE / "configs" / "pixelcnn.yaml", HERE / "configs" / "transformer.yaml"
PUBLISHED = HERE.parent / "configs" / "vae_published_fashion.yaml"
TORCH, FLAX, PYTHAE, SCRIPT = (str(HERE / name) for name in ("torch_peer.py", "flax_peer.py", "pythae_peer.py", "ours.py"))
FLOAT32 = "float32"


class Side(NamedTuple):
    """`arguments` follow the interpreter, of the peers or of aecli. `plain`: it knows neither precisions nor batch sizes."""

    name: str
    peer: bool
    arguments: Sequence[str]
    plain: bool = True
    flags: str = ""
    """Added to XLA_FLAGS."""


class Work(NamedTuple):
    """`training` is what a precision and a batch size can be asked of; `slow` says that one round is enough, and a second takes
    minutes."""

    title: str
    unit: str
    sides: Sequence[Side]
    training: bool = False
    slow: bool = False


class Row(NamedTuple):
    """What a side reached in each round; `share` is that of the matrix products' rate, of aecli's side of a training. `failed`:
    the last line of what went wrong, and there are no rates."""

    side: str
    rates: Sequence[float] = ()
    ratios: Sequence[float] = ()
    share: float | None = None
    failed: str = ""

    def cells(self, unit: str) -> list[str]:
        if self.failed:
            return [self.side, f"failed: {self.failed}", "", ""]
        rate = median(self.rates)
        shown = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        note = "" if self.share is None else f"{self.share:.0%} of the matrix products' rate"
        return [self.side, f"{shown} {unit}", spread(self.ratios) if self.ratios else "", note]


def bench(config: Path) -> Side:
    return Side(OURS, False, ["-m", "aecli", "bench", str(config), "--json"], plain=False)


def script(name: str, work: str, config: Path, *more: str) -> Side:
    return Side(name, False, [SCRIPT, work, str(config), *more])


def naive(config: Path, batch: int) -> Side:
    return script(f"a pass per pixel, batch {batch}", "naive", config, "--batch", str(batch))


def torch(name: str, work: str, *more: str) -> Side:
    return Side(name, True, [TORCH, work, *more], plain=False)


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
        training=True,
    ),
    "conv_ae": Work(
        "convolutional autoencoder, 684k weights, training",
        "images/s",
        [bench(CONV), torch("PyTorch", "conv_ae")],
        training=True,
    ),
    "pixelcnn": Work(
        "gated PixelCNN, width 32, 5 layers, training",
        "images/s",
        [bench(PIXELCNN), torch("PyTorch", "pixelcnn")],
        training=True,
    ),
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


def sides_of(key: str, peers: bool, compile_mode: str | None, precision: str, batch: int | None) -> list[Side]:
    """The sides of a work that can do it so, with the peers or without; of one that is no training as they are."""
    work = WORKS[key]
    sides = [side for side in work.sides if peers or not side.peer]
    if not work.training:
        return sides
    if peers and compile_mode is not None:
        name = "torch.compile" if compile_mode == "default" else f"torch.compile, {compile_mode}"
        sides.append(torch(name, key, "--compile", compile_mode))
    asked: list[Side] = []
    for side in sides:
        if not side.plain:
            more = ["--precision", precision] if side.peer else ["--set", f"train.precision={precision}"]
            if batch is not None:
                more += ["--batch", str(batch)] if side.peer else ["--set", f"data.batch_size={batch}"]
            asked.append(side._replace(arguments=[*side.arguments, *more]))
        elif precision == FLOAT32 and batch is None:
            asked.append(side)
    return asked


def run(side: Side, peers: str | None, seconds: float, cache: str, until: float | None = None) -> dict[str, Any]:
    """What the side says of itself. Raises Failed."""
    command = [peers if side.peer and peers else sys.executable, *side.arguments, "--seconds", str(seconds)]
    env = {"AECLI_DATA_DIR": cache}
    if side.flags:
        env["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {side.flags}".strip()
    text = answer(command, env, until)
    return json.loads(text[text.index("{") :])


def measure(
    sides: Sequence[Side], peers: str | None, rounds: int, seconds: float, cache: str, until: float | None = None
) -> tuple[list[Row], list[dict[str, Any]]]:
    """A row for each side, and what they said of themselves: all sides in each round. One that fails is not tried again, and
    and the others go on."""
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    failed: dict[str, str] = {}
    shares: list[float] = []
    told: list[dict[str, Any]] = []
    for _ in range(rounds):
        for side in sides:
            if side.name in failed:
                continue
            try:
                facts = run(side, peers, seconds, cache, until)
            except Failed as error:
                failed[side.name] = str(error)
                continue
            told.append(facts | {"peer": side.name if side.peer else None})
            rates[side.name].append(float(facts["images_per_s"]))
            if side.name == OURS and facts.get("matmul_share") is not None:
                shares.append(float(facts["matmul_share"]))
    rows: list[Row] = []
    for side in sides:
        if side.name in failed:
            rows.append(Row(side.name, failed=failed[side.name]))
            continue
        ours = side.name == OURS
        ratios = [] if ours or OURS in failed else [a / b for a, b in zip(rates[OURS], rates[side.name], strict=True)]
        rows.append(Row(side.name, rates[side.name], ratios, median(shares) if ours and shares else None))
    return rows, told


def titled(key: str, precision: str, batch: int | None) -> str:
    """What the table calls a work: with its precision and batch where they are not the config's own."""
    work = WORKS[key]
    if not work.training or (precision, batch) == (FLOAT32, None):
        return work.title
    return ", ".join([work.title, precision, *([] if batch is None else [f"batch {batch}"])])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--only", default=",".join(WORKS))
    parser.add_argument("--compile", nargs="?", const="default", help="also torch.compile, where a C++ compiler is")
    parser.add_argument("--precision", default=FLOAT32, help="of trainings: float32, tf32, bfloat16, with commas between them")
    parser.add_argument("--batch", help="sizes of trainings, with commas between them; by default the config's own")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--numbers", type=Path)
    arguments = parser.parse_args()
    precisions = arguments.precision.split(",")
    batches = [None] if arguments.batch is None else [int(size) for size in arguments.batch.split(",")]
    rows: list[str] = []
    told: list[dict[str, Any]] = []
    numbers: dict[str, tuple[list[float], str]] = {}
    with tempfile.TemporaryDirectory() as cache:
        for key in arguments.only.split(","):
            work = WORKS[key]
            asked = [(p, b) for p in precisions for b in batches] if work.training else [(FLOAT32, None)]
            for precision, batch in asked:
                sides = sides_of(key, arguments.peers is not None, arguments.compile, precision, batch)
                rounds = 1 if work.slow else arguments.rounds
                found, facts = measure(sides, arguments.peers, rounds, arguments.seconds, cache)
                told += facts
                for row in found:
                    if row.failed:
                        sys.exit(f"{work.title}: {row.side}: {row.failed}")
                    rows.append(f"| {' | '.join([titled(key, precision, batch), *row.cells(work.unit)])} |")
                    print(rows[-1], flush=True)
                    name = titled(key, precision, batch)
                    if row.side == OURS:
                        numbers[name] = (list(row.rates), work.unit)
                    elif row.ratios:
                        numbers[f"{name}, against {row.side}"] = (list(row.ratios), "times")
    table = ["| work | side | rate | aecli is faster by | |", "|---|---|---|---|---|", *rows]
    first = head(told, f"{arguments.rounds} rounds, of sampling one")
    print(first)
    if arguments.write is not None:
        put(arguments.write, "compare", "\n".join([first, "", *table]))
    if arguments.numbers is not None:
        arguments.numbers.write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
