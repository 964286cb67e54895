"""One run as a comparison sees it: its settings, its numbers of a split, the values of each image, what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import yaml

from aecli.errors import RunError
from aecli.runs import numbers, query, seal
from aecli.runs.directory import Run
from aecli.runs.records import MOST, Number, StateFile
from aecli.system.reading import Unreadable

SEED = "seed"
START = "from"
"""The run whose weights a run started from, which no config says: runs with other beginnings do not differ in the seed alone."""
DECIDES_NOTHING = ("data.path", "data.tier", "train.trackers")
"""Settings that no number depends on where the data's fingerprint is equal."""
_VALUES = {
    "linear_probe_accuracy": "linear_probe",
    "knn_accuracy": "knn",
    "ridge_accuracy": "ridge",
    "bayes_accuracy": "right",
}
"""Metrics whose values of each image are kept by another name."""
_AGREE = 1e-3
"""Of a standard error: values of images whose mean is further from the number are not those that it is the mean of."""


class Member(NamedTuple):
    """`settings` by their path, `numbers` by their name, `costs` by the names of COSTS. `wrong` says why numbers that are there
    are not believed. `of_step` is the step that numbers are of, if that is neither the run's best nor its last any more."""

    run: Run
    name: str
    seed: str
    settings: Mapping[str, Any]
    fingerprint: str
    identity: str | None
    state: str
    step: int
    numbers: Mapping[str, Number]
    costs: Mapping[str, float | None]
    wrong: str | None
    of_step: int | None

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def measured_on(self) -> str:
        """The fingerprint of the data that its numbers are of; of a run without numbers, that which it was trained on."""
        of = (str(number.protocol.get("fingerprint", self.fingerprint)) for number in self.numbers.values())
        return next(of, self.fingerprint)

    def number(self, evaluator: str, name: str) -> Number | None:
        """What an evaluator measured by this name."""
        found = self.numbers.get(name)
        return found if found is not None and found.evaluator == evaluator else None


class Cost(NamedTuple):
    title: str
    unit: str


COSTS: Mapping[str, Cost] = {
    "parameters": Cost("parameters", "1"),
    "seconds": Cost("training seconds", "s"),
    "images": Cost("images seen", "images"),
    "flop": Cost("training FLOP", "FLOP"),
    "peak_bytes": Cost("peak memory, GB", "bytes"),
}
"""What a training costs; of each less is better."""


def read(run: Run, split: str) -> Member:
    """Raises RunError if the run cannot be read, or its config is not the one that it was started with."""
    info = run.info()
    try:
        settings = query.settings(run)
        if info.experiment != seal.of_settings(_nested(settings)):  # which libyaml has read in a tenth of the time
            seal.check_config(run.id, run.resolved_config(), info)
        seed = setting_as_json(settings.get(SEED))
        for value in settings.values():
            setting_as_json(value)
        if info.budget is not None and settings.get("train.steps") == info.budget.steps:  # no resume has made it longer
            settings |= {"train.steps": None, f"train.{info.budget.setting}": info.budget.amount}
        if info.from_run is not None:
            settings[START] = f"{info.from_run.run} at step {info.from_run.step}"
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"config.resolved.yaml of run {run.id} cannot be read: {first}"
        raise RunError(message, "restore it from a backup, or train anew") from None
    stored = numbers.read(run.path / "eval", split, info.identity)
    at = run.recorded()
    batch = settings.get("data.batch_size")
    flop = (at.flop_per_step or 0.0) * at.step
    costs: dict[str, float | None] = {
        "parameters": info.parameters,
        "seconds": at.seconds,
        "images": at.step * batch if isinstance(batch, int) and 0 < batch < MOST else None,
        "flop": None if at.flop_per_step is None or not isfinite(flop) else flop,
        "peak_bytes": at.peak_bytes,
    }
    return Member(
        run, info.name, seed, settings, info.data.fingerprint, info.identity, run.state(), at.step,
        stored.numbers, costs, stored.wrong, _of_step(stored.numbers, at),
    )  # fmt: skip


def _of_step(numbers: Mapping[str, Number], at: StateFile) -> int | None:
    steps = (number.protocol.get("step") for number in numbers.values())
    return next((step for step in steps if isinstance(step, int) and step not in (at.step, at.best_step)), None)


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their path as the blocks that they came from; nothing where their paths are no paths."""
    found: dict[str, Any] = {}
    for path, value in settings.items():
        *blocks, key = path.split(".")
        inside = found
        for block in blocks:
            inside = inside.setdefault(block, {})
            if not isinstance(inside, dict):
                return {}
        inside[key] = value
    return found


def setting_as_json(value: Any) -> str:
    """A setting as a text that is equal where the setting is. Raises ValueError for what holds itself."""
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def values(member: Member, split: str, wanted: Iterable[tuple[str, str]], say: Callable[[str], None]) -> dict[str, Any]:
    """The values of each image [n] of metrics (evaluator, name), by `evaluator/name`, where they are kept and the number is
    their mean; and `evaluator/blocks`, which are of one block, where images are not independent. What is damaged is said."""
    try:
        stored = numbers.read(member.run.path / "eval", split, member.identity, values=True)
    except Unreadable as error:
        stored = numbers.Stored(wrong=str(error))
    if stored.wrong is not None and member.wrong is None:
        say(f"{member.id}: no values of single images: {stored.wrong}")
    from aecli.measures.metric import BLOCKS

    found: dict[str, Any] = {}
    for evaluator, name in wanted:
        number = member.number(evaluator, name)
        if number is not None and (array := _of(number, evaluator, name, stored.values)) is not None:
            found[f"{evaluator}/{name}"] = array
            if (blocks := stored.values.get(f"{evaluator}/{BLOCKS}")) is not None and blocks.shape == array.shape:
                found[f"{evaluator}/{BLOCKS}"] = blocks
    return found


def _of(number: Number, evaluator: str, name: str, kept: Mapping[str, Any]) -> Any:
    import numpy as np

    array, whole = kept.get(f"{evaluator}/{_VALUES.get(name, name)}"), number.value
    is_bits = array is None and name == "bits_per_dim"  # the same in another unit
    if is_bits:
        array = kept.get(f"{evaluator}/nll_nats")
    if array is None or whole is None or array.ndim != 1 or len(array) != number.n or len(array) < 2:
        return None
    with np.errstate(all="ignore"):  # of values beyond floats, whose mean is not that of the number
        exact = np.asarray(array, np.float64)
        if is_bits and exact.mean():
            exact = exact * (whole / exact.mean())
        apart = abs(float(exact.mean()) - whole)
        near = _AGREE * float(exact.std(ddof=1)) / len(exact) ** 0.5 + 1e-6 * abs(whole)
    return exact if isfinite(near) and apart <= near else None
