"""Runs with numbers that were never trained: folders as `aecli train` and `aecli eval` leave them, of given values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from made_runs import DATA

from aecli.measures.metric import BLOCKS, VERSION, Metric, Recorded, average
from aecli.runs import directory, numbers, seal
from aecli.runs.directory import Run

TEXT = """\
seed: {seed}
data: {{name: digits, path: null, batch_size: 32, tier: auto}}
model: {{variant: vae, latent: {latent}, beta: {beta}}}
train: {{steps: 40}}
"""


def measured(
    root: Path,
    values: Mapping[str, Any],
    *,
    seed: int = 0,
    beta: float = 1.0,
    latent: int = 4,
    name: str = "test",
    split: str = "test",
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] = DATA,
    more: Mapping[str, Recorded] | None = None,
    text: str = TEXT,
    state: Mapping[str, Any] | None = None,
    **info: Any,
) -> Run:
    """`values`: per-image values by `evaluator/metric`, of which lower means are better, and perhaps `evaluator/blocks`, which of
    the images belong together; `more`: numbers without them."""
    resolved = text.format(seed=seed, beta=beta, latent=latent)
    facts = {"variant": "vae", "parameters": 7, "data": data, "experiment": seal.of_config(resolved), **info}
    run = directory.create(root, name, resolved, resolved, facts)
    run.set_state("completed", **{"step": 40, **(state or {})})
    said = {"version": VERSION, "split": split, "step": 40, "binarize": "none", "seed": seed, "batch": 256}
    said |= {"fingerprint": data["fingerprint"], **(protocol or {})}
    found = {
        key.partition("/")[2]: Recorded(average(key, array, "lower", protocol=said), key.partition("/")[0]).as_json()
        for key, array in values.items()
        if not key.endswith(f"/{BLOCKS}")
    }
    for key, number in (more or {}).items():
        found[key] = Recorded(number.metric._replace(protocol={**said, **number.protocol}), number.evaluator).as_json()
    if found:
        numbers.write(run.path / "eval", split, run.info().identity, found, values)
    return run


def number(value: float | None, evaluator: str, better: Any = "lower", n: int = 50, **more: Any) -> Recorded:
    """One that is of a set, with no values of single images."""
    return Recorded(Metric(value, None, n, "1", better, **more), evaluator)
