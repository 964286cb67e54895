"""How aecli's speed and memory follow the size of the work: image, batch, code, data and devices, one at a time.

  python benchmarks/growth.py [--seconds 4] [--rounds 3] [--only AXIS,...] [--write benchmarks/RESULTS.md]

Each row is a process of `aecli bench`; on a GPU the same rows run there, and `--bfloat16` computes in it. Of two axes a row is a
training, since they are about what happens beside the steps: `tiers` (the same rows on the device and in a memory map, in turns)
and `streamed` (rows that are read from TFDS shards as they are needed, and what that does to memory).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from results import put, spread

HERE = Path(__file__).parent
MLP, CONV = HERE / "configs" / "mlp_vae.yaml", HERE / "configs" / "conv_ae.yaml"
ROWS = (1_000, 10_000, 100_000, 1_000_000)
IN_BOTH = (100_000, 1_000_000)
"""Rows that fit on the device too."""
LINKS = (2, 17)
"""How often the one shard of Fashion-MNIST's train split is linked: 120,000 and 1,020,000 rows."""
SHARD = "fashion_mnist-train.array_record-{:05d}-of-{:05d}"
BATCH = 128
"""Of MLP, the config that is trained."""
STEPS, STREAMED = 4_000, 6_000
"""Of trainings."""
WARM_UP = 0.3
"""The part of a training after which its memory is looked at: what is compiled and opened once has been by then."""
LOOK_SECONDS = 0.25


def bench(config: Path, settings: list[str], seconds: float, env: dict[str, str]) -> dict[str, float]:
    flags = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "aecli", "bench", str(config), "--json", "--seconds", str(seconds), *flags]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def rows_of(folder: Path, rows: int) -> Path:
    """An npz of random images."""
    path = folder / f"{rows}.npz"
    rng = np.random.default_rng(0)
    np.savez(path, image=rng.integers(0, 256, (rows, 28, 28), np.uint8), test_image=np.zeros((100, 28, 28), np.uint8))
    return path


class Trained(NamedTuple):
    """What a training was seen to do after its start: images per second in its rows of metrics, and the memory that is its own
    (pages of no file), in bytes, with the images that it had trained on by then."""

    images_per_s: float
    images: list[float]
    anonymous: list[float]

    def slope(self) -> tuple[float, float]:
        """Bytes of memory per image, by least squares, and the standard error of that."""
        line, covariance = np.polyfit(self.images, self.anonymous, 1, cov=True)
        return float(line[0]), float(np.sqrt(covariance[0, 0]))


def train(config: Path, settings: list[str], steps: int, batch: int, env: dict[str, str]) -> Trained:
    """A training of so many steps, looked at from outside. Linux alone tells a process's anonymous memory."""
    with tempfile.TemporaryDirectory() as runs:
        flags = [word for setting in (*settings, f"train.steps={steps}") for word in ("--set", setting)]
        command = [sys.executable, "-m", "aecli", "train", str(config), "--runs-dir", runs, *flags]
        with tempfile.TemporaryFile("w+") as told:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, env={**os.environ, **env})
            looks: list[tuple[int, float]] = []
            while process.poll() is None:
                time.sleep(LOOK_SECONDS)
                if rows := metrics(Path(runs)):
                    looks.append((rows[-1]["step"], anonymous(process.pid)))
            if process.returncode:
                told.seek(0)
                sys.exit(f"{' '.join(command)}\n{told.read()}")
        warm = [(step, memory) for step, memory in looks if step >= WARM_UP * steps and memory]
        rates = [row["images_per_s"] for row in metrics(Path(runs)) if row["step"] > WARM_UP * steps]
        return Trained(median(rates), [step * batch for step, _ in warm], [memory for _, memory in warm])


def metrics(runs: Path) -> list[dict[str, float]]:
    """The rows of the only run, as far as they are written."""
    lines = [line for path in runs.glob("*/metrics.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n") and '"train"' in line]


def anonymous(pid: int) -> float:
    """Bytes; 0 of a process that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


def shards(folder: Path, links: int) -> int:
    """Prepares Fashion-MNIST in a data folder, and makes its train split the same shard so often; returns its rows."""
    command = [sys.executable, "-m", "aecli", "data", "prepare", "fashion_mnist"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "AECLI_DATA_DIR": str(folder)})
    [prepared] = folder.glob("tfds/fashion_mnist/*")
    about = prepared / "dataset_info.json"
    info = json.loads(about.read_text())
    [train] = [split for split in info["splits"] if split["name"] == "train"]
    first = prepared / SHARD.format(0, links)
    (prepared / SHARD.format(0, 1)).rename(first)
    for i in range(1, links):
        os.link(first, prepared / SHARD.format(i, links))
    train |= {"shardLengths": train["shardLengths"] * links, "numBytes": str(int(train["numBytes"]) * links)}
    about.write_text(json.dumps(info))
    return sum(map(int, train["shardLengths"]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="image,batch,code,rows,tiers,streamed,devices")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    precision = ["train.precision=bfloat16"] if arguments.bfloat16 else []
    table = ["| axis | value | images/s | step, ms | share of matrix products | peak memory, MB |", "|---|---|---|---|---|---|"]
    beside: list[str] = []
    print("\n".join(table), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        env = {"AECLI_DATA_DIR": folder}

        def measure(axis: str, value: object, config: Path, settings: list[str], **more: str) -> None:
            facts = bench(config, [*settings, *precision], arguments.seconds, {**env, **more})
            share = f"{facts['matmul_share']:.0%}"
            row = (
                f"{facts['images_per_s']:,.0f} | {1e3 * facts['step_seconds']:.3g} | {share} | {facts['peak_bytes'] / 2**20:,.0f}"
            )
            table.append(f"| {axis} | {value} | {row} |")
            print(table[-1], flush=True)

        axes = arguments.only.split(",")
        if "image" in axes:
            for side in (8, 16, 32, 64):
                measure("image side, conv", side, CONV, [f"data.size=[{side}, {side}]"])
        if "batch" in axes:
            for batch in (16, 64, 128, 256, 1024, 4096):
                measure("batch, mlp", batch, MLP, [f"data.batch_size={batch}"])
            for batch in (16, 64, 128, 256, 1024):
                measure("batch, conv", batch, CONV, [f"data.batch_size={batch}"])
        if "code" in axes:
            for latent in (2, 16, 128, 512):
                measure("latent, mlp", latent, MLP, [f"model.latent={latent}"])
        if "rows" in axes:
            for rows in ROWS:
                path = rows_of(Path(folder), rows)
                settings = ["data.name=npz", f"data.path={path}", "data.tier=memmap", "data.validation=0"]
                measure("rows in a memory map, mlp", f"{rows:,}", MLP, settings)
                path.unlink()
        if "tiers" in axes:
            for rows in IN_BOTH:
                path = rows_of(Path(folder), rows)
                settings = ["data.name=npz", f"data.path={path}", "data.validation=0", *precision]
                rates: dict[str, list[float]] = {"device": [], "memmap": []}
                for _ in range(arguments.rounds):
                    for tier, found in rates.items():
                        found.append(train(MLP, [*settings, f"data.tier={tier}"], STEPS, BATCH, env).images_per_s)
                ratios = [there / here for here, there in zip(rates["device"], rates["memmap"], strict=True)]
                told = (
                    f"{median(rates['memmap']):,.0f} images/s, {spread(ratios)} of {median(rates['device']):,.0f} on the device"
                )
                beside.append(f"- {rows:,} rows in a memory map: {told}.")
                print(beside[-1], flush=True)
                path.unlink()
        if "streamed" in axes:
            for links in LINKS:
                with tempfile.TemporaryDirectory() as own:
                    rows = shards(Path(own), links)
                    seen = train(MLP, ["data.tier=stream", *precision], STREAMED, BATCH, {"AECLI_DATA_DIR": own})
                slope, error = seen.slope()
                low, high = min(seen.anonymous) / 2**20, max(seen.anonymous) / 2**20
                told = f"own memory {low:,.0f} to {high:,.0f} MB over {seen.images[-1] - seen.images[0]:,.0f} images"
                told += f", {slope:+.1f} ({error:.1f}) bytes an image"
                beside.append(f"- {rows:,} rows in {links} TFDS shards, streamed: {seen.images_per_s:,.0f} images/s; {told}.")
                print(beside[-1], flush=True)
        if "devices" in axes:
            for devices in (1, 2, 4):
                flags = f"--xla_force_host_platform_device_count={devices}"
                measure("virtual devices, mlp", devices, MLP, [], XLA_FLAGS=flags)
    if arguments.write is not None:
        put(arguments.write, "growth", "\n".join([*table, *([""] if beside else []), *beside]))


main()
