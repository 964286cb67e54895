"""What the scripts share: a process that answers with a line of JSON, the machine, how numbers look, and the file of results, of
which each script has a part, between marks, and writes that alone."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any


class Failed(Exception):
    """A process ended badly, or took too long; the message is the last line that says why."""


def left(until: float | None) -> float | None:
    """Seconds until that time of `time.monotonic`, at least one."""
    return None if until is None else max(1.0, until - time.monotonic())


def answer(command: Sequence[str], env: Mapping[str, str], until: float | None = None, well: Sequence[int] = (0,)) -> str:
    """What a process prints, with `env` added to its environment. Raises Failed if it ends with another code than `well`, or
    not `until` that time of `time.monotonic`."""
    seconds = left(until)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"took more than the {seconds:.0f} s that were left") from None
    if done.returncode not in well:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in said if line.lstrip().lower().startswith("error")]
        raise Failed(f"exit {done.returncode}: {' '.join((errors or said or ['nothing was said'])[-1].split())[:300]}")
    return done.stdout


def fresh(folder: Path) -> dict[str, str]:
    """An environment in which nothing is kept in `folder` yet but the data that was prepared for it, or for the user."""
    given = os.environ.get("AECLI_DATA_DIR")
    data = folder / "data"
    if given is not None and not data.exists():
        for name in ("tfds", "decoded"):
            if (Path(given) / name).is_dir():
                shutil.copytree(Path(given) / name, data / name)
    return {"AECLI_DATA_DIR": str(data), "AECLI_RUNS_DIR": str(folder / "runs")}


def absent(config: Path) -> str | None:
    """How the images of a config would come that are not on this machine; None if they are."""
    from aecli.config.load import load
    from aecli.verbs.check import peeked

    return peeked(load(config).experiment.data).absent


def put(path: Path, name: str, body: str) -> None:
    """Replaces the part `name`, or appends it where there is none yet."""
    text = path.read_text() if path.exists() else "# Results\n"
    start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->\n"
    part = f"{start}{body.rstrip()}\n{end}"
    before, found, after = text.partition(start)
    path.write_text(before + part + after.partition(end)[2] if found else f"{text}\n{part}")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of Markdown; a bar in a cell stays one."""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"|{'|'.join(line)}|" if line[0] == "---" else f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most where there are several."""
    return f"{median(values):.2f}" + (f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else "")


def processor() -> str:
    """The cores and their model, such as `2 x AMD EPYC`."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {name}"


def versions() -> dict[str, str]:
    """Of what decides the speed of this interpreter's side."""
    found = {"Python": platform.python_version()}
    for name in ("aecli", "jax", "jaxlib", "flax"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from its folder, not installed
            continue
    return found


def head(told: Iterable[Mapping[str, Any]], more: str) -> str:
    """The line above a table: the day, the machine, and the versions. `told` is what each process said of itself."""
    devices: set[str] = set()
    peers: dict[str, str] = {}
    for facts in told:
        devices.add(str(facts.get("devices") or facts["device"]))
        if facts.get("peer"):
            peers["pythae" if facts["peer"] == "Pythae" else "torch"] = str(facts["version"])
    of = ", ".join(f"{name} {number}" for name, number in {**versions(), **peers}.items())
    return f"{time.strftime('%Y-%m-%d')}, {processor()}, {', '.join(sorted(devices))}; {of}; {more}."
