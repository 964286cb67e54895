"""All measurements in turns, and what has changed since those that are kept for this kind of machine: what `make bench` runs.

  python benchmarks/suite.py [--peers PYTHON] [--quick] [--keep] [--write benchmarks/RESULTS.md]

Writes the tables of compare.py, start.py, growth.py and evaluation.py and one of changes into the file, and keeps numbers in
`benchmarks/kept/KIND.json`: at first all, later those that are new, and with --keep all of them in place of the old.
--quick takes some minutes: fewer configs, no peers, no table of growth, and it writes no tables of results. Ends with exit
code 1 if a number is a regression. `kept.py` says what that is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kept
from results import answer, processor, put, versions

HERE = Path(__file__).parent
QUICK = {
    "compare": ["--only", "mlp_vae,conv_ae", "--rounds", "3", "--seconds", "3"],
    "start": ["--only", "quickstart,bottleneck_conv_fashion", "--rounds", "2"],
    "evaluation": ["--only", "quickstart", "--rounds", "2"],
}
"""The scripts whose numbers are kept, and how they are called in a hurry."""
RATE = """
import json
from aecli.system.placement import local_devices
from aecli.verbs.bench import matmul_rate
devices = local_devices()
print(json.dumps([f"{len(devices)} x {devices[0].device_kind}", matmul_rate()]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", action="store_true", help="in place of the numbers that are kept")
    parser.add_argument("--write", type=Path, default=HERE / "RESULTS.md")
    arguments = parser.parse_args()
    rates: list[float] = []
    numbers: dict[str, kept.Number] = {}
    devices = ""

    def look() -> None:
        nonlocal devices
        devices, rate = json.loads(answer([sys.executable, "-c", RATE], {}))
        rates.append(rate)

    def call(script: str, *more: str) -> None:
        to = [] if arguments.quick else ["--write", str(arguments.write)]
        done = subprocess.run([sys.executable, str(HERE / f"{script}.py"), *to, *more])
        if done.returncode:
            sys.exit(done.returncode)

    with tempfile.TemporaryDirectory() as folder:
        for script, hurried in QUICK.items():
            look()
            file = Path(folder) / f"{script}.json"
            peers = ["--peers", arguments.peers] if arguments.peers and script == "compare" and not arguments.quick else []
            call(script, "--numbers", str(file), *peers, *(hurried if arguments.quick else []))
            numbers |= {name: kept.Number(*values) for name, values in json.loads(file.read_text()).items()}
        look()
    if not arguments.quick:
        call("growth")
    machine: dict[str, Any] = {"day": time.strftime("%Y-%m-%d"), "processor": processor(), "devices": devices, **versions()}
    now = kept.Kept(machine, max(rates), numbers)
    path = kept.FOLDER / f"{kept.kind(devices)}.json"
    before = kept.read(path)
    text, worse = kept.changes(now, before)
    print(text)
    if not arguments.quick:
        put(arguments.write, "changes", text)
    kept.write(path, kept.merged(now, before, arguments.keep))
    if worse:
        sys.exit(f"regressions: {'; '.join(worse)}")


if __name__ == "__main__":
    main()
