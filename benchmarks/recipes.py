"""Trains the recipes of `configs/` over seeds, keeps every finished cell in git, and writes docs/numbers.md,
configs/numbers.json and the tables of docs/uses.md and README.md from what is kept.

  python recipes.py [--only NAME,...] [--seeds N] [--jobs N]    # trains what is missing, then writes the document
  python recipes.py --write                                       # writes the documents alone
  python recipes.py --list                                        # what is kept, and what is missing

`numbers/recipes.yaml` says which configs, with how many seeds, measured by what, `numbers/uses.yaml` which of these numbers
stand for which use of such models. A config is trained by `aecli sweep`, its runs
in `$AECLI_RUNS_DIR` or runs/: what Ctrl-C stopped goes on at the next call. A cell is kept in `numbers/NAME/SEED.json` as
soon as it is trained and measured; it counts as long as the config's settings are the ones that it was trained with.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from cells import CELLS, DRAWING, DRAWS, GENERATORS, NLL, SHIFT_ERROR, Recipe, as_today, cells, has_all, keep, missing, recipes
from number_tables import ROOT, write
from results import Failed, absent, answer, processor

import aecli
from aecli.measures.metric import VERSION, average

CALIBRATED = 1000
"""Test images whose likelihood is measured by many importance samples."""
AECLI = [sys.executable, "-m", "aecli"]


def sweep_of(recipe: Recipe, root: Path) -> str | None:
    """The newest sweep of the config as it is now, to go on with."""
    for folder in sorted((root / ".sweeps").glob(f"{named(recipe)}-*"), key=lambda path: path.stat().st_mtime, reverse=True):
        if (folder / "plan.json").exists() and is_of(recipe, folder):
            return folder.name
    return None


def named(recipe: Recipe) -> str:
    """The name of its sweeps, in which what is set stands, too."""
    return f"numbers-{recipe.name}"


def is_of(recipe: Recipe, sweep: Path) -> bool:
    """Whether a sweep is of the config's settings as they are now, whatever its comments say."""
    return yaml.safe_load((sweep / "config.yaml").read_text()) == yaml.safe_load(recipe.path.read_text())


def runs_of(recipe: Recipe, root: Path) -> Iterator[Path]:
    """The runs of the sweeps of the config as it is now."""
    for path in sorted(root.glob("*/run.json")):
        sweep = (json.loads(path.read_text()).get("sweep") or {}).get("id", "")
        if sweep.startswith(f"{named(recipe)}-") and is_of(recipe, root / ".sweeps" / sweep):
            yield path.parent


def train(recipe: Recipe, seeds: int, jobs: int, root: Path, folder: Path = CELLS) -> None:
    """Trains and measures what is missing, and keeps each cell that is finished, also when it is interrupted. Raises Failed."""
    where = ["--jobs", str(jobs), "--runs-dir", str(root)]
    try:
        collect(recipe, root, folder)
        if (begun := sweep_of(recipe, root)) is not None and missing(recipe, seeds, folder):
            if subprocess.run([*AECLI, "sweep", "--resume", begun, *where], stdout=subprocess.DEVNULL).returncode > 128:
                raise KeyboardInterrupt
            collect(recipe, root, folder)
        if todo := missing(recipe, seeds, folder):  # more seeds than were asked for before, or what could not be gone on with
            asked = ["--seed-list", ",".join(map(str, todo)), "--eval", "--only", ",".join(recipe.evaluators)]
            asked += [word for override in recipe.overrides for word in ("--set", override)]
            command = [*AECLI, "sweep", str(recipe.path), *asked, "--name", named(recipe), *where]
            code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
            if code > 128:  # a signal, which is meant for all of this
                raise KeyboardInterrupt
            if code:
                raise Failed(f"{recipe.name}: exit {code} of `aecli sweep`")
    finally:
        collect(recipe, root, folder)


def collect(recipe: Recipe, root: Path, folder: Path = CELLS) -> None:
    """Keeps what is finished, and measures what is trained and lacks numbers."""
    kept = cells(recipe, folder)
    for run in runs_of(recipe, root):
        if any(cell["run"] == run.name and has_all(recipe, cell["numbers"]) for cell in kept.values()):
            continue
        seed = keep(recipe, run, folder)
        trained = json.loads((run / "state.json").read_text())["state"] == "completed"
        if seed is None and trained:  # it was measured by older metrics, not through samplers, or not at all
            for way in recipe.ways:
                if not recipe.asked_of(way) <= set(as_today(way.numbers(run))):
                    answer([*AECLI, "eval", run.name, *way.options, "--json", "--runs-dir", str(root)], {})
            seed = keep(recipe, run, folder)
        if seed is not None:
            print(f"{recipe.name}: seed {seed} is kept", flush=True)


def extend(recipe: Recipe, root: Path, folder: Path = CELLS) -> None:
    """Adds to the cell of one seed, whose run is here, what is measured of one alone where that is asked for: the likelihood by
    many importance samples, and how long draws take."""
    kept = cells(recipe, folder)
    wanted: dict[str, Callable[[Path], Mapping[str, Any]]] = {}
    if recipe.samples is not None:
        wanted[f"{NLL}@{recipe.samples}"] = partial(likelihood, samples=recipe.samples)
    if recipe.draws_itself and GENERATORS in recipe.tables:
        wanted[DRAWING] = drawing
    here = [seed for seed, cell in kept.items() if (root / cell["run"]).exists()]
    for name, of in wanted.items():
        if not here or any(name in cell["numbers"] for cell in kept.values()):
            continue
        path = folder / recipe.name / f"{here[0]}.json"
        cell = json.loads(path.read_text())
        cell["numbers"][name] = of(root / cell["run"])
        path.write_text(json.dumps(cell, indent=1, sort_keys=True) + "\n")


def likelihood(run: Path, samples: int) -> dict[str, Any]:
    """That of the test images by so many importance samples: as it was measured by fewer, and shifted by what more change on the
    first of them, image by image. Of all images they would take an hour."""
    trained = aecli.load(run)
    images, labels = trained.data("test")
    few = trained.numbers("test")[NLL]
    with np.load(run / "eval" / "test-values.npz") as values:
        by_few = values[f"likelihood/{NLL}"][:CALIBRATED].astype(np.float64)
    by_many = trained.score(images[:CALIBRATED], labels[:CALIBRATED], samples=samples)
    shift = average("shift", by_many - by_few)
    assert few.value is not None and shift.value is not None
    protocol = {**few.protocol, "samples": samples, "calibrated_on": shift.n, SHIFT_ERROR: shift.standard_error}
    facts = {"value": few.value + shift.value, "baselines": dict(few.baselines), "protocol": protocol}
    return {**{name: getattr(few, name) for name in ("standard_error", "n", "unit", "better", "evaluator")}, **facts}


def drawing(run: Path) -> dict[str, Any]:
    """Seconds that draws take on this machine once their program is compiled: the least of three times, since others only add."""
    trained = aecli.load(run)
    trained.sample(DRAWS)
    seconds: list[float] = []
    for seed in range(1, 4):
        begun = time.monotonic()
        trained.sample(DRAWS, seed=seed)
        seconds.append(time.monotonic() - begun)
    protocol = {"version": VERSION, "machine": processor()}
    return {"value": round(min(seconds), 3), "unit": "s", "better": "lower", "baselines": {}, "protocol": protocol}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="names of recipes, separated by commas: a config, and what is set")
    parser.add_argument("--seeds", type=int, help="in place of what recipes.yaml says")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="the document alone")
    parser.add_argument("--list", action="store_true", help="what is missing, and train nothing")
    arguments = parser.parse_args()
    if arguments.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--list | head` ends in silence
    known = {recipe.name: recipe for recipe in recipes()}
    names = arguments.only.split(",") if arguments.only else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no recipe is called {', '.join(unknown)}; there are {', '.join(known)}")
    root = Path(os.environ.get("AECLI_RUNS_DIR", ROOT / "runs"))
    failed: list[str] = []
    for recipe in (known[name] for name in names):
        seeds = arguments.seeds or recipe.seeds
        todo = missing(recipe, seeds)
        print(f"{recipe.name}: {seeds - len(todo)} of {seeds} seeds are kept", flush=True)
        if arguments.list or arguments.write:
            continue
        if not todo:
            extend(recipe, root)
            continue
        if (coming := absent(recipe.path)) is not None:
            print(f"{recipe.name}: left out, its images are not here: {coming}", flush=True)
            continue
        begun = time.monotonic()
        try:
            train(recipe, seeds, arguments.jobs, root)
            extend(recipe, root)
        except KeyboardInterrupt:
            write()
            sys.exit(130)
        except Failed as error:
            failed.append(str(error))
            print(f"error: {error}", file=sys.stderr)
        print(f"{recipe.name}: {time.monotonic() - begun:.0f} s", flush=True)
    if not arguments.list:
        write()
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
