"""Trains the recipes of `configs/` over seeds, keeps every finished cell in git, and writes docs/numbers.md from what is kept.

  python recipes.py [--only CONFIG,...] [--seeds N] [--jobs N]    # trains what is missing, then writes the document
  python recipes.py --write                                       # writes the document alone
  python recipes.py --list                                        # what is kept, and what is missing

`numbers/recipes.yaml` says which configs, with how many seeds, measured by what. A config is trained by `aecli sweep`, its runs
in `$AECLI_RUNS_DIR` or runs/: what Ctrl-C stopped goes on at the next call. A cell is kept in `numbers/CONFIG/SEED.json` as
soon as it is trained and measured; it counts as long as the config's settings are the ones that it was trained with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import yaml
from results import Failed, answer, processor, table

from aecli.measures.metric import VERSION

HERE = Path(__file__).parent
CELLS, CONFIGS, DOCUMENT = HERE / "numbers", HERE.parent / "configs", HERE.parent / "docs" / "numbers.md"
AECLI = [sys.executable, "-m", "aecli"]
LIKELIHOOD, NLL = "likelihood", "nll_nats"


class Published(NamedTuple):
    metric: str
    value: float
    protocol: str
    source: str


class Recipe(NamedTuple):
    """`samples`: importance samples with which the first seed is measured once more."""

    config: str
    seeds: int
    evaluators: Sequence[str]
    metrics: Sequence[str]
    samples: int | None = None
    published: Published | None = None

    @property
    def path(self) -> Path:
        return CONFIGS / f"{self.config}.yaml"

    @property
    def first(self) -> int:
        """The config's own seed, from which the others are counted on."""
        return int(yaml.safe_load(self.path.read_text()).get("seed", 0))

    def settings(self) -> str:
        """The SHA-256 of what the config says, but for its seed and its comments."""
        blocks = {key: block for key, block in yaml.safe_load(self.path.read_text()).items() if key != "seed"}
        return hashlib.sha256(json.dumps(blocks, sort_keys=True).encode()).hexdigest()


def recipes() -> list[Recipe]:
    made: list[Recipe] = []
    for facts in yaml.safe_load((CELLS / "recipes.yaml").read_text()):
        published = facts.pop("published", None)
        made.append(Recipe(**facts, published=None if published is None else Published(**published)))
    return made


# --- what is kept ---


def cells(recipe: Recipe, folder: Path = CELLS) -> dict[int, dict[str, Any]]:
    """By seed, those that count: of the config as it is now, with all metrics that are asked for, as they are measured now."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted((folder / recipe.config).glob("*.json"), key=lambda path: int(path.stem)):
        cell = json.loads(path.read_text())
        if cell["settings"] == recipe.settings() and has_all(recipe, cell["numbers"]):
            found[int(path.stem)] = cell
    return found


def has_all(recipe: Recipe, numbers: Mapping[str, Any]) -> bool:
    """Whether every metric is there, by the meaning that it has today."""
    return all(name in numbers and numbers[name]["protocol"].get("version") == VERSION for name in recipe.metrics)


def missing(recipe: Recipe, seeds: int, folder: Path = CELLS) -> list[int]:
    kept = cells(recipe, folder)
    return [seed for seed in range(recipe.first, recipe.first + seeds) if seed not in kept]


def keep(recipe: Recipe, run: Path, folder: Path = CELLS) -> int | None:
    """Writes the cell of a run that is trained and measured; its seed, or None of a run that is not."""
    facts, state = (json.loads((run / name).read_text()) for name in ("run.json", "state.json"))
    try:
        numbers = json.loads((run / "eval" / "test.json").read_text())
    except FileNotFoundError:
        return None
    if state["state"] != "completed" or not has_all(recipe, numbers):
        return None
    seed = int(yaml.safe_load((run / "config.resolved.yaml").read_text())["seed"])
    path = folder / recipe.config / f"{seed}.json"
    more = json.loads(path.read_text())["numbers"] if path.exists() else {}
    again = {name: number for name, number in more.items() if "@" in name and json.loads(path.read_text())["run"] == facts["id"]}
    cell = {
        "config": recipe.config,
        "seed": seed,
        "settings": recipe.settings(),
        "run": facts["id"],
        "created": facts["created"],
        "code": facts["code"] and facts["code"]["hash"],
        "git": facts["git"],
        "data": facts["data"]["fingerprint"],
        "machine": processor(),
        "devices": facts["devices"],
        "versions": facts["versions"],
        "steps": state["step"],
        "minutes": None if state["seconds"] is None else round(state["seconds"] / 60, 2),
        "flop": None if state["flop_per_step"] is None else state["flop_per_step"] * state["step"],
        "numbers": {name: number for name, number in numbers.items() if name in recipe.metrics} | again,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cell, indent=1, sort_keys=True) + "\n")
    return seed


# --- training ---


def sweep_of(recipe: Recipe, root: Path) -> str | None:
    """The newest sweep of the config as it is now, to go on with."""
    text = recipe.path.read_text()
    for folder in sorted((root / ".sweeps").glob(f"{named(recipe)}-*"), key=lambda path: path.stat().st_mtime, reverse=True):
        if (folder / "plan.json").exists() and (folder / "config.yaml").read_text() == text:
            return folder.name
    return None


def named(recipe: Recipe) -> str:
    return f"numbers-{recipe.config}"


def runs_of(recipe: Recipe, root: Path) -> Iterator[Path]:
    """The runs of the sweeps of the config as it is now."""
    text = recipe.path.read_text()
    for path in sorted(root.glob("*/run.json")):
        sweep = (json.loads(path.read_text()).get("sweep") or {}).get("id", "")
        if sweep.startswith(f"{named(recipe)}-") and (root / ".sweeps" / sweep / "config.yaml").read_text() == text:
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
            command = [*AECLI, "sweep", str(recipe.path), *asked, "--name", named(recipe), *where]
            code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
            if code > 128:  # a signal, which is meant for all of this
                raise KeyboardInterrupt
            if code:
                raise Failed(f"{recipe.config}: exit {code} of `aecli sweep`")
    finally:
        collect(recipe, root, folder)


def collect(recipe: Recipe, root: Path, folder: Path = CELLS) -> None:
    """Keeps what is finished, and measures the first seed by many importance samples where that is asked for."""
    kept = cells(recipe, folder)
    for run in runs_of(recipe, root):
        if any(cell["run"] == run.name for cell in kept.values()):
            continue
        seed = keep(recipe, run, folder)
        trained = json.loads((run / "state.json").read_text())["state"] == "completed"
        if seed is None and trained:  # it was measured by older metrics, or not at all
            answer([*AECLI, "eval", run.name, "--only", ",".join(recipe.evaluators), "--json", "--runs-dir", str(root)], {})
            seed = keep(recipe, run, folder)
        if seed is not None:
            print(f"{recipe.config}: seed {seed} is kept", flush=True)
    first = cells(recipe, folder).get(recipe.first)
    name = f"{NLL}@{recipe.samples}"
    if recipe.samples is None or first is None or name in first["numbers"] or not (root / first["run"]).exists():
        return
    asked = ["--only", LIKELIHOOD, "--samples", str(recipe.samples), "--json", "--runs-dir", str(root)]
    first["numbers"][name] = json.loads(answer([*AECLI, "eval", first["run"], *asked], {}))[NLL]
    path = folder / recipe.config / f"{recipe.first}.json"
    path.write_text(json.dumps(first, indent=1, sort_keys=True) + "\n")


# --- the document ---

HEAD = """# Numbers

Written by `make numbers` from `benchmarks/numbers/`, never by hand: every config trained whole, with several seeds, and
measured on its test split. A value is the mean over the seeds, beside it their standard deviation (of n - 1) and how many
they are. Baselines are those that `aecli eval` gives. Minutes are of training steps alone, of the seed that took least
(others may have had company), on the machine that is named; operations are those of matrix products, as `aecli bench` counts
them.

"""
COLUMNS = ("config", "metric", "mean", "sd", "seeds", "baseline", "published", "minutes", "operations")


class Summary(NamedTuple):
    values: Sequence[float]
    note: str = ""

    @property
    def text(self) -> tuple[str, str, str]:
        sd = f"{stdev(self.values):.2g}" if len(self.values) > 1 else ""
        return f"{mean(self.values):.5g}{self.note}", sd, str(len(self.values))


def summary(recipe: Recipe, metric: str, kept: Mapping[int, dict[str, Any]]) -> Summary | None:
    """Of the seeds that have a value. A likelihood that the first seed has by more importance samples, too, is shifted by what
    they changed there; the images and the weights are the same, so that the difference is of the samples alone."""
    values = [value for cell in kept.values() if (value := cell["numbers"][metric]["value"]) is not None]
    more = f"{NLL}@{recipe.samples}"
    first = kept.get(recipe.first)
    if not values:
        return None
    if metric != NLL or recipe.samples is None or first is None or more not in first["numbers"]:
        return Summary(values)
    shift = first["numbers"][more]["value"] - first["numbers"][NLL]["value"]
    return Summary([value + shift for value in values], f" (by {recipe.samples:,} samples, shifted by {shift:.3f})")


def rows(recipe: Recipe, kept: Mapping[int, dict[str, Any]]) -> list[list[str]]:
    minutes = [cell["minutes"] for cell in kept.values() if cell["minutes"] is not None]
    flop = [cell["flop"] for cell in kept.values() if cell["flop"] is not None]
    lines: list[list[str]] = []
    for metric in recipe.metrics:
        found = summary(recipe, metric, kept)
        published = recipe.published if recipe.published and recipe.published.metric == metric else None
        against = f"{published.value} ({published.source}; {published.protocol})" if published else ""
        if found is None:
            lines.append([recipe.config, metric, "not measured yet", "", "0", "", against, "", ""])
            continue
        number = next(iter(kept.values()))["numbers"][metric]
        beside = ", ".join(f"{name} {value:.5g}" for name, value in number["baselines"].items())
        cost = [f"{min(minutes):.2g}" if minutes else "", f"{mean(flop):.1e}" if flop else ""]
        lines.append([recipe.config, metric, *found.text, beside, against, *cost])
    return lines


def document(folder: Path = CELLS) -> str:
    """docs/numbers.md, of the cells that are kept."""
    lines: list[list[str]] = []
    machines: dict[str, dict[str, list[int]]] = {}
    for recipe in recipes():
        kept = cells(recipe, folder)
        lines += rows(recipe, kept)
        for seed, cell in kept.items():
            versions = ", ".join(f"{name} {cell['versions'].get(name)}" for name in ("aecli", "jax", "flax"))
            machines.setdefault(f"{cell['machine']}; {versions}", {}).setdefault(recipe.config, []).append(seed)
    told = "".join(
        f"- {machine}: {', '.join(f'{config} ({len(seeds)})' for config, seeds in found.items())}\n"
        for machine, found in machines.items()
    )
    return f"{HEAD}{table(COLUMNS, lines)}\n\n## Machines, and how many seeds of what\n\n{told or 'none yet'}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="configs, separated by commas")
    parser.add_argument("--seeds", type=int, help="in place of what recipes.yaml says")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="the document alone")
    parser.add_argument("--list", action="store_true", help="what is missing, and train nothing")
    arguments = parser.parse_args()
    known = {recipe.config: recipe for recipe in recipes()}
    names = arguments.only.split(",") if arguments.only else list(known)
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no recipe is called {', '.join(unknown)}; there are {', '.join(known)}")
    root = Path(os.environ.get("AECLI_RUNS_DIR", HERE.parent / "runs"))
    failed: list[str] = []
    for recipe in (known[name] for name in names):
        seeds = arguments.seeds or recipe.seeds
        todo = missing(recipe, seeds)
        print(f"{recipe.config}: {seeds - len(todo)} of {seeds} seeds are kept", flush=True)
        if arguments.list or arguments.write or not todo:
            continue
        begun = time.monotonic()
        try:
            train(recipe, seeds, arguments.jobs, root)
        except KeyboardInterrupt:
            DOCUMENT.write_text(document())
            sys.exit(130)
        except Failed as error:
            failed.append(str(error))
            print(f"error: {error}", file=sys.stderr)
        print(f"{recipe.config}: {time.monotonic() - begun:.0f} s", flush=True)
    if not arguments.list:
        DOCUMENT.write_text(document())
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
