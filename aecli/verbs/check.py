"""What `aecli check` does: holds a config against its data, and tries it out in a temporary place."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from aecli.config.load import Config
from aecli.config.schema import FOLDERS, OWN_FILES, Data, dump
from aecli.core.model import Spec
from aecli.data import duplicates, validation_classes
from aecli.data.dataset import open_dataset, subset, validation_size
from aecli.data.decoded import is_kept, outline
from aecli.data.sources.registry import Peeked, peek
from aecli.evaluation.registry import EVALUATORS, fits
from aecli.evaluation.request import EvalRequest
from aecli.runs import directory
from aecli.runs.state import state_template
from aecli.runs.trained import load, scaling_file
from aecli.sampling.modes import MODES, modes_of
from aecli.sampling.request import SampleRequest
from aecli.system import threads
from aecli.system.placement import placement
from aecli.system.progress import say, warn
from aecli.training import writers
from aecli.training.loop import train
from aecli.training.monitor import check_monitor
from aecli.verbs import budget
from aecli.verbs.evaluate import evaluate_run
from aecli.verbs.sample import sample_run
from aecli.verbs.train import model_and_data, parameter_count, tell_unused_pairs

MANY = 10**9
"""Parameters that nobody means to train on images that were not made smaller: sixteen bytes of memory for each with Adam."""


def smoke(config: Config) -> str:
    """Trains two steps on a few images, evaluates and samples, in a temporary place; returns what was done. Raises ConfigError if
    the config does not fit the data."""
    with config.locating():
        begun = time.monotonic()
        full = config.experiment
        threads.use(full.train.threads)
        whole = open_dataset(full.data, say)
        duplicates.tell(whole, warn)
        validation_classes.tell(whole, warn)
        dataset = subset(whole, 2 * full.data.batch_size, 64)
        writers.check_installed(full.train.trackers)
        two = full.of_steps(2)
        short = two.train.model_copy(update={"eval_every": 1, "checkpoint_every": None, "trackers": ()})
        experiment = two.model_copy(update={"train": short})
        with tempfile.TemporaryDirectory(prefix="aecli-smoke-") as folder:
            place = placement(experiment.data.batch_size)
            template = state_template(experiment, dataset.spec, len(dataset.train), place)
            tell_unused_pairs(experiment.model, dataset.spec)
            facts = model_and_data(experiment, dataset, parameter_count(template))
            beside = scaling_file(dataset.scaling)
            run = directory.create(Path(folder), "smoke", config.text, dump(experiment), facts, beside)
            with run.locked():
                train(experiment, run, dataset, template, place, warn)
            trained = load(run, "last", warn)
            measured = [name for name in fits(trained.model, trained.spec.kind) if EVALUATORS[name].quick or name == "likelihood"]
            for error in evaluate_run(run, trained, dataset, EvalRequest(only=measured, samples=10)).failed.values():
                raise error
            modes = [mode for mode in modes_of(trained.model, trained.spec.kind) if MODES[mode].smoke]
            for mode in modes:
                sample_run(run, trained, lambda: dataset, SampleRequest(mode, n=4))
        return f"{full.data.name}, 2 steps, eval, {', '.join(modes)} in {time.monotonic() - begun:.1f} s"


def hold_against_data(config: Config, decode: bool = False) -> str:
    """What can be told without preparing data or compiling; with `decode`, every image is read first. Raises ConfigError if the
    model cannot serve the data or does not report the monitor, or a batch is larger than what is left to train on, DataError if
    the data cannot be read."""
    with config.locating():
        experiment = config.experiment
        writers.check_installed(experiment.train.trackers)
        name = experiment.data.name
        held_out = 1  # where sizes are not known, there may be a validation split
        if decode:
            spec, held_out = _decoded(experiment.data)
        else:
            spec, sizes, absent = peeked(experiment.data)
            if "train" in sizes:
                held_out = sizes.get("validation") or validation_size(experiment.data, sizes)
            if absent is not None:
                name = f"{name}, whose images are not here"
                say(f"{name}: {absent}")
        if spec is None:
            return f"{name}, not yet prepared: the model was not held against the images"
        any_size = 10**6  # the length of a run does not change its weights
        template = state_template(experiment.without_budget(), spec, any_size, placement(1))
        tell_unused_pairs(experiment.model, spec)
        check_monitor(experiment, spec, held_out, template)
        count = parameter_count(template)
        if count >= MANY and spec.kind == "image" and experiment.data.size is None:
            warn(f"{count:,} parameters of images of {spec.height}x{spec.width}: data.size: [64, 64] makes them smaller")
        told = f"{name}, {count:,} parameters"
        if experiment.data.name in FOLDERS and experiment.data.size is None and not decode:
            told += ", if all images are as large as the first: --data looks at all"
        return told if experiment.train.flop is None else f"{told}, {budget.of_flop(experiment, spec, placement(1)).told}"


def peeked(data: Data) -> Peeked:
    """What is known of the data without preparing anything: of own files that are decoded already, without opening them."""
    known = outline(data) if data.name in OWN_FILES and data.tier != "stream" else None
    if known is None:
        found = peek(data, say)
        return found._replace(absent=None) if found.absent and is_kept(data) else found
    say(f"{data.path}: {known.told}")
    return Peeked(known.spec, known.sizes)


def _decoded(data: Data) -> tuple[Spec, int]:
    """What the images look like and how many are held out for validation, when all have been read: for their fingerprint, in
    every tier."""
    dataset = open_dataset(data, say)
    duplicates.tell(dataset, warn)
    validation_classes.tell(dataset, warn)
    return dataset.spec, len(dataset.validation)
