"""Draws the pictures of the documents from a seed of each recipe that `make numbers` has trained.

  python pictures.py [--only NAME,...]    # those of `numbers/pictures.yaml`, into docs/pictures/

A picture is what `aecli sample` writes of a run; a `sheet` has draws of several runs on the same data, a line each. A run is
looked for in `$AECLI_RUNS_DIR` or runs/; pictures of runs that are not there stay as they are, which is told.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from cells import CELLS, Recipe, cells, recipes
from number_tables import ROOT
from recipes import AECLI
from results import answer

import aecli
from aecli.sampling.pictures import grid, save

SHEET = 10
"""Draws of each line of a sheet."""


def run_of(recipe: Recipe, root: Path) -> Path | None:
    """The run of the first seed that is kept and whose run is there."""
    return next((root / cell["run"] for cell in cells(recipe).values() if (root / cell["run"]).is_dir()), None)


def sampled(run: Path, options: str) -> Path:
    """The picture that `aecli sample` writes of a run."""
    said = answer([*AECLI, "sample", run.name, *shlex.split(options), "--runs-dir", str(run.parent)], {})
    (picture,) = [Path(line) for line in said.split("\n") if line.endswith(".png")]
    return picture


def sheet(lines: Sequence[Mapping[str, Any]], runs: Mapping[str, Path]) -> Any:
    """Test images, and below them draws of each run, by its own distribution or by a sampler of codes."""
    rows: list[Any] = [aecli.load(next(iter(runs.values()))).data("test").images[:SHEET]]
    for line in lines:
        run = runs[line["recipe"]]
        made = sampled(run, f"-n {SHEET} {line.get('options', '')}").with_suffix(".npz")
        rows.append(_draws(made))
    return grid(rows, ["test images", *(line["label"] for line in lines)])


def _draws(path: Path) -> Any:
    import numpy as np

    with np.load(path) as arrays:
        return arrays["image"][:SHEET]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="names of pictures, separated by commas")
    arguments = parser.parse_args()
    asked = arguments.only.split(",") if arguments.only else None
    root = Path(os.environ.get("AECLI_RUNS_DIR", ROOT / "runs"))
    known = {recipe.name: run_of(recipe, root) for recipe in recipes()}
    facts = yaml.safe_load((CELLS / "pictures.yaml").read_text())
    if unknown := set(asked or ()) - {each["picture"] for each in facts}:
        parser.error(f"no picture is called {', '.join(sorted(unknown))}")
    for each in facts:
        if asked is not None and each["picture"] not in asked:
            continue
        lines = each.get("sheet", [each])
        runs = {line["recipe"]: run for line in lines if (run := known[line["recipe"]]) is not None}
        if gone := [line["recipe"] for line in lines if line["recipe"] not in runs]:
            print(f"{each['picture']}: left as it is, not trained here: {', '.join(dict.fromkeys(gone))}", file=sys.stderr)
            continue
        path = ROOT / "docs" / "pictures" / f"{each['picture']}.png"
        if "sheet" in each:
            save(path, sheet(lines, runs))
        else:
            shutil.copy(sampled(runs[each["recipe"]], each.get("options", "")), path)
        print(json.dumps({"picture": str(path.relative_to(ROOT)), "runs": [run.name for run in runs.values()]}), flush=True)


if __name__ == "__main__":
    main()
