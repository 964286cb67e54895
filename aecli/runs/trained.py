"""A trained model out of its run directory, for everything that only reads it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aecli.config.load import parse
from aecli.config.schema import Experiment
from aecli.core.model import Model, Spec
from aecli.data.classes import numbers_of
from aecli.data.eval_batches import EVAL_BATCH
from aecli.data.scaling import Scaling
from aecli.errors import CheckpointError, ConfigError, RunError, UsageError, printable
from aecli.runs import checkpoint, commits, provenance, seal
from aecli.runs.directory import Run
from aecli.runs.records import DataFacts
from aecli.runs.state import state_template
from aecli.system import threads
from aecli.system.arrays import pack_arrays, read_arrays
from aecli.system.placement import Placement, placement
from aecli.system.reading import GONE, Unreadable

_STEP = re.compile(r"\A[0-9]{1,15}\Z")
SCALING = "scaling.npz"
"""The file of a run that holds mean and scale of standardized vectors."""


class Trained(NamedTuple):
    """`class_names` in the order of the labels, empty if the run keeps none. `scaling` is what brought vectors to the scale that
    the model sees them at, None if nothing did."""

    experiment: Experiment
    spec: Spec
    state: Any
    step: int
    place: Placement
    class_names: tuple[str, ...] = ()
    scaling: Scaling | None = None

    @property
    def model(self) -> Model:
        return self.experiment.model

    @property
    def classes(self) -> tuple[int, ...]:
        """The numbers of the classes that it was trained on: all that there are, or those that `data.classes` keeps."""
        kept = self.experiment.data.classes
        return tuple(range(self.spec.classes)) if kept is None else numbers_of(kept, self.spec.classes, self.class_names)


def _class_names(data: DataFacts, classes: int) -> tuple[str, ...]:
    """The names that a run keeps, if there is one for each class."""
    return tuple(map(printable, data.class_names)) if len(data.class_names) == classes else ()


def stored_experiment(run: Run, sets: Sequence[str] = ()) -> Experiment:
    """The experiment that a run was started with, changed by `sets`, its images in the tier that they were in then: a run
    goes on as fast as it was, and older versions named a stream by its origin. Raises RunError if the config cannot be read any
    more, or is not what the run was started with, ConfigError for a bad flag."""
    name, text, info = str(run.path / "config.resolved.yaml"), run.resolved_config(), run.info()
    seal.check_config(run.id, text, info)
    try:
        experiment = parse(text, name).experiment
    except ConfigError as error:
        raise RunError(f"run {run.id} has a config that this aecli does not read:\n{error.render()}") from None
    if info.variant != experiment.model.variant:
        raise RunError(
            f"run.json of run {run.id} says variant '{info.variant}', its config '{experiment.model.variant}'",
            "restore run.json from a backup, or train anew",
        )
    if sets:
        experiment = parse(text, name, sets).experiment
    data = experiment.data.model_copy(update={"tier": info.data.tier})
    return experiment.model_copy(update={"data": data})


def load(run: Run, which: str, warn: Callable[[str], None], computing: bool = True) -> Trained:
    """The `best` or the `last` checkpoint, or that of a step; if it is for `computing`, on as many threads as the run was trained
    on. Warns if the variant's code is not what it was trained with, and refuses nothing: the change may be one that no number
    depends on. Raises UsageError if `which` is none of these, RunError if there is no checkpoint yet, or none of that step,
    CheckpointError if none is good, the one asked for is not, or all are gone."""
    asked = _asked_step(which)
    experiment = stored_experiment(run)
    if computing:
        threads.use(experiment.train.threads)
    changed = provenance.code_warning(run.info())
    if changed is not None:
        warn(changed)
    info = run.info().data
    place = placement(EVAL_BATCH)
    spec = spec_of(run)
    template = state_template(experiment, spec, info.sizes.train, place)
    recorded = run.recorded().step  # before the commit files: a run that is being trained writes theirs first
    if lost := commits.check_not_lost(run.checkpoints, run.id, recorded):
        warn(lost)
    known = commits.steps(run.checkpoints)
    if not known:
        raise RunError(f"run {run.id} has no checkpoint yet, it is {run.state()}", "train it for longer")
    if asked is not None and asked not in known:
        there = ", ".join(f"{step}" for step in known)
        raise RunError(f"run {run.id} has no checkpoint of step {asked}", f"there are those of steps {there}")
    best = best_step(run, known) if which == "best" else None
    if best is not None and best not in known:
        warn(f"checkpoint {best} of run {run.id}, its best, is lost")
    wanted = asked if asked is not None else known[-1] if best is None else best
    check_seals(run, warn)
    restored = checkpoint.restore(run.checkpoints, template, warn, wanted)
    if restored is None:
        raise RunError(f"run {run.id} has no checkpoint any more")
    if restored.step != wanted:
        if asked is not None:
            raise CheckpointError(f"checkpoint {asked} of run {run.id} is damaged", "take another, or best or last")
        warn(f"using step {restored.step} instead of {wanted}")
    names = _class_names(info, spec.classes)
    scaling = None if experiment.data.standardize == "none" else read_scaling(run)
    return Trained(experiment, spec, restored.state, restored.step, place, names, scaling)


def _asked_step(which: str) -> int | None:
    """The step that `--checkpoint` names; None for `best` and `last`."""
    if which in ("best", "last"):
        return None
    if not _STEP.match(which):
        raise UsageError(f"--checkpoint {which}: there are best and last, and the number of a step")
    return int(which)


def check_seals(run: Run, warn: Callable[[str], None]) -> None:
    """Compares the config and the data of a run with what its checkpoints say. Warns of a run of an older version, which is not
    sealed. Raises RunError if a checkpoint is of another config or other data."""
    text, info = run.resolved_config(), run.info()
    unsealed = False
    for step in commits.steps(run.checkpoints):
        with contextlib.suppress(Unreadable):  # damaged, which whoever restores it tells
            unsealed |= not seal.check_commit(run.id, text, info, commits.read(run.checkpoints, step))
    if unsealed:
        warn(f"run {run.id} has checkpoints of an older version, which do not say what config and what data they are of")


def spec_of(run: Run) -> Spec:
    """What a run's data looks like."""
    return Spec(**run.info().data.spec.model_dump(include=set(Spec._fields)))


def scaling_file(scaling: Scaling | None) -> dict[str, bytes]:
    """What a run keeps of how its vectors are scaled, by the file's name, so that what it makes can be given in their units
    without them."""
    return {} if scaling is None else {SCALING: pack_arrays(scaling._asdict())}


def read_scaling(run: Run) -> Scaling:
    """Mean and scale [H, W, C] in the units of the data. Raises RunError if they are not there any more, or damaged; OSError as
    the system does."""
    try:
        arrays = read_arrays(run.path / SCALING)
        return Scaling(arrays["mean"], arrays["scale"])
    except (*GONE, Unreadable, KeyError) as error:
        raise RunError(f"run {run.id} lacks what its vectors were scaled by, {SCALING}: {error}", "train anew") from None


def best_step(run: Run, known: Sequence[int]) -> int | None:
    """The best step, as the newest readable one of the known tells it; None if no evaluation chose one."""
    newest = commits.newest(run.checkpoints, known)
    try:
        return None if newest is None else commits.progressed(newest).best_step
    except Unreadable:
        return None
