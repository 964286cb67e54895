"""Starts a run from a config, goes on with one, and tries a config out: what stands between the command line and the loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NoReturn

from aecli.config.load import Config, dump_steps
from aecli.config.schema import Experiment
from aecli.core.learner import is_part
from aecli.core.model import Model, Spec
from aecli.data import duplicates, validation_classes
from aecli.data.dataset import Dataset, open_dataset
from aecli.distributions.corruptions import of_pairs
from aecli.errors import DataError, RunError, SettingError, UsageError
from aecli.runs import checkpoint, commits, directory, provenance, seal
from aecli.runs.data import open_run_data, path_facts
from aecli.runs.directory import Run
from aecli.runs.inherited import Inherited, inherit, started_from
from aecli.runs.records import Origin
from aecli.runs.state import init, state_template
from aecli.runs.trained import check_seals, load, scaling_file, stored_experiment
from aecli.system import threads
from aecli.system.files import write_atomic
from aecli.system.hosts import Follower, Leader
from aecli.system.placement import Placement, local_devices, placement_of_all
from aecli.system.progress import say, tell, warn
from aecli.system.reading import Unreadable
from aecli.training import writers
from aecli.training.follow import follow
from aecli.training.loop import train
from aecli.training.monitor import check_monitor
from aecli.verbs import alike, budget

MAY_CHANGE = ("train.steps", "train.epochs", "train.trackers")
"""The only settings that a resumed run may change."""


def _nothing(run: Run) -> None:
    pass


def start(
    config: Config,
    sets: Sequence[str],
    name: str,
    root: Path,
    source: Run | None = None,
    cell: Mapping[str, Any] | None = None,
    made: Callable[[Run], None] = _nothing,
    wanted: str | None = None,
    crew: Leader | None = None,
) -> Run:
    """Trains a new run to its end, from the weights of the best checkpoint of a `source` where one is given. `cell`: what
    `run.json` says beside, of the sweep that it is a part of. `made(run)` is called when the run is there and before it is
    trained. `wanted` is the fingerprint that its data is to have. A `crew` of several processes is led by this one. Raises
    ConfigError if the config does not fit the data, DataError if that is other data, RunError if nothing of the source fits the
    model, all before anything is made."""
    crew = crew or Leader()
    with config.locating():
        experiment = config.experiment
        _check_processes(experiment, crew)
        writers.check_installed(experiment.train.trackers)
        crew.agree("program", lambda: alike.program(experiment), alike.check_program)
        count = threads.use(experiment.train.threads)
        dataset = open_dataset(experiment.data, say)
        if wanted not in (None, dataset.fingerprint):
            message = f"the data of {experiment.data.called} is not what it was: its fingerprint is {dataset.fingerprint[:12]}"
            raise DataError(f"{message}, and was {wanted[:12]}", "restore its images and labels, or begin anew")
        crew.agree("machine", lambda: alike.machine(dataset), alike.check_machine)
        place = placement_of_all(experiment.data.batch_size)
        config, length = _of_known_length(config, dataset, place)
        experiment = config.experiment
        template = state_template(experiment, dataset.spec, len(dataset.train), place.here)
        tell_unused_pairs(experiment.model, dataset.spec)
        check_monitor(experiment, dataset.spec, len(dataset.validation), template)
        weights = parameter_count(template)
        facts: dict[str, Any] = {
            **provenance.collect(experiment.model.variant),
            "overrides": list(sets),
            "threads": count,
            **model_and_data(experiment, dataset, weights, _path_facts(config, root)),
        }
        facts["data"]["duplicates"] = dict(duplicates.count(dataset))
        duplicates.tell(dataset, warn)
        validation_classes.tell(dataset, warn)
        facts["experiment"] = seal.of_config(config.resolved())
        facts |= {**length, **(cell or {})}
        given = None if source is None else _weights_of(source, experiment, template, facts)
        run = directory.create(root, name, config.text, config.resolved(), facts, scaling_file(dataset.scaling))
        rows = f"{len(dataset.train):,} {dataset.spec.kind}s of {experiment.data.called}"
        model = f"{experiment.model.variant} with {weights:,} parameters, {rows}"
        device = f"{place.devices} x {local_devices()[0].device_kind}"
        device += f" in {crew.processes} processes" if crew.processes > 1 else ""
        steps, warmup = experiment.steps(len(dataset.train)), experiment.optimizer.warmup
        say(f"{run.id}: {model}, {steps:,} steps on {device}")
        if warmup >= steps:
            warn(
                f"optimizer.warmup takes {warmup:,} steps and the run has {steps:,}: the learning rate never gets to what is set"
            )
        with run.locked():
            made(run)
            first = None
            if given is not None:
                first = started_from(init(experiment, dataset.spec, len(dataset.train), place.here), given)
                given = None  # the source's weights need no room on the device any more
            train(experiment, run, dataset, template, place, warn, first, crew)
        _say_end(run)
        return run


def _check_processes(experiment: Experiment, crew: Leader) -> None:
    """Raises SettingError if several processes would have to agree on how fast they are."""
    if experiment.train.minutes is not None and crew.processes > 1:
        message = f"minutes are measured by one process, and these are {crew.processes}"
        raise SettingError(("train", "minutes"), "unsuitable", message, help="set train.flop, which is counted, or train.steps")


def _of_known_length(config: Config, dataset: Dataset, place: Placement) -> tuple[Config, dict[str, Any]]:
    """The config with its budget, if it has one, as steps, which is told; and what `run.json` says of that. From here on all that
    depends on the length knows it, and a resume asks nobody again."""
    found = budget.in_steps(config.experiment, dataset, place.here)
    if found is None:
        return config, {}
    say(found.told)
    return config.of(config.experiment.of_steps(found.steps)), {"budget": found.as_json()}


def _weights_of(source: Run, experiment: Experiment, template: Any, facts: dict[str, Any]) -> Inherited:
    """What a new state takes over from a run, which is told and added to the `facts` of the new one, with what else the new model
    makes of the same weights. Warns of frozen ones that it does not take over: they would stay at random."""
    trained = load(source, "best", warn, computing=False)
    given = inherit(template, trained, source.id)
    say(given.told(source.id, trained.step))
    counted = experiment.model.schedules
    if counted and any(path.rpartition("/")[2] == "step" for path in given.arrays):
        warn(f"{', '.join(counted)}: steps are counted on from the {trained.step:,} of {source.id}; add these to what is set")
    there, here = trained.model.model_dump(mode="json"), experiment.model.model_dump(mode="json")
    others = [f"{name} {here[name]} (there {there[name]})" for name in here if name in there and here[name] != there[name]]
    if others:
        say(f"the model differs from that of {source.id}: {', '.join(others)}")
    frozen = experiment.optimizer.freeze
    random = [line for line in given.left if is_part(line.partition(" ")[0].rpartition("params/")[2], frozen)]
    if random:
        warn(f"frozen, and not in {source.id}: these weights stay as they start, at random: {', '.join(random)}")
    try:
        sealed = commits.read(source.checkpoints, trained.step).seal
    except Unreadable as error:  # a run that is being trained removes checkpoints
        message = f"checkpoint {trained.step} of run {source.id} has gone while it was read: {error}"
        raise RunError(message, "try again, or wait until the run has ended") from None
    origin = Origin(
        run=source.id,
        step=trained.step,
        seal=sealed,
        fitted=given.fitted,
        left=list(given.left),
    )
    facts["from_run"] = origin.as_json()
    return given


def resume(run: Run, sets: Sequence[str], data_path: str | None = None, crew: Leader | None = None) -> None:
    """Goes on with a run from its newest good checkpoint to its end, which `sets` may have moved; its data lies at `data_path` if
    that is given. What it cannot read of its state is made anew from the checkpoints, with a line. Raises UsageError for other
    settings, RunError for a run that is held, edited or has diverged, CheckpointError if its checkpoints are damaged or lost,
    DataError if the data is not the same any more."""
    crew = crew or Leader()
    _check_sets(sets)
    with run.locked():
        experiment = stored_experiment(run, sets)
        writers.check_installed(experiment.train.trackers)
        crew.agree("program", lambda: alike.program(experiment), alike.check_program)
        threads.use(experiment.train.threads)
        run.mend(tell)
        recorded, known = run.recorded(), commits.steps(run.checkpoints)
        if lost := commits.check_not_lost(run.checkpoints, run.id, recorded.step):
            warn(lost)
        check_seals(run, warn)
        if recorded.state == "diverged":
            raise RunError(f"run {run.id} diverged and would do so again: {recorded.reason}", "train anew with other settings")
        # What state.json says is believed as far as there is a checkpoint of it.
        complete = recorded.state == "completed" and known[-1:] == [recorded.step]
        if complete and (not sets or recorded.step >= experiment.steps(run.info().data.sizes.train)):
            say(f"{run.id} is complete at step {recorded.step}; --set train.steps=N makes it longer")
            return
        if sets and (wanted := experiment.steps(run.info().data.sizes.train)) < recorded.step:
            message = f"run {run.id} has done {recorded.step:,} steps, and would have {wanted:,}"
            raise RunError(message, "a run can be made longer alone: train anew for a shorter one")
        dataset = open_run_data(run, experiment.data, say, data_path)
        changed = provenance.code_warning(run.info())
        if changed is not None:
            warn(changed)
        if sets:
            lengthened = dump_steps(run.resolved_config(), experiment)
            write_atomic(run.path / "config.resolved.yaml", lengthened.encode())
        if not known and (origin := run.info().from_run) is not None:
            message = f"run {run.id} ended before the weights of {origin.run}, which it starts from, were saved"
            raise RunError(message, "train anew")
        if not known:
            say(f"{run.id} has no checkpoint yet: starting at step 0")
        crew.agree("machine", lambda: alike.machine(dataset), alike.check_machine)
        place = placement_of_all(experiment.data.batch_size)
        template = state_template(experiment, dataset.spec, len(dataset.train), place.here)
        train(experiment, run, dataset, template, place, warn, crew=crew)
    _say_end(run)


def follow_new(config: Config, crew: Follower) -> NoReturn:
    """Trains along in a run that another process has started from the same config, until that ends. Writes nothing and tells
    nothing. Raises as `Follower.hear` does, and as `start` where the fault is here."""
    with config.locating():
        experiment = config.experiment
        crew.agree("program", lambda: alike.program(experiment))
        threads.use(experiment.train.threads)
        _follow(experiment, open_dataset(experiment.data), crew)


def follow_resumed(run: Run, sets: Sequence[str], data_path: str | None, crew: Follower) -> NoReturn:
    """The same with a run that another process goes on with, whose folder can be read here too."""
    _check_sets(sets)
    experiment = stored_experiment(run, sets)
    crew.agree("program", lambda: alike.program(experiment))
    threads.use(experiment.train.threads)
    _follow(experiment, open_run_data(run, experiment.data, _silent, data_path), crew)


def _follow(experiment: Experiment, dataset: Dataset, crew: Follower) -> NoReturn:
    crew.agree("machine", lambda: alike.machine(dataset))
    place = placement_of_all(experiment.data.batch_size)
    found = budget.in_steps(experiment, dataset, place.here)  # of operations, which every process counts alike
    experiment = experiment if found is None else experiment.of_steps(found.steps)
    follow(experiment, dataset, state_template(experiment, dataset.spec, len(dataset.train), place.here), place, crew)


def _silent(line: str) -> None:
    pass


def _check_sets(sets: Sequence[str]) -> None:
    for flag in sets:
        if flag.split("=")[0].strip() not in MAY_CHANGE:
            where = "--data-path says where the data is by now" if flag.startswith("data.path") else None
            free = f"{', '.join(MAY_CHANGE[:-1])} and {MAY_CHANGE[-1]}"
            raise UsageError(f"--set {flag}: a resumed run keeps its settings; only {free} may change", where)


def tell_unused_pairs(model: Model, spec: Spec) -> None:
    """Warns if the data is pairs and the model is shown the images alone."""
    if spec.paired and not of_pairs((*model.corruptions, *model.given_corruptions)):
        warn("of these pairs the model is shown the images alone: {name: paired} as its given or corruption shows it both")


def parameter_count(template: Any) -> int:
    """The number of weights in a state: the leaves below a `params`, of however many networks."""
    return sum(prod(leaf.shape) for path, leaf in checkpoint.leaves(template).items() if "params" in path.split("/"))


def _path_facts(config: Config, root: Path) -> dict[str, str] | None:
    path = config.experiment.data.path
    return None if path is None else path_facts(root, config.given("path") or path, path)


def model_and_data(experiment: Experiment, dataset: Dataset, weights: int, path: dict[str, str] | None = None) -> dict[str, Any]:
    """What `run.json` says about the model, which has so many `weights`, and its data; `path` is where own files are, if they may
    have to be found again."""
    return {
        "variant": experiment.model.variant,
        "parameters": weights,
        "data": {
            "name": experiment.data.name,
            "spec": dataset.spec._asdict(),
            "sizes": {split: len(dataset.split(split)) for split in ("train", "validation", "test")},
            "tier": dataset.tier,
            "fingerprint": dataset.fingerprint,
            "class_names": list(dataset.class_names),
            "rules": dataset.rules,
            **({} if path is None else {"path": path}),
        },
    }


def _say_end(run: Run) -> None:
    state = run.recorded()
    best = (
        f", best {state.best_value:.5g} at step {state.best_step:,}" if state.best_step and state.best_value is not None else ""
    )
    say(f"{run.id}: {state.reason} at step {state.step:,}{best}")
