"""Small experiments for tests: images made on the spot, and a run trained in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aecli.config.load import parse
from aecli.config.schema import Experiment, dump
from aecli.core.model import Spec
from aecli.data.dataset import Dataset
from aecli.data.eval_batches import EVAL_BATCH
from aecli.data.rows import ArrayRows
from aecli.evaluation.request import EvalRequest
from aecli.evaluation.subject import Subject
from aecli.runs import directory, seal
from aecli.runs.directory import Run
from aecli.runs.state import init, state_template
from aecli.system.placement import placement
from aecli.training.loop import Training, train


def blobs(n: int, size: tuple[int, int, int] = (8, 8, 1), seed: int = 0) -> ArrayRows:
    """Bright squares at random places on a dim ground: easy to learn, and no two alike."""
    rng = np.random.default_rng(seed)
    height, width, channels = size
    images = rng.integers(0, 40, (n, height, width, channels), np.uint8)
    side = max(1, height // 2)
    for image in images:
        y, x = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        image[y : y + side, x : x + side] = rng.integers(180, 256, channels)
    return ArrayRows(images, rng.integers(0, 3, n).astype(np.int32))


def dataset(train: int = 48, held_out: int = 16, size: tuple[int, int, int] = (8, 8, 1), tier: str = "device") -> Dataset:
    spec = Spec(*size, 3)
    name = f"made on the spot {train} {held_out} {size}"
    return Dataset(spec, blobs(train, size), blobs(held_out, size, 1), blobs(held_out, size, 2), tier, name)


def subject(model: Any, state: Any, data: Dataset, **more: Any) -> Subject:
    """What evaluators are given of a model that was trained on such data; `more` are fields of it or of its request."""
    asked = {name: more.pop(name) for name in EvalRequest._fields if name in more and name != "inception"}
    given = {"binarize": "none", "seed": 0, "place": placement(EVAL_BATCH), **more}
    return Subject(model=model, state=state, dataset=data, request=EvalRequest(**asked), **given)


def experiment(
    model: str, train: str = "steps: 6", data: str = "batch_size: 16", optimizer: str = "learning_rate: 1e-2"
) -> Experiment:
    """`model` and the others are the insides of flow mappings, such as `variant: vae, latent: 3`."""
    text = f"data: {{name: digits, {data}}}\nmodel: {{{model}}}\noptimizer: {{{optimizer}}}\ntrain: {{{train}}}\n"
    return parse(text, "test.yaml").experiment


def started(model: str, data: Dataset) -> tuple[Experiment, Any]:
    """An experiment and its first state."""
    e = experiment(model)
    return e, init(e, data.spec, len(data.train), placement(e.data.batch_size))


def new_run(folder: Path, e: Experiment, data: Dataset) -> Run:
    sizes = {split: len(data.split(split)) for split in ("train", "validation", "test")}
    facts = {"name": "made", "spec": data.spec._asdict(), "sizes": sizes, "tier": data.tier, "fingerprint": data.fingerprint}
    info = {"variant": e.model.variant, "parameters": 0, "data": facts, "experiment": seal.of_config(dump(e))}
    return directory.create(folder, "test", dump(e), dump(e), info)


def fit(folder: Path, e: Experiment, data: Dataset) -> tuple[Run, Training]:
    run = new_run(folder, e, data)
    return run, go_on(run, e, data)


def go_on(run: Run, e: Experiment, data: Dataset, warn: Any = lambda line: None) -> Training:
    with run.locked():
        place = placement(e.data.batch_size)
        return train(e, run, data, state_template(e, data.spec, len(data.train), place), place, warn)
