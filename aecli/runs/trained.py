"""A trained model out of its run directory, for everything that only reads it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from aecli.config.load import parse
from aecli.config.schema import Experiment
from aecli.core.model import Model, Spec
from aecli.data.eval_batches import EVAL_BATCH
from aecli.data.scaling import Scaling
from aecli.errors import ConfigError, RunError, UsageError, printable
from aecli.runs import checkpoint, provenance
from aecli.runs.directory import Run
from aecli.runs.state import state_template
from aecli.system.files import read_arrays, write_arrays
from aecli.system.placement import Placement, placement

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


def _class_names(info: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """The names that a run keeps, if there is one for each class."""
    names = info.get("class_names")
    known = isinstance(names, list) and len(cast("list[Any]", names)) == classes
    return tuple(printable(str(name)) for name in cast("list[Any]", names)) if known else ()


def stored_experiment(run: Run, sets: Sequence[str] = ()) -> Experiment:
    """The experiment that a run was started with, changed by `sets`, its images in the tier that they were in then: a run
    goes on as fast as it was, and older versions named a stream by its origin. Raises RunError if the config cannot be read any
    more, ConfigError for a bad flag."""
    name = str(run.path / "config.resolved.yaml")
    try:
        experiment = parse(run.resolved_config(), name).experiment
    except ConfigError as error:
        raise RunError(f"run {run.id} has a config that this aecli does not read:\n{error.render()}") from None
    if sets:
        experiment = parse(run.resolved_config(), name, sets).experiment
    data = experiment.data.model_copy(update={"tier": run.info()["data"]["tier"]})
    return experiment.model_copy(update={"data": data})


def load(run: Run, which: str, warn: Callable[[str], None]) -> Trained:
    """The `best` or the `last` checkpoint. Warns if the variant's code is not what it was trained with, and refuses nothing: the
    change may be one that no number depends on. Raises UsageError if `which` is neither, RunError if there is no checkpoint yet,
    CheckpointError if none is good."""
    if which not in ("best", "last"):
        raise UsageError(f"--checkpoint {which}: there are best and last")
    experiment = stored_experiment(run)
    changed = provenance.code_warning(run.info())
    if changed is not None:
        warn(changed)
    info = run.info()["data"]
    place = placement(EVAL_BATCH)
    spec = spec_of(run)
    template = state_template(experiment, spec, info["sizes"]["train"], place)
    known = checkpoint.steps(run.checkpoints)
    if not known:
        raise RunError(f"run {run.id} has no checkpoint yet, it is {run.state()}", "train it for longer")
    best = best_step(run, known) if which == "best" else None
    wanted = known[-1] if best is None else best
    restored = checkpoint.restore(run.checkpoints, template, warn, wanted)
    if restored is None:
        raise RunError(f"run {run.id} has no checkpoint any more")
    if restored.step != wanted:
        warn(f"using step {restored.step} instead of {wanted}")
    names = _class_names(info, spec.classes)
    scaling = None if experiment.data.standardize == "none" else read_scaling(run)
    return Trained(experiment, spec, restored.state, restored.step, place, names, scaling)


def spec_of(run: Run) -> Spec:
    """What a run's data looks like."""
    return Spec(**run.info()["data"]["spec"])


def keep_scaling(run: Run, scaling: Scaling | None) -> None:
    """Keeps with a run what its vectors are scaled by, so that what it makes can be given in their units without them."""
    if scaling is not None:
        write_arrays(run.path / SCALING, scaling._asdict())


def read_scaling(run: Run) -> Scaling:
    """Raises RunError if it is not there any more, or damaged."""
    try:
        kept = read_arrays(run.path / SCALING)
        return Scaling(kept["mean"], kept["scale"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"run {run.id} lacks what its vectors were scaled by, {SCALING}: {error}", "train anew") from None


def best_step(run: Run, known: Sequence[int]) -> int | None:
    """The best of the known steps, as the newest checkpoint tells it; None if no evaluation chose one."""
    best = checkpoint.newest_extra(run.checkpoints).get("progressed", {}).get("best_step")
    return best if best in known else None
