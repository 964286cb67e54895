"""Run folders made without training, in milliseconds: for tests of what is told of runs and done with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aecli.measures.metric import Metric, Recorded
from aecli.runs import directory, numbers
from aecli.runs.directory import Run

DATA = {
    "name": "digits",
    "spec": {"height": 8, "width": 8, "channels": 1, "classes": 10},
    "sizes": {"train": 8, "validation": 0, "test": 4},
    "tier": "device",
    "fingerprint": "f" * 64,
}
CONFIG = """\
seed: {seed}
data: {{name: digits, batch_size: 4, path: null}}
model: {{variant: {variant}, beta: {beta}, hidden: [16]}}
train: {{steps: 40, epochs: null}}
"""


def made(root: Path, name: str = "test", variant: str = "vae", beta: Any = 1.0, seed: int = 0, **more: Any) -> Run:
    """A run that has not begun; `more` are facts of its `run.json`."""
    config = CONFIG.format(seed=seed, variant=variant, beta=beta)
    return directory.create(root, name, config, config, {"variant": variant, "parameters": 10, "data": DATA, **more})


def measured(run: Run, values: dict[str, float | None], split: str = "test") -> None:
    """Numbers by name, as `eval` writes them."""
    found = {name: Recorded(Metric(value, 0.1, 4, "1", protocol={"split": split}), "objective") for name, value in values.items()}
    numbers.write(run.path / "eval", split, run.info().identity, {name: each.as_json() for name, each in found.items()}, {})


def row(step: int, split: str = "train", **values: Any) -> dict[str, Any]:
    return {"split": split, "step": step, "epoch": 0.5, "loss": 1.5, **values}


def edit(run: Run, file: str, **facts: Any) -> None:
    """Changes keys of a JSON file of a run."""
    path = run.path / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
