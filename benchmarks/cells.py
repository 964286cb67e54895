"""The recipes of `numbers/recipes.yaml`, and what is kept in git of those that were trained: `numbers/NAME/SEED.json`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml
from results import processor

from aecli.evaluation.request import EvalRequest
from aecli.measures.metric import VERSION

HERE = Path(__file__).parent
CELLS, CONFIGS = HERE / "numbers", HERE.parent / "configs"
USUAL = EvalRequest()
AGAINST = CELLS / "against"
NLL, BITS, PROBE = "nll_nats", "bits_per_dim", "linear_probe_accuracy"
SHIFT_ERROR = "shift_standard_error_nats"
"""What the protocol of a likelihood by more importance samples calls the error of their effect."""
DRAWS = 1000
DRAWING = f"seconds@{DRAWS}"
"""Of one seed's cell: how long so many draws take, on the machine that its protocol names."""


class Table(NamedTuple):
    """One over several configs. `columns`: metrics, of which the draws of a sampler beside a model have one each."""

    title: str
    text: str
    columns: Sequence[str]


GENERATORS, REPRESENTATIONS = "generators", "representations"
TABLES: Mapping[str, Table] = {
    GENERATORS: Table(
        "What is drawn",
        "By the features of a small classifier, of models with an explicit density and without one. `copying` is the chance\n"
        "that a draw is nearer to its nearest train image than a test image is to its own: 0.5 is that of new images.\n"
        f"Seconds are those of {DRAWS:,} draws once the program is compiled, of one seed, the least of three times, on\n"
        "the machine that measured it. Train images are those that the configs' seeds chose: the mean over the configs.",
        ("frechet_distance", "kid", "precision", "recall", "density", "coverage", "copying"),
    ),
    REPRESENTATIONS: Table(
        "What an encoder gives",
        "Shares of test images whose class is told by three simple methods, which are trained on the codes of the train split,\n"
        "or on what a model has in their place ([evaluation.md](evaluation.md)): more numbers tell more, so that rows of\n"
        "different ones say which features are of use, and not which model is the better of its size.",
        (PROBE, "knn_accuracy", "ridge_accuracy"),
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Way:
    """One of those in which a run is measured: by its evaluators, or besides, under names that end with the way's own. `options`
    are those of `aecli eval`, `files` what it keeps the numbers in, of which those are meant whose protocol says `of`."""

    name: str
    options: Sequence[str]
    files: str
    of: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def called(self, metric: str) -> str:
        """What a metric is called in a cell."""
        return f"{metric} ({self.name})" if self.name else metric

    def numbers(self, run: Path) -> dict[str, Any]:
        """What a run has of it, by the names of a cell."""
        found: dict[str, Any] = {}
        for path in (run / "eval").glob(self.files):
            kept = json.loads(path.read_text())
            found |= {self.called(name): number for name, number in kept.items() if self._is(number["protocol"])}
        return found

    def _is(self, protocol: Mapping[str, Any]) -> bool:
        """Whether a number is of this way, and measured by as much as is usual: who asks for more has it in the same file."""
        usual = protocol.get("samples", 0) <= USUAL.samples and protocol.get("per_class", USUAL.per_class) == USUAL.per_class
        return usual and self.of.items() <= protocol.items()


def through(sampler: str) -> Way:
    """Draws through a sampler, such as `gmm10`."""
    name = sampler.rstrip("0123456789")
    components = ["--components", sampler.removeprefix(name)] if name != sampler else []
    return Way(sampler, ["--sampler", name, *components, "--only", "generation"], f"test-by-{sampler}.json")


def against(name: str, by_likelihood: bool = False) -> Way:
    """How well the images of `numbers/against/NAME.yaml` are told from the run's own; `by_likelihood` too, whatever it costs."""
    path = AGAINST / f"{name}.yaml"
    data = yaml.safe_load(path.read_text())["data"]
    called = data["name"] + (f" of {', '.join(sorted(data['classes']))}" if "classes" in data else "")
    samples = ["--importance-samples", str(USUAL.samples)] if by_likelihood else []
    return Way(f"against {name}", ["--against", str(path), *samples], "test-against-*.json", {"against": called})


class Published(NamedTuple):
    """`value`: as its source prints it."""

    metric: str
    value: str
    protocol: str
    source: str


class Recipe(NamedTuple):
    """`metrics`: those that stand in the document's first table. `set`: settings that differ from the config's own. `tables`: the
    others that it is in. `samplers`: those through which draws are measured too. `against`: data whose images are to be told
    from the run's own. `samples`: importance samples with which one seed is measured once more, on some of the images."""

    config: str
    seeds: int
    evaluators: Sequence[str]
    metrics: Sequence[str]
    set: Mapping[str, float | str] = MappingProxyType({})
    tables: Sequence[str] = ()
    samplers: Sequence[str] = ()
    against: Sequence[str] = ()
    samples: int | None = None
    published: Published | None = None

    @property
    def name(self) -> str:
        """The config, and what it is trained with in place of its own settings: `bottleneck_shallow_fashion_latent10`."""
        return self.config + "".join(f"_{key.rpartition('.')[2]}{value}" for key, value in self.set.items())

    @property
    def overrides(self) -> Sequence[str]:
        """What is set, as `--set` takes it."""
        return [f"{key}={value}" for key, value in self.set.items()]

    @property
    def path(self) -> Path:
        return CONFIGS / f"{self.config}.yaml"

    @property
    def asked(self) -> Sequence[str]:
        """All metrics that a cell has."""
        own = [name for table in self.tables for name in TABLES[table].columns if self.draws_itself or table != GENERATORS]
        drawn = [through(sampler).called(name) for sampler in self.samplers for name in TABLES[GENERATORS].columns]
        return list(dict.fromkeys([*self.metrics, *own, *drawn]))

    @property
    def ways(self) -> Sequence[Way]:
        """In which it is measured."""
        own = Way("", ["--only", ",".join(self.evaluators)], "test.json")
        return [own, *map(through, self.samplers), *(against(name, "likelihood" in self.evaluators) for name in self.against)]

    def asked_of(self, way: Way) -> set[str]:
        """Those metrics that are measured in one of its ways."""
        named = {
            other.name: {name for name in self.asked if name.endswith(f"({other.name})")} for other in self.ways if other.name
        }
        return named[way.name] if way.name else set(self.asked).difference(*named.values())

    @property
    def draws_itself(self) -> bool:
        """Whether it is measured by its own draws."""
        return "generation" in self.evaluators

    def published_of(self, metric: str) -> Published | None:
        """What is published of a metric, to be held against it."""
        return self.published if self.published and self.published.metric == metric else None

    @property
    def first(self) -> int:
        """The config's own seed, from which the others are counted on."""
        return int(yaml.safe_load(self.path.read_text()).get("seed", 0))

    def settings(self) -> str:
        """The SHA-256 of what the config says, but for its seed and its comments, and of what is set."""
        blocks = {key: block for key, block in yaml.safe_load(self.path.read_text()).items() if key != "seed"}
        blocks |= {"set": dict(self.set)} if self.set else {}
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
    for path in sorted((folder / recipe.name).glob("*.json"), key=lambda path: int(path.stem)):
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
    """The numbers of a run in all ways of its recipe."""
    return {name: number for way in recipe.ways for name, number in way.numbers(run).items()}


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
    path = folder / recipe.name / f"{seed}.json"
    more = json.loads(path.read_text())["numbers"] if path.exists() else {}
    again = {name: number for name, number in more.items() if "@" in name and json.loads(path.read_text())["run"] == facts["id"]}
    cell = {
        "config": recipe.config,
        "set": dict(recipe.set),
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
