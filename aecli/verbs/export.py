"""`aecli export`: a trained model for programs that know nothing of aecli, compared with the run before it is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from aecli import __version__
from aecli.core.abilities import abilities
from aecli.core.model import Batch, Model
from aecli.errors import AecliError, UsageError, did_you_mean, printable
from aecli.evaluation.importance import importance_bounds
from aecli.exports import scripts, weights
from aecli.exports.card import Card, Told
from aecli.exports.folder import FACTS, check_target, new_folder
from aecli.exports.formats import Format, Unable, Written
from aecli.exports.functions import MADE, Function, Maker
from aecli.measures.metric import VERSION
from aecli.runs import commits, numbers
from aecli.runs.directory import Run
from aecli.runs.trained import Trained, stored_experiment
from aecli.system.arrays import write_arrays
from aecli.system.files import to_json, write_atomic
from aecli.verbs import apply
from aecli.verbs.examples import Example, made_up, of_run, test_example

WEIGHTS = "safetensors"
FORMATS = (WEIGHTS, "stablehlo", "onnx")
SAMPLES = 500
"""Importance samples of a score that is not exact."""
ROWS, MADE_UP = 8, 3
"""Images of the test split, and made-up ones, on which an export is compared: two sizes of a batch."""
TOLERANCE = {"float32": 1e-4, "tf32": 1e-4, "bfloat16": 3e-2}
"""How far an export may be from the run, as a part of its largest value where that is above 1, by the precision of the run."""
MOST_BATCH = 2**20
_REPORT = "try another --format, and report it: an export is to be what the run is"


class ExportRequest(NamedTuple):
    """`what` are names of MADE, all that the model is able to do if there are none. `out` is a folder, by default
    `<run>-<format>` here. `batch`: for so many examples at once; None for any number. `force` replaces an export."""

    format: str
    what: Sequence[str] = ()
    out: Path | None = None
    batch: int | None = None
    force: bool = False

    def check(self) -> None:
        """Raises UsageError if the request names what there is not, or contradicts itself."""
        if self.format not in FORMATS:
            raise UsageError(_unknown("format", self.format, FORMATS), f"one of {', '.join(FORMATS)}")
        for name in self.what:
            if name not in MADE:
                raise UsageError(_unknown("function", name, MADE), f"--what takes {', '.join(MADE)}")
        if self.format == WEIGHTS and (self.what or self.batch is not None):
            flag = "--what" if self.what else "--batch"
            raise UsageError(f"{flag} is for functions, and safetensors holds the weights", "leave it out, or --format stablehlo")
        if self.batch is not None and not 1 <= self.batch <= MOST_BATCH:
            raise UsageError(f"--batch {self.batch}: from 1 to {MOST_BATCH:,}")

    def target(self, run: Run) -> Path:
        return Path(os.path.abspath(f"{run.id}-{self.format}" if self.out is None else self.out))


class Exported(NamedTuple):
    """`differences` are the largest ones from the run, by function; `notes` say what was left out and why."""

    path: Path
    differences: Mapping[str, float]
    checked: str
    notes: Sequence[str]


def check_request(run: Run, request: ExportRequest) -> None:
    """Raises AecliError for what can be told before the model is restored: a request that does not fit the run, a folder that is
    there already, a package that is missing."""
    request.check()
    chosen(stored_experiment(run).model, request.what)
    if request.format != WEIGHTS:
        _format(request.format).check()
    check_target(request.target(run), request.force)


def export(
    run: Run,
    trained: Trained,
    request: ExportRequest,
    data_path: str | None = None,
    begin: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Writes a folder with the model in a format, `use.py`, a model card and `export.json`. Raises AecliError if what was
    written differs from the run by more than TOLERANCE; nothing is left behind then."""
    check_request(run, request)
    target = request.target(run)
    with new_folder(target, request.force) as folder:
        if request.format == WEIGHTS:
            card = _write_weights(run, trained, folder)
        else:
            card = _write_functions(run, trained, request, folder, data_path, begin)
        write_atomic(folder / "use.py", card.use.encode())
        write_atomic(folder / "README.md", card.text().encode(errors="backslashreplace"))
        write_atomic(folder / FACTS, to_json(_facts_of(card)))
    return Exported(target, {told.name: told.difference for told in card.functions}, card.checked, card.notes)


def chosen(model: Model, what: Sequence[str]) -> list[str]:
    """Names of MADE: those asked for, or all that a model is able to do. Raises UsageError if it cannot do one."""
    for name in what:
        apply.check_able(model, name)
    able = abilities(model)
    names = [name for name in MADE if (name in what if what else set(apply.NEEDED[name]) & set(able))]
    if not names:
        raise UsageError(f"variant '{model.variant}' does nothing that is exported: {', '.join(MADE)}", "--format safetensors")
    return names


def _write_weights(run: Run, trained: Trained, folder: Path) -> Card:
    named = weights.arrays(trained)
    facts = _facts(run, trained, ("safetensors",))
    weights.write(folder, named, {**facts, "config": run.resolved_config()})
    known = {**trained.model.arrays_told, **weights.SCALING}
    told = [(name, array.shape, known.get(name, "")) for name, array in named.items()]
    card = _card(run, trained, WEIGHTS, facts)
    return card._replace(use=scripts.WEIGHTS, checked="every bit of every array", arrays=told)


def _write_functions(
    run: Run, trained: Trained, request: ExportRequest, folder: Path, data_path: str | None, begin: Callable[[str], None]
) -> Card:
    form = _format(request.format)
    notes: list[str] = []
    sizes = (ROWS, MADE_UP) if request.batch is None else (request.batch,) * 2
    test = test_example(run, trained, sizes[0], data_path, notes.append)
    examples = [made_up(trained, sizes[0], 1) if test is None else test, made_up(trained, sizes[1], 0)]
    maker = Maker(trained, jax.device_put(trained.state, jax.devices()[0]), partial(_nll, model=trained.model), SAMPLES)
    told: list[Told] = []
    kept: dict[str, NDArray[Any]] = {}
    for name in chosen(trained.model, request.what):
        begin(name)
        function = maker.make(name)
        try:
            written = form.write(folder, function, request.batch)
            compared = [_compared(trained, function, written, example) for example in examples]
        except Unable as error:
            if request.what:
                raise UsageError(f"{name} cannot be exported as {form.name}: {error.reason}", error.help) from error
            notes.append(f"{name} is left out: {error.reason}" + (f" ({error.help})" if error.help else ""))
            (folder / f"{name}.{form.name}").unlink(missing_ok=True)  # one that was written, and cannot be run
            continue
        told.append(Told(name, written.file, written.inputs, function.output, max(difference for difference, _ in compared)))
        kept |= compared[1][1]
    if not told:
        why = "; ".join(note for note in notes if "is left out" in note)
        raise UsageError(
            f"nothing of run {run.id} can be exported as {form.name}: {why}", "another --format, or --batch N if that may do"
        )
    write_arrays(folder / scripts.EXAMPLE, kept)
    rows = [(each.name, [form.name for form in each.inputs], each.output.name) for each in told]
    first = "made-up rows" if test is None else "rows of the test split"
    checked = f"{sizes[0]} {first} and {sizes[1]} made-up ones"
    card = _card(run, trained, form.name, _facts(run, trained, form.packages))
    return card._replace(functions=told, notes=notes, checked=checked, use=scripts.calls(dict(form.script), rows))


def _compared(trained: Trained, function: Function, written: Written, example: Example) -> tuple[float, dict[str, NDArray[Any]]]:
    """The largest difference of what is in a file from the run, and the arrays of the example as `use.py` takes them. Raises
    AecliError if it is above TOLERANCE."""
    given = written.given([example.arrays[form.name] for form in function.inputs])
    expected = of_run(trained, function.name, example, SAMPLES)
    made = np.asarray(written.read(given), np.float32)
    if made.shape != expected.shape:
        raise AecliError(f"{written.file} gives {list(made.shape)}, and the run {list(expected.shape)}", _REPORT)
    difference = 0.0 if np.array_equal(made, expected) else float(np.max(np.abs(made - expected)))
    allowed = TOLERANCE[trained.experiment.train.precision] * max(1.0, float(np.max(np.abs(expected))))
    if not difference <= allowed:
        raise AecliError(
            f"{written.file} differs from the run by up to {difference:.3g}, and {allowed:.3g} is allowed: nothing is written",
            _REPORT,
        )
    arrays = {f"{function.name}.{form.name}": array for form, array in zip(written.inputs, given, strict=True)}
    return difference, {**arrays, f"{function.name}.{function.output.name}": expected}


def _nll(state: Any, batch: Batch, key: jax.Array, model: Any) -> jax.Array:
    return importance_bounds(model, state, batch, key, jnp.int32(SAMPLES))["nll_nats"]


def _format(name: str) -> Format:
    """That of a name of FORMATS that holds functions; its module is imported when it is asked for."""
    return import_module(f"aecli.exports.{name}").FORMAT


def _facts(run: Run, trained: Trained, packages: Sequence[str]) -> dict[str, str]:
    """What the export is of, and what it depends on."""
    commit = commits.read(run.checkpoints, trained.step)
    return {
        "run": run.id,
        "step": f"{trained.step}",
        "aecli": __version__,
        "checkpoint_sha256": commit.seal,
        "metrics_version": f"{VERSION}",
        **{package: metadata.version(package) for package in packages},
    }


def _card(run: Run, trained: Trained, form: str, facts: Mapping[str, str]) -> Card:
    """The card without functions."""
    info = run.info()
    measured: dict[str, Any] = {}
    for path in sorted((run.path / "eval").glob("*.json")):
        if path.name.startswith("."):
            continue
        stored = numbers.read(run.path / "eval", path.stem, info.identity).numbers
        of_step = {name: number for name, number in stored.items() if number.protocol.get("step") == trained.step}
        measured |= {path.stem: of_step} if of_step else {}
    return Card(run.id, info, run.resolved_config(), form, trained.step, facts, measured, (), "", (), "")


def _facts_of(card: Card) -> dict[str, Any]:
    """`export.json`."""
    functions = {
        told.name: {
            "file": told.file,
            "inputs": [form.as_json() for form in told.inputs],
            "output": told.output.as_json(),
            "max_difference": told.difference,
        }
        for told in card.functions
    }
    return {"format": card.format, **card.facts, "functions": functions, "checked_on": card.checked, "notes": list(card.notes)}


def _unknown(what: str, name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    hint = did_you_mean(name, known)
    return printable(f"there is no {what} '{name}'" + (f": {hint}" if hint else ""))
