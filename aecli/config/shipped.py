"""The configs that come with aecli: `configs/` of a checkout, which a wheel carries within the package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import aecli
from aecli.config.values import as_other_programs_have_it
from aecli.errors import did_you_mean

_PACKAGE = Path(aecli.__file__).resolve().parent
FOLDER = "configs"


def folder() -> Path | None:
    """Where they are; None of a package that was installed without them."""
    for place in (_PACKAGE / FOLDER, _PACKAGE.parent / FOLDER):
        if (place / "quickstart.yaml").is_file():
            return place
    return None


def names() -> tuple[str, ...]:
    """What they are called: their files without the ending, sorted."""
    place = folder()
    return () if place is None else tuple(sorted(path.stem for path in place.glob("*.yaml")))


class Reached(NamedTuple):
    """What a config reached on its test split, with settings `set` in place of its own, as `--set` takes them. `numbers`: of each
    metric the mean over seeds, their standard deviation and how many they are, as docs/numbers.md has them."""

    config: str
    set: Sequence[str]
    numbers: Mapping[str, str]


def reached(variant: str) -> Iterator[Reached]:
    """The configs of a variant, each with what it reached; with no numbers where nobody trained it. What is no config is left
    out: a draft may lie there."""
    place = folder()
    if place is None:
        return
    try:
        told = [Reached(**row) for row in json.loads((place / "numbers.json").read_text(encoding="utf-8"))]
    except FileNotFoundError:
        told = []
    for name in names():
        if _variant_of(place / f"{name}.yaml") == variant:
            of_it = [each for each in told if each.config == name]
            yield from of_it or [Reached(name, (), {})]


def _variant_of(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))["model"]["variant"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return None


def file_of(path: Path) -> Path | None:
    """The file that is meant where there is none at `path`: `quickstart`, `quickstart.yaml` and `configs/quickstart.yaml` name
    the same one; None if none is called so."""
    place = folder()
    if place is None or path.parent not in (Path(), Path(FOLDER)) or path.suffix not in ("", ".yaml"):
        return None
    found = place / f"{path.stem}.yaml"
    return found if found.is_file() else None


def help_of(path: Path) -> str:
    """What is told whoever named a file that there is not."""
    if (setting := as_other_programs_have_it(str(path))) is not None:
        return f"settings are changed by --set, behind the config: --set {setting[0]}={setting[1]}"
    known = names()
    near = did_you_mean(path.stem, known)
    return near or "name a YAML file, or a config that comes with aecli, such as quickstart"
