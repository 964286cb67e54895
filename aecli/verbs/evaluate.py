"""Measures a trained run and keeps the numbers with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from aecli.data.dataset import Dataset
from aecli.data.eval_batches import eval_batch
from aecli.distributions.corruptions import label
from aecli.errors import UsageError, translate
from aecli.evaluation import registry
from aecli.evaluation.journal import Journal
from aecli.evaluation.judges.inception import Inception
from aecli.evaluation.judges.inception import load as load_inception
from aecli.evaluation.request import EvalRequest
from aecli.evaluation.subject import Subject
from aecli.measures.metric import VERSION, Recorded, version_of
from aecli.runs import numbers, provenance
from aecli.runs.data import open_run_data
from aecli.runs.directory import Run
from aecli.runs.numbers import Stored
from aecli.runs.trained import Trained, load
from aecli.sampling.samplers import Fitted, fitted_of
from aecli.sampling.through import through
from aecli.system.files import exclusive
from aecli.system.progress import say, tell, warn
from aecli.system.signals import Terminated
from aecli.verbs.eval_times import Times, Work, last_time, of_left_out, plan, remember
from aecli.verbs.other_data import Anomalies, Other, open_anomalies, open_other
from aecli.verbs.telling import NOBODY, Watch


class Drawn(NamedTuple):
    """What numbers of draws through a sampler say of it."""

    fitted: Fitted

    @classmethod
    def by(cls, run: Run, trained: Trained, own: Dataset, request: EvalRequest) -> Drawn:
        """Fitted to codes of the run's train split, or as it was fitted before. Raises UsageError if the model lacks what the
        sampler needs."""
        registry.check_names(request, registry.OF_DRAWS, "evaluator", " of draws")
        check_split(run, own, request.split)
        return cls(fitted_of(run, trained, request.sampler or "", request.components, lambda: own.train, say))

    def stem(self, split: str) -> str:
        """What the numbers are kept as, beside those of the run's own draws."""
        return f"{split}-by-{self.fitted.called}"

    def protocol(self) -> dict[str, Any]:
        return {"sampler": self.fitted.called, "sampler_version": self.fitted.version}


class Measured(NamedTuple):
    """`failed`: the evaluators that raised an error, and which. `name`: what the numbers are kept as in `eval/`. `seconds`: of
    each evaluator, and of a model's draws apart from what is measured of them."""

    metrics: dict[str, Recorded]
    notes: tuple[str, ...]
    name: str
    failed: Mapping[str, Exception] = {}
    seconds: Mapping[str, float] = {}

    def failures(self) -> list[tuple[int, str]]:
        """Of each evaluator that failed the exit code, and a line that says so."""
        told: list[tuple[int, str]] = []
        for evaluator, error in self.failed.items():
            known = translate(error)
            why = known.message if known else f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            told.append((known.code if known else 1, f"evaluator '{evaluator}' failed: {why}"))
        return told


def evaluate(
    run: Run,
    request: EvalRequest,
    checkpoint: str = "best",
    watch: Watch = NOBODY,
    data_path: str | None = None,
    data: Path | None = None,
    against: Path | None = None,
) -> Measured:
    """Measures a checkpoint of a run on the run's data, which lies at `data_path` if that is given, on other `data` or `against`
    it; see `measure`. Raises DataError if the run's data is not what it was trained on."""
    request.check()
    return measure(run, load(run, checkpoint, warn), request, watch, data_path, data, against)


def measure(
    run: Run,
    trained: Trained,
    request: EvalRequest,
    watch: Watch = NOBODY,
    data_path: str | None = None,
    data: Path | None = None,
    against: Path | None = None,
) -> Measured:
    """Measures a trained model on the run's data, see `evaluate_run`; on the held-out images of the data that a config `data`
    describes, see `open_other`; by how well it tells those that a config `against` describes from the run's own, see
    `open_anomalies`; or what a sampler draws through it, see `Drawn`. Raises UsageError if two of them are asked for."""
    _check_one(request, data, against)
    own = open_run_data(run, trained.experiment.data, say, data_path)
    if request.sampler is not None:
        return evaluate_run(run, trained, own, request, watch, Drawn.by(run, trained, own, request))
    if against is not None:
        return evaluate_run(run, trained, own, request, watch, open_anomalies(run, trained, own, request, against))
    dataset, other = (own, None) if data is None else open_other(run, trained, own, request, data)
    return evaluate_run(run, trained, dataset, request, watch, other)


def check_split(run: Run, dataset: Dataset, split: str) -> None:
    """Raises UsageError if a split has no images."""
    if not len(dataset.split(split)):
        raise UsageError(f"run {run.id} has no {split} split: data.validation is 0", "use --split test")


def _check_one(request: EvalRequest, data: Path | None, against: Path | None) -> None:
    if data is not None and against is not None:
        raise UsageError("--data and --against do not go together", "the normal images are the run's own")
    for option, given in (("--data", data), ("--against", against)):
        if request.sampler is not None and given is not None:
            raise UsageError(f"--sampler and {option} do not go together", "draws are measured against the run's own images")


def evaluate_run(
    run: Run,
    trained: Trained,
    dataset: Dataset,
    request: EvalRequest,
    watch: Watch = NOBODY,
    other: Other | Anomalies | Drawn | None = None,
) -> Measured:
    """Measures a trained model on a split of the run's data. Writes `eval/<split>.json`, which is returned, and the per-image
    values to `eval/<split>-values.npz`; of or against `other` data they bear its fingerprint, too. Numbers of other evaluators of
    the same checkpoint stay in them. What an interrupted evaluation has done is found again. Numbers that are measured with other
    code than the run was trained with say so in `protocol.code`.
    An evaluator that fails costs its own numbers, those of before too; numbers of another version of the metrics are not kept.

    Raises UsageError if the split is unknown or empty, an evaluator that was asked for does not fit, or the Inception weights
    cannot be used."""
    request.check()
    experiment, split = trained.experiment, request.split
    judge = None if request.inception is None else load_inception(request.inception)
    check_split(run, dataset, split)
    protocol = {
        "version": VERSION,
        "split": split,
        "step": trained.step,
        "binarize": experiment.data.binarize,
        "seed": experiment.seed,
        "batch": eval_batch(dataset.spec.size),
        "fingerprint": dataset.fingerprint,
        **({} if other is None else other.protocol()),
    }
    if trained.model.given_corruptions:
        protocol["given_image"] = label(trained.model.given_corruptions)
    name = split if other is None else other.stem(split)
    info = run.info()
    code = provenance.code_now(info)
    # No part of what decides which numbers are kept: those that stand there were measured with the code that they say.
    mark = {"code": f"changed since training, now {code.hash[:12]}"} if code.changed else {}
    run_stamp = {**protocol, "code": code.hash, "run": info.identity}
    folder = run.path / "eval"
    times = Times(watch.begin)
    with exclusive(folder / ".lock", f"evaluates {run.id}", say):
        goes_on = (folder / f".{name}.unfinished").exists()
        journal = Journal(folder / f".{name}.unfinished", _stamp(run_stamp, request, judge))
        subject = Subject(
            model=trained.model,
            state=trained.state,
            dataset=dataset,
            request=request,
            binarize=experiment.data.binarize,
            seed=experiment.seed,
            place=trained.place,
            inception=judge,
            journal=journal,
            begin=times.begin,
            tell=watch.tell,
        )
        if isinstance(other, Anomalies):
            of_anomalies = dataclasses.replace(subject, dataset=other.dataset, journal=journal.within("anomalies"))
            subject = dataclasses.replace(subject, against=of_anomalies)
        if isinstance(other, Drawn):
            model, state = through(trained.model, trained.state, other.fitted, dataset.spec.kind == "image")
            subject = dataclasses.replace(subject, model=model, state=state, draws_alone=True)
        names, left_out, notes = registry.chosen(subject)
        if isinstance(other, Anomalies) and trained.model.given_corruptions:
            notes += (f"scores are of an image given {label(trained.model.given_corruptions)} of it, of anomalies too",)
        n = len(subject.rows)
        work = Work(trained.model.variant, name, dataset.fingerprint, n, request.samples, request.draws, request.per_class)
        known = last_time(work)
        if (line := plan(names, known)) is not None:
            watch.plan(line)
        failed: dict[str, Exception] = {}
        try:
            found = registry.evaluate(subject, names, times.begin, failed.__setitem__)
        except (KeyboardInterrupt, Terminated):
            if any(map(journal.holds_part_of, names)):
                say("what was measured so far is kept: the same command goes on from there")
            raise
        times.end()
        if not failed and not goes_on:
            remember(work, times.seconds)
        stored = numbers.read(folder, name, info.identity, values=True)
        if stored.wrong is not None:
            aside = " and ".join(numbers.put_aside(folder, name))
            tell(f"eval/{name}.json and its values: {stored.wrong}; set aside as {aside}")
        before = version_of([number.protocol for number in stored.numbers.values()])
        if before not in (None, VERSION):
            notes += (f"eval/{name}.json held numbers of version {before} of the metrics; these are of version {VERSION}",)
        metrics = _kept(stored, protocol, names)
        kept = {recorded.evaluator for recorded in metrics.values()}
        values = {key: value for key, value in stored.values.items() if key.split("/")[0] in kept}
        for evaluator, findings in found.items():
            for key, metric in findings.metrics.items():
                if evaluator == registry.OBJECTIVE and key in metrics:
                    continue  # an evaluator's own number, kept from before
                metrics.pop(key, None)  # a name that the objective has too stands where the evaluator is
                metrics[key] = Recorded(metric._replace(protocol={**protocol, **mark, **metric.protocol}), evaluator)
            values |= {f"{evaluator}/{key}": np.asarray(value, np.float32) for key, value in findings.values.items()}
            notes += findings.notes
        notes += tuple(of_left_out(name, flop, known, name in kept) for name, flop in left_out.items())
        numbers.write(folder, name, info.identity, {key: recorded.as_json() for key, recorded in metrics.items()}, values)
        # What an interrupted evaluation has of others, which this one was not asked for, is worth minutes.
        if not any(journal.holds_part_of(each) for each in registry.of(subject) if each not in names):
            journal.close()
    return Measured(metrics, notes, name, failed, times.seconds)


def _stamp(protocol: dict[str, Any], request: EvalRequest, judge: Inception | None) -> dict[str, Any]:
    """What unfinished work must agree with to be gone on with."""
    weights = None if judge is None else judge.hash
    asked = {"samples": request.samples, "draws": request.draws, "per_class": request.per_class}
    return {**protocol, **asked, "inception": weights, "jax": jax.__version__}


def _kept(stored: Stored, protocol: dict[str, Any], replaced: Sequence[str]) -> dict[str, Recorded]:
    """What earlier evaluations of the same checkpoint on the same images found, but for the evaluators that have run again. What
    other data is called says nothing of its images, which its fingerprint tells."""
    protocol = {key: value for key, value in protocol.items() if key not in ("data", "against")}
    recorded = {name: Recorded.from_json(number.as_json()) for name, number in stored.numbers.items()}
    return {
        name: each
        for name, each in recorded.items()
        if each.evaluator not in replaced and protocol.items() <= each.protocol.items()
    }
