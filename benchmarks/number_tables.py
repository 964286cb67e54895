"""What is written of the kept cells: docs/numbers.md, configs/numbers.json, and between marks in docs/uses.md and README.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple, TypeAlias

import yaml
from cells import (
    BITS,
    CELLS,
    DRAWING,
    GENERATORS,
    HERE,
    NLL,
    PROBE,
    REPRESENTATIONS,
    SHIFT_ERROR,
    TABLES,
    Recipe,
    cells,
    recipes,
    through,
)
from results import put, table

ROOT = HERE.parent

HEAD = """# Numbers

Written by `make numbers` from `benchmarks/numbers/`, never by hand: each config trained whole and measured on its test
split, by the checkpoint that is best on validation where images are held out for that, else by the last. A value is the
mean over the seeds, beside it their standard deviation (of n - 1) and how many they are: where it is one, nothing is known
of other seeds. Baselines are those that `aecli eval` gives, on the same images; where they differ by seed, the mean. Minutes
are of all training steps and of nothing else, of the seed that took least (others may have had company) on the machine that
is named; operations are those of matrix products, as `aecli bench` counts them.

"""
COLUMNS = ("config", "metric", "mean", "sd", "seeds", "baseline", "published", "minutes", "operations")


Kept: TypeAlias = tuple[Recipe, Mapping[int, dict[str, Any]]]
"""A recipe, and its cells by seed."""


def of(metric: str, kept: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of the seeds that have one."""
    return [cell["numbers"][metric] for cell in kept.values() if metric in cell["numbers"]]


def baselines(metric: str, kept: Mapping[int, dict[str, Any]]) -> dict[str, float]:
    """The mean over the seeds that were held against each."""
    found: dict[str, list[float]] = {}
    for number in of(metric, kept):
        for name, value in number["baselines"].items():
            found.setdefault(name, []).append(value)
    return {name: mean(values) for name, values in found.items()}


ROUNDING = 1e-9
"""Seeds that differ by less than this share of their mean are equal."""


def with_spread(values: Sequence[float], digits: int) -> tuple[str, str]:
    """The mean to five digits, and to no fewer decimals than the standard deviation, which has so many digits; nothing in place
    of the deviation of one value."""
    value, sd = mean(values), stdev(values) if len(values) > 1 else None
    if sd is None:
        return f"{value:.5g}", ""
    if sd <= ROUNDING * abs(value):
        return f"{value:.5g}", "0"
    told = f"{sd:#.{digits}g}"
    return to_decimals(value, told), f"{float(told):.{decimals(told)}f}"


def to_decimals(value: float, other: str) -> str:
    """A number to five digits, and to no fewer decimals than another one that stands by it; nothing behind an exact zero."""
    return "0" if value == 0 else f"{value:.{max(decimals(f'{value:.5g}'), decimals(other))}f}"


def decimals(number: str) -> int:
    """How many stand behind the point of a number such as 0.5 or 1e-05 where it is written out."""
    head, _, exponent = number.partition("e")
    return max(len(head.partition(".")[2]) - int(exponent or 0), 0)


class Summary(NamedTuple):
    values: Sequence[float]
    note: str = ""

    @property
    def text(self) -> tuple[str, str, str]:
        value, sd = with_spread(self.values, 2)
        return f"{value}{self.note}", sd, str(len(self.values))


def summary(recipe: Recipe, metric: str, kept: Mapping[int, dict[str, Any]]) -> Summary | None:
    """Of the seeds that have a value. A likelihood that one seed has by more importance samples, too, is shifted by what they
    changed there on some of the images; these and the weights are the same, so that the difference is of the samples alone."""
    values = [number["value"] for number in of(metric, kept) if number["value"] is not None]
    more = f"{NLL}@{recipe.samples}"
    both = next((cell["numbers"] for cell in kept.values() if {NLL, more} <= set(cell["numbers"])), None)
    if not values:
        return None
    if metric != NLL or both is None:
        return Summary(values)
    shift = both[more]["value"] - both[NLL]["value"]
    protocol = both[more]["protocol"]
    told = f"shifted by {shift:.3f} \u00b1 {protocol[SHIFT_ERROR]:.3f}, as {protocol['calibrated_on']:,} images are"
    return Summary([value + shift for value in values], f" (by {recipe.samples:,} samples, {told})")


def given(metric: str, kept: Mapping[int, dict[str, Any]]) -> str:
    """What bits per dimension are of: they are fewer of fewer levels, and of images of which something is known."""
    protocol = next((number["protocol"] for number in of(metric, kept)), {}) if metric == BITS else {}
    levels = [f"{protocol['levels']} levels"] if "levels" in protocol else []
    known = [f"given the {what}" for what in (protocol.get("given"), protocol.get("given_image")) if what]
    return f" ({', '.join(levels + known)})" if levels or known else ""


def least(kept: Mapping[int, dict[str, Any]]) -> str:
    """Minutes of the seed that took least, and the machine that it was."""
    known = [(cell["minutes"], cell["machine"]) for cell in kept.values() if cell["minutes"] is not None]
    return f"{min(known)[0]:.2g} ({min(known)[1]})" if known else ""


def rows(recipe: Recipe, kept: Mapping[int, dict[str, Any]]) -> list[list[str]]:
    flop = [cell["flop"] for cell in kept.values() if cell["flop"] is not None]
    lines: list[list[str]] = []
    for metric in recipe.metrics:
        found = summary(recipe, metric, kept)
        if found is None:
            continue
        reached = with_spread(found.values, 2)[0]
        published = recipe.published_of(metric)
        against = f"{published.value} ({published.source}; {published.protocol})" if published else ""
        beside = ", ".join(f"{name} {to_decimals(value, reached)}" for name, value in baselines(metric, kept).items())
        cost = [least(kept), f"{mean(flop):.1e}" if flop else ""]
        lines.append([recipe.name, metric + given(metric, kept), *found.text, beside, against, *cost])
    return lines


def lacking(recipe: Recipe, kept: Mapping[int, dict[str, Any]]) -> list[str]:
    """Those of its metrics that no seed has."""
    return [metric for metric in recipe.metrics if summary(recipe, metric, kept) is None]


def shown(values: Sequence[float]) -> str:
    """The mean, the standard deviation where there are several, and how many there are."""
    value, sd = with_spread(values, 1)
    return value + (f" \u00b1 {sd}" if sd else "") + f" ({len(values)})"


def data_of(recipe: Recipe) -> str:
    """The data set, and how it is binarized."""
    data = yaml.safe_load(recipe.path.read_text()).get("data", {})
    return data.get("name", "") + (f", binarize {data['binarize']}" if data.get("binarize", "none") != "none" else "")


def drawing(kept: Mapping[int, dict[str, Any]], sampler: str) -> str:
    """How long a model's own draws take; through a sampler it is not measured."""
    found = [] if sampler else of(DRAWING, kept)
    return f"{found[0]['value']:.2g}" if found else ""


def features(kept: Mapping[int, dict[str, Any]], _: str) -> str:
    """Of how many numbers the probes of a model are."""
    counts = {number["protocol"]["feature_count"] for number in of(PROBE, kept)}
    return ", ".join(f"{count:,}" for count in sorted(counts))


LAST: Mapping[str, tuple[str, Callable[[Mapping[int, dict[str, Any]], str], str]]] = {
    GENERATORS: ("seconds", drawing),
    REPRESENTATIONS: ("features", features),
}
"""The last column of a table over several configs, by its name: its head, and what stands in it."""


def across(name: str, kept: Mapping[str, Kept]) -> str:
    """One of `TABLES`: by data set, first what plain methods reach on it, then each config of which something is kept."""
    columns, (last, ending) = TABLES[name].columns, LAST[name]
    lines: dict[str, list[list[str]]] = {}
    plain: dict[str, dict[str, dict[str, list[float]]]] = {}
    for recipe, seeds in kept.values():
        for sampler in ("", *recipe.samplers) if name == GENERATORS else ("",):
            called = {metric: through(sampler).called(metric) if sampler else metric for metric in columns}
            found = {metric: summary(recipe, called[metric], seeds) for metric in columns if name in recipe.tables}
            if not any(found.values()):
                continue
            data = data_of(recipe)
            label = f"`{recipe.name}`" + (f", {sampler}" if sampler else "")
            reached = [shown(each.values) if each else "" for each in found.values()]
            lines.setdefault(data, []).append([data, label, *reached, ending(seeds, sampler)])
            for metric in columns:
                for baseline, value in baselines(called[metric], seeds).items():
                    plain.setdefault(data, {}).setdefault(baseline, {}).setdefault(metric, []).append(value)
    body: list[list[str]] = []
    for data, found in lines.items():
        for baseline, value in plain.get(data, {}).items():
            reached = [f"{mean(value[metric]):.5g}" if metric in value else "" for metric in columns]
            body.append([data, baseline, *reached, ""])
        body += found
    head = ("data", "config or plain method", *columns, last)
    return f"## {TABLES[name].title}\n\n{TABLES[name].text}\n\n{table(head, body)}\n"


def uses(kept: Mapping[str, Kept], short: bool = False) -> str:
    """The table of `numbers/uses.yaml`: each use with the number of a config, and those of plain methods on the same images.
    `short`: those alone that are marked so, and measured."""
    lines: list[list[str]] = []
    for use in yaml.safe_load((CELLS / "uses.yaml").read_text()):
        recipe, seeds = kept[use["config"]]
        found = summary(recipe, use["metric"], seeds)
        if short and not (found and use.get("short", False)):
            continue
        plain = baselines(use["metric"], seeds)
        value = "" if found is None else with_spread(found.values, 1)[0]
        others = {name: plain[name] for name in use["beside"] if plain}
        others |= {each["called"]: elsewhere(each, kept) for each in use.get("elsewhere", []) if found}
        beside = [f"{name} {to_decimals(other, value)}" for name, other in others.items()]
        if found and (published := recipe.published_of(use["metric"])):
            beside.append(f"published {published.value}")
        reached = "not measured yet" if found is None else shown(found.values)
        lines.append([use["use"], f"`{recipe.name}`", use["metric"], reached, ", ".join(beside)])
    return table(("use", "config", "metric", "reached", "beside it"), lines)


def elsewhere(asked: Mapping[str, str], kept: Mapping[str, Kept]) -> float:
    """What a plain method reaches on the same images by a metric of another recipe's cells."""
    return baselines(asked["metric"], kept[asked["config"]][1])[asked["plain"]]


def document(kept: Mapping[str, Kept]) -> str:
    """docs/numbers.md, of the cells that are kept."""
    lines: list[list[str]] = []
    machines: dict[str, dict[str, list[int]]] = {}
    for recipe, seeds in kept.values():
        lines += rows(recipe, seeds)
        for seed, cell in seeds.items():
            versions = ", ".join(f"{name} {cell['versions'].get(name)}" for name in ("aecli", "jax", "flax"))
            machines.setdefault(f"{cell['machine']}; {versions}", {}).setdefault(recipe.name, []).append(seed)
    told = "".join(
        f"- {machine}: {', '.join(f'{name} ({len(seeds)})' for name, seeds in found.items())}\n"
        for machine, found in machines.items()
    )
    without = [f"`{recipe.name}` ({', '.join(names)})" for recipe, seeds in kept.values() if (names := lacking(recipe, seeds))]
    over = "\n".join(across(name, kept) for name in TABLES)
    coming = f"## Not measured yet\n\n{'; '.join(without)}.\n\n" if without else ""
    changed = [
        f"`{recipe.name}` ({', '.join(map(str, found))})" for recipe, seeds in kept.values() if (found := changed_code(seeds))
    ]
    if changed:
        told += f"\nMeasured with code of the variant that had changed since the training, by seeds: {', '.join(changed)}.\n"
    return f"{HEAD}{table(COLUMNS, lines)}\n\n{over}\n{coming}## Machines, and how many seeds of what\n\n{told or 'none yet'}"


def changed_code(kept: Mapping[int, dict[str, Any]]) -> list[int]:
    """The seeds that were measured with other code than they were trained with."""
    return [seed for seed, cell in kept.items() if any("code" in number["protocol"] for number in cell["numbers"].values())]


def of_configs(kept: Mapping[str, Kept]) -> list[dict[str, Any]]:
    """What `aecli variants` tells of the configs that come with it: each metric's mean, spread and seeds, as in the tables."""
    told: list[dict[str, Any]] = []
    for recipe, seeds in kept.values():
        found = {metric: summary(recipe, metric, seeds) for metric in recipe.metrics}
        numbers = {metric + given(metric, seeds) + each.note: shown(each.values) for metric, each in found.items() if each}
        if numbers:
            told.append({"config": recipe.config, "set": recipe.overrides, "numbers": numbers})
    return told


def everything(folder: Path = CELLS) -> dict[str, Kept]:
    return {recipe.name: (recipe, cells(recipe, folder)) for recipe in recipes()}


def write(root: Path = ROOT) -> None:
    """The documents, of what is kept now."""
    kept = everything()
    (root / "docs" / "numbers.md").write_text(document(kept))
    (root / "configs" / "numbers.json").write_text(json.dumps(of_configs(kept), indent=1, ensure_ascii=False) + "\n")
    put(root / "docs" / "uses.md", "uses", uses(kept))
    put(root / "README.md", "uses", uses(kept, short=True))
