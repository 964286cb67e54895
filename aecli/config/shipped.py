"""The configs that come with aecli: `configs/` of a checkout, which a wheel carries within the package."""

from __future__ import annotations

from pathlib import Path

import aecli
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
    known = names()
    near = did_you_mean(path.stem, known)
    return near or "name a YAML file, or a config that comes with aecli, such as quickstart"
