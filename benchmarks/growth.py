"""How aecli's speed and memory follow the size of the work: image, batch, code, data and devices, one at a time.

  python benchmarks/growth.py [--seconds 4] [--only AXIS,...] [--write benchmarks/RESULTS.md]

Each row is a process of `aecli bench`; on a GPU the same rows run there, and `--bfloat16` computes in it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from results import put

HERE = Path(__file__).parent
MLP, CONV = HERE / "configs" / "mlp_vae.yaml", HERE.parent / "configs" / "bottleneck_conv_fashion.yaml"
ROWS = (1_000, 10_000, 100_000, 1_000_000)


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", default="image,batch,code,rows,devices")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    precision = ["train.precision=bfloat16"] if arguments.bfloat16 else []
    table = ["| axis | value | images/s | step, ms | share of matrix products | peak memory, MB |", "|---|---|---|---|---|---|"]
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
        if "devices" in axes:
            for devices in (1, 2, 4):
                flags = f"--xla_force_host_platform_device_count={devices}"
                measure("virtual devices, mlp", devices, MLP, [], XLA_FLAGS=flags)
    if arguments.write is not None:
        put(arguments.write, "growth", "\n".join(table))


main()
