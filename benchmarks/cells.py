"""The recipes of `numbers/recipes.yaml`, and what is kept in git of those that were trained: `numbers/CONFIG/SEED.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from results import processor

from aecli.measures.metric import VERSION

HERE = Path(__file__).parent
CELLS, CONFIGS = HERE / "numbers", HERE.parent / "configs"
NLL = "nll_nats"


class Table(NamedTuple):
    """One over several configs. `columns`: metrics, of which the draws of a sampler beside a model have one each."""

    title: str
    text: str
    columns: Sequence[str]


GENERATORS = "generators"
TABLES: Mapping[str, Table] = {
    GENERATORS: Table(
        "What is drawn",
        "By the features of a small classifier, of models with an explicit density and without one. `copying` is the chance\n"
        "that a draw is nearer to its nearest train image than a test image is to its own: 0.5 is that of new images.",
        ("frechet_distance", "kid", "precision", "recall", "density", "coverage", "copying"),
    ),
    "representations": Table(
        "What an encoder gives",
        "Shares of test images whose class is told by three simple methods, which are trained on the codes of the train split.",
        ("linear_probe_accuracy", "knn_accuracy", "ridge_accuracy"),
    ),
}


def drawn(metric: str, sampler: str) -> str:
    """What a metric of draws through a sampler is called in a cell."""
    return f"{metric} ({sampler})"


class Published(NamedTuple):
    metric: str
    value: float
    protocol: str
    source: str


class Recipe(NamedTuple):
    """`metrics`: those that stand in the document's first table. `tables`: the others that it is in. `samplers`: those through
    which draws are measured too, under the names of `drawn`. `samples`: importance samples with which the first seed is measured
    once more."""

    config: str
    seeds: int
    evaluators: Sequence[str]
    metrics: Sequence[str]
    tables: Sequence[str] = ()
    samplers: Sequence[str] = ()
    samples: int | None = None
    published: Published | None = None

    @property
    def path(self) -> Path:
        return CONFIGS / f"{self.config}.yaml"

    @property
    def asked(self) -> Sequence[str]:
        """All metrics that a cell has."""
        own = [name for table in self.tables for name in TABLES[table].columns if self.draws_itself or table != GENERATORS]
        through = [drawn(name, sampler) for sampler in self.samplers for name in TABLES[GENERATORS].columns]
        return list(dict.fromkeys([*self.metrics, *own, *through]))

    @property
    def draws_itself(self) -> bool:
        """Whether it is measured by its own draws."""
        return "generation" in self.evaluators

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


def cells(recipe: Recipe, folder: Path = CELLS) -> dict[int, dict[str, Any]]:
    """By seed, those of the config as it is now, with the numbers that are meant as they are today; others are left out."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted((folder / recipe.config).glob("*.json"), key=lambda path: int(path.stem)):
        cell = json.loads(path.read_text())
        if cell["settings"] == recipe.settings():
            found[int(path.stem)] = {**cell, "numbers": as_today(cell["numbers"])}
    return found


def as_today(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: number for name, number in numbers.items() if number["protocol"].get("version") == VERSION}


def has_all(recipe: Recipe, numbers: Mapping[str, Any]) -> bool:
    """Whether every metric is there, by the meaning that it has today."""
    return set(recipe.asked) <= set(as_today(numbers))


def measured(run: Path, recipe: Recipe) -> dict[str, Any]:
    """The numbers of a run, those of draws through samplers under the names of `drawn`."""
    files = {"test": "", **{f"test-by-{sampler}": sampler for sampler in recipe.samplers}}
    found: dict[str, Any] = {}
    for stem, sampler in files.items():
        path = run / "eval" / f"{stem}.json"
        numbers = json.loads(path.read_text()) if path.exists() else {}
        found |= {drawn(name, sampler) if sampler else name: number for name, number in numbers.items()}
    return found


def missing(recipe: Recipe, seeds: int, folder: Path = CELLS) -> list[int]:
    kept = cells(recipe, folder)
    return [
        seed
        for seed in range(recipe.first, recipe.first + seeds)
        if seed not in kept or not has_all(recipe, kept[seed]["numbers"])
    ]


def keep(recipe: Recipe, run: Path, folder: Path = CELLS) -> int | None:
    """Writes the cell of a run that is trained and measured; its seed, or None of a run that is not."""
    facts, state = (json.loads((run / name).read_text()) for name in ("run.json", "state.json"))
    numbers = measured(run, recipe)
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
        "numbers": {name: number for name, number in numbers.items() if name in recipe.asked} | again,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(cell, indent=1, sort_keys=True) + "\n")
    return seed
