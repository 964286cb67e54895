"""A trained run in Python's hands: the model in a run folder, and what is kept beside it. Part of the public promise, see
`api.py`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from aecli.errors import AecliError, UsageError, printable, told
from aecli.runs import directory
from aecli.runs.directory import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aecli.config.schema import Experiment
    from aecli.core.model import Spec
    from aecli.runs.trained import Trained
    from aecli.verbs.evaluate import Measured

Checkpoint: TypeAlias = Literal["best", "last"] | int


class Number(NamedTuple):
    """A measured number. `value` is None where there is no true one, and `note` says why; `standard_error` is that over the `n`
    images. `baselines` are what plain methods reach on the same images, `protocol` is what the number depends on, and
    `difference_errors` are standard errors of `value` less a baseline's: image by image, where the values of each are known, and
    beside train images, which are others, the root of the sum of the squared errors."""

    value: float | None
    standard_error: float | None
    n: int
    unit: str
    better: Literal["lower", "higher"] | None
    baselines: Mapping[str, float]
    protocol: Mapping[str, Any]
    evaluator: str
    note: str | None = None
    difference_errors: Mapping[str, float] = MappingProxyType({})

    def __float__(self) -> float:
        return float("nan") if self.value is None else self.value


class Split(NamedTuple):
    """Images as they are kept, uint8 or float32 [n, H, W, C], or vectors float32 [n, d], and their labels int32 [n], -1 where
    there is none."""

    images: NDArray[Any]
    labels: NDArray[Any]


class Dictionary(NamedTuple):
    """What an affine decoder is: `units` [units, H, W, C] or [units, d] float32, what each unit adds with an activation of 1, and
    `offset` [H, W, C] or [d], what the code of zeros gives."""

    units: NDArray[Any]
    offset: NDArray[Any]


class TrainedRun:
    """A run folder, and the model in it. To make one reads next to nothing; the model is restored when it is first needed, and
    then kept. Images are numpy or whatever becomes numpy: [n, H, W] or [n, H, W, C], uint8 or floats in [0, 1]; of a run on
    vectors [n, d] in the units of the data. What comes back is float32."""

    def __init__(self, path: Path, checkpoint: Checkpoint | str = "best") -> None:
        self._folder, self._which = Path(os.path.abspath(path)), str(checkpoint)  # wherever the program goes to
        self._restored: Trained | None = None
        self._known: Experiment | None = None

    def __repr__(self) -> str:
        facts = directory.run_facts(Run(self._folder))
        if facts["step"] is None:
            return printable(f"<aecli run {self.id}: {facts['state']}, {facts['note']}>")
        model = f"{facts['variant']} on {facts['data']}, {facts['state']} at step {facts['step']:,}"
        return printable(f"<aecli run {self.id}: {model}>")

    @property
    def id(self) -> str:
        return self._folder.name

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._folder

    @property
    def state(self) -> str:
        """created, running, completed, interrupted, failed, diverged or crashed, as of now; `unreadable` if its files are
        damaged, of which `note` tells."""
        return str(directory.run_facts(Run(self._folder))["state"])

    @property
    def note(self) -> str | None:
        """What is wrong with the run's files, if anything is."""
        return directory.run_facts(Run(self._folder))["note"]

    @property
    @told
    def step(self) -> int:
        """How many steps the run has made. `checkpoint_step` is that of the model."""
        return self._run.recorded().step

    @property
    @told
    def checkpoint_step(self) -> int:
        """The step of the checkpoint that the model is from, which is restored for it."""
        return self._trained.step

    @property
    @told
    def parameters(self) -> int:
        """The number of weights."""
        return self._run.info().parameters

    @property
    @told
    def config(self) -> dict[str, Any]:
        """The resolved config, every default written out, as blocks of settings. A copy: changing it changes nothing."""
        from aecli.config import values, yamlfile

        return values.as_lists(yamlfile.parse(self._run.resolved_config(), "config.resolved.yaml").data)

    @property
    @told
    def spec(self) -> Spec:
        """What the data looks like: height, width, channels, classes, kind."""
        from aecli.runs.trained import spec_of

        return spec_of(self._run)

    @property
    @told
    def classes(self) -> tuple[str, ...]:
        """What the labels 0, 1, ... are called; their numbers if the run keeps no names; none where there are no labels."""
        return self._run.info().data.classes

    @property
    @told
    def abilities(self) -> tuple[str, ...]:
        """What the model can do: samples, reconstructs, encodes, decodes, completes, scores, weighs, ..."""
        from aecli.core.abilities import abilities

        return abilities(self._experiment.model)

    @told
    def metrics(self, split: Literal["train", "validation"] | None = None) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, oldest first: `split`, `step`, `epoch`, and numbers by name; of one split or of both."""
        from aecli.system.progress import warn

        if split not in (None, "train", "validation"):
            raise UsageError(f"there are no metrics of a split {split!r}", "train, validation, or None for both")
        rows, damaged = self._run.read_rows()
        if damaged:
            warn(f"metrics.jsonl of run {self.id}: {damaged:,} lines cannot be read, and are left out")
        return [row.as_json() for row in rows if split in (None, row.split)]

    @told
    def numbers(self, split: str = "test") -> dict[str, Number]:
        """What has been measured on a split, by name, from `eval/<split>.json`; nothing is computed, and none if nothing was.
        Raises RunError if what is there is not what aecli wrote of this run."""
        from aecli.evaluation.request import check_measured
        from aecli.verbs.frame import stored_numbers

        check_measured(split)
        return {name: _number(number.as_json()) for name, number in stored_numbers(self._run, split).items()}

    @told
    def evaluate(
        self,
        split: str = "test",
        only: str | Sequence[str] = (),
        skip: str | Sequence[str] = (),
        *,
        everything: bool = False,
        samples: int | None = None,
        draws: int = 10_000,
        per_class: int | None = None,
        sampler: str | None = None,
        components: int | None = None,
        data: str | os.PathLike[str] | None = None,
        against: str | os.PathLike[str] | None = None,
        data_path: str | os.PathLike[str] | None = None,
    ) -> dict[str, Number]:
        """Measures the model as `aecli eval` does, keeps the numbers with the run, and returns all that are kept of the split.
        `only` and `skip` name evaluators, `everything` is `--all`, `samples` (500 if it is not given) also asks for what takes
        importance samples, `per_class` (100) for `augmentation`; `data` is a config of other data to measure on, `against` one of
        anomalies to tell from the run's own images, `sampler` (with so many `components`) what is to draw in place of the model's
        own draws. Raises AecliError after the others are done if an evaluator failed."""
        from aecli.evaluation.request import EvalRequest
        from aecli.system.compile_cache import kept_programs
        from aecli.system.folders import cache_root
        from aecli.verbs.evaluate import measure

        request = EvalRequest(split, _names(only), _names(skip), draws=draws, everything=everything)
        request = request._replace(sampler=sampler, components=components).with_numbers(samples, per_class)
        request.check()
        trained = self._trained
        with kept_programs(cache_root()):
            measured = measure(self._run, trained, request, data_path=_text(data_path), data=_path(data), against=_path(against))
        return _numbers(measured)

    @told
    def data(self, split: str = "test", data_path: str | os.PathLike[str] | None = None, given: bool = False) -> Split:
        """The images and labels of a split of the run's data as an evaluation takes them, in their order: what has a frozen draw
        is drawn, vectors are in the units of the data. `given`: of pairs, those that they are paired with in their place."""
        import numpy as np

        from aecli.data.rows import apart, as_kept
        from aecli.data.scaling import ScaledRows
        from aecli.runs.data import open_run_data
        from aecli.system.progress import say

        if split not in ("train", "validation", "test"):
            raise UsageError(f"there is no split {split!r}", "train, validation, test")
        rows = open_run_data(self._run, self._experiment.data, say, _text(data_path)).split(split)
        kept, labels = as_kept(rows.rows if isinstance(rows, ScaledRows) else rows).all()
        images = apart(kept, self.spec.paired)[given]
        if images is None:
            raise UsageError("the run's data has no pairs", "leave given out")
        if self.spec.kind == "vector":
            images = images.reshape(len(images), -1)
        return Split(np.array(images), np.array(labels))

    @told
    def encode(self, images: Any, labels: Any = None) -> NDArray[Any]:
        """The code of each image, [n, latent]; of a distribution over codes its mean. Of the images of a split (of a
        restorer of pairs: of `data(given=True)`), in their order from the first on, these are the codes of `eval`, bit for bit. A
        conditional model may be told the `labels` [n]."""
        from aecli.verbs import apply

        trained, rows = self._rows("encode", images, labels)
        return _joined(apply.codes(trained, rows), (0, apply.code_length(trained)))

    @told
    def decode(self, z: Any, labels: Any = None) -> NDArray[Any]:
        """The image of each code [n, latent]: [n, H, W, C] in [0, 1], or vectors [n, d]. A conditional model needs `labels`."""
        from aecli.verbs import apply, given

        trained = self._able("decode")
        codes = given.codes_of(z, apply.code_length(trained))
        classes = self._labels("decode", given.labels_of(labels, len(codes), trained))
        return _joined(apply.decoded(trained, codes, classes), self._shape)

    @told
    def dictionary(self) -> Dictionary:
        """The decoder as arrays, where it is an affine map of the code: code @ units + offset is what `decode` gives, before an
        image is clipped; vectors in the units of the data. Raises UsageError if it is no affine map, which is tried."""
        import numpy as np

        from aecli.verbs import apply

        rows, offset = apply.affine_decoder(self._able("decode"))
        shape = self._shape[1:]
        return Dictionary(np.asarray(rows, np.float32).reshape(-1, *shape), np.asarray(offset, np.float32).reshape(shape))

    @told
    def reconstruct(self, images: Any, labels: Any = None) -> NDArray[Any]:
        """What the model makes of each image as it is given, [n, H, W, C] in [0, 1], or vectors [n, d]: nothing is corrupted of
        it. A conditional model needs the `labels`."""
        from aecli.verbs import apply

        return _joined(apply.reconstructions(*self._rows("reconstruct", images, labels)), self._shape)

    @told
    def score(self, images: Any, labels: Any = None, samples: int = 500, seed: int | None = None) -> NDArray[Any]:
        """-log p(x) of each image in nats, [n]: exact where the model scores; where it weighs, the upper bound from so many
        importance `samples`, drawn by `seed`, by default that of the run, as `eval` has it. A conditional model needs the
        `labels`."""
        from aecli.evaluation.request import MOST
        from aecli.verbs import apply, given

        samples = given.whole_of(samples, "samples", 1, MOST)
        trained, rows = self._rows("score", images, labels)
        return _joined(apply.scores(trained, rows, samples, None if seed is None else given.seed_of(seed)), (0,))

    @told
    def sample(self, n: int, seed: int = 0, label: Any = None, temperature: float = 1.0) -> NDArray[Any]:
        """n draws, [n, H, W, C] in [0, 1], or vectors [n, d]: those of `aecli sample`, which rounds images to 8 bit. `label` is
        the class of all of them, or [n]; without it a conditional model draws one class after another. Another n draws others."""
        import numpy as np

        from aecli.sampling.limits import check_room
        from aecli.verbs import apply, given

        n = given.whole_of(n, "n", 0, given.MOST)
        apply.check_able(self._experiment.model, "sample")
        check_room(n, 1, self.spec)
        trained = self._trained
        if label is not None and not trained.model.is_conditional:
            raise UsageError("the model is not conditional on the label (conditional: true)", "leave label out")
        turn = np.resize(trained.classes if trained.model.is_conditional else (0,), n)
        labels = turn.astype(np.int32) if label is None else given.labels_of(label, n, trained)
        if not n:
            return np.empty(self._shape, np.float32)
        self._labels("sample", labels)
        return apply.draw(trained, labels, given.seed_of(seed), given.temperature_of(temperature))

    @told
    def complete(self, images: Any, known: Any, labels: Any = None, seed: int = 0, temperature: float = 1.0) -> NDArray[Any]:
        """Images [n, H, W, C] in [0, 1], equal to those given where `known` ([H, W] or [n, H, W] bool) is True, and drawn by the
        model elsewhere. A conditional model needs the `labels`."""
        from aecli.verbs import apply, given

        trained, rows = self._rows("complete", images, labels)
        mask = given.mask_of(known, len(rows), trained.spec)
        made = apply.completions(trained, rows, mask, given.seed_of(seed), given.temperature_of(temperature))
        return _joined(made, self._shape)

    @told
    def export(
        self,
        format: str,
        out: str | os.PathLike[str] | None = None,
        what: str | Sequence[str] = (),
        *,
        batch: int | None = None,
        force: bool = False,
        data_path: str | os.PathLike[str] | None = None,
    ) -> Path:
        """Writes the model as `safetensors`, `stablehlo` or `onnx` into a new folder, as `aecli export` does, and
        returns the folder: `out`, by default `<id>-<format>` here. `what` names functions, all that the model can do if it names
        none; `batch` makes them for so many examples at once; `force` replaces an export. Raises UsageError for what the
        model cannot do, AecliError if what was written is not what the run is: then nothing is there."""
        from aecli.system.compile_cache import kept_programs
        from aecli.system.folders import cache_root
        from aecli.system.progress import say
        from aecli.verbs.export import ExportRequest, check_request
        from aecli.verbs.export import export as write

        request = ExportRequest(format, _names(what), _path(out), batch, force)
        check_request(self._run, request)
        with kept_programs(cache_root()):
            done = write(self._run, self._trained, request, _text(data_path))
        for note in done.notes:
            say(f"note: {note}")
        return done.path

    @told
    def resume(
        self, overrides: Mapping[str, Any] | None = None, *, data_path: str | os.PathLike[str] | None = None
    ) -> TrainedRun:
        """Goes on with the run to its end, which `{"train.steps": N}` or `{"train.epochs": N}` moves; see `train` of signals."""
        from aecli.config.values import as_flags
        from aecli.system.again import signalled_again
        from aecli.system.compile_cache import kept_programs
        from aecli.system.folders import cache_root
        from aecli.verbs import train

        sets = as_flags(overrides)
        try:
            with kept_programs(cache_root()):
                signalled_again(lambda: train.resume(self._run, sets, _text(data_path)))
        finally:  # also of a run that a signal stopped the model is another one
            self._restored = self._known = None
        return self

    @functools.cached_property
    def _run(self) -> Run:
        return run_of(self._folder)

    @property
    def _experiment(self) -> Experiment:
        from aecli.runs.trained import stored_experiment

        if self._known is None:
            self._known = stored_experiment(self._run)
        return self._known

    @property
    def _trained(self) -> Trained:
        from aecli.runs import trained
        from aecli.system.progress import warn

        if self._restored is None:
            self._restored = trained.load(self._run, self._which, warn)
        return self._restored

    @property
    def _shape(self) -> tuple[int, ...]:
        """That of no images, as they are given away."""
        spec = self.spec
        return (0, *spec.shape) if spec.kind == "image" else (0, spec.width)

    def _able(self, doing: str) -> Trained:
        from aecli.verbs import apply

        apply.check_able(self._experiment.model, doing)
        return self._trained

    def _rows(self, doing: str, images: Any, labels: Any) -> tuple[Trained, Any]:
        from aecli.verbs import apply, given

        trained = self._able(doing)
        rows = given.rows_of(trained, images, labels)
        apply.check_pairs(trained.model.given_corruptions, False, "images")
        self._labels(doing, rows.labels)
        return trained, rows

    def _labels(self, doing: str, labels: NDArray[Any]) -> NDArray[Any]:
        from aecli.verbs import apply

        apply.check_labels(self._experiment.model, doing, labels, self.classes)
        return labels


def run_of(path: Path) -> Run:
    """A run whose folder has been looked at before it is believed. Raises RunError for one that no run has."""
    from aecli.runs.parts import check_parts

    check_parts(path)
    run = Run(path)
    run.info()
    return run


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _path(path: str | os.PathLike[str] | None) -> Path | None:
    return None if path is None else Path(os.path.expanduser(path))


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """`"a,b"` is two names, as on the command line."""
    some = [given] if isinstance(given, str) else given
    return tuple(name.strip() for one in some for name in one.split(",") if name.strip())


def _joined(pieces: Iterable[Any], none: tuple[int, ...]) -> NDArray[Any]:
    import numpy as np

    found = list(pieces)
    return np.concatenate(found) if found else np.empty(none, np.float32)


def _numbers(measured: Measured) -> dict[str, Number]:
    """Tells the notes of an evaluation on stderr. Raises AecliError if an evaluator failed."""
    from aecli.system.progress import say

    for note in measured.notes:
        say(f"note: {note}")
    for error, (_, line) in zip(measured.failed.values(), measured.failures(), strict=True):
        raise AecliError(line, "the numbers of the others are written; skip leaves it out") from error
    return {name: _number(recorded.as_json()) for name, recorded in measured.metrics.items()}


def _number(facts: Mapping[str, Any]) -> Number:
    return Number(**{field: facts[field] for field in Number._fields if field in facts})  # pyright: ignore[reportArgumentType]
