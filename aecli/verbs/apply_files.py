"""A run applied to files: what `aecli encode`, `aecli reconstruct` and `aecli score` do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.config import yamlfile
from aecli.config.load import parse
from aecli.config.schema import FOLDERS, Data
from aecli.config.values import as_config
from aecli.core.model import Spec
from aecli.data.rows import LabelledRows, Rows
from aecli.data.scaling import ScaledRows
from aecli.data.sources.lister import SUFFIXES
from aecli.data.sources.pairs import GIVEN, IMAGE
from aecli.data.sources.told import some
from aecli.data.whole import READ, Whole, as_classes, open_whole
from aecli.errors import DataError, StorageError, UsageError
from aecli.runs.data import open_run_data
from aecli.runs.directory import Run
from aecli.runs.trained import Trained, load, spec_of, stored_experiment
from aecli.sampling.pictures import to_uint8
from aecli.system.arrays import write_in_pieces
from aecli.system.progress import say, tell, warn
from aecli.system.reading import kind_of
from aecli.verbs import apply
from aecli.verbs.telling import NOBODY, Watch

SPLITS = ("train", "validation", "test")
_ALWAYS = ("size", "channels")
"""Settings of a run's data that images of any kind are read by."""
_NAMES = ("label", "array")
"""Those that name what is in a file: another file of the kind may hold no such array."""
_OF_THE_SAME = ("labels", "splits", "range", "layout", "dtype", "label", "array")
"""Those that only data of the same kind is read by."""


class Request(NamedTuple):
    """`doing` is encode, reconstruct or score. Of `source`, a file or a folder, or of a `split` of the run's own data, into the
    npz `out`, which is replaced only if `force` says so. `sets` are settings of `data` that the source is read by."""

    doing: str
    out: Path
    source: Path | None = None
    split: str | None = None
    sets: Sequence[str] = ()
    samples: int = 500
    force: bool = False

    def check(self) -> None:
        """Raises UsageError if the request contradicts itself, or its file stands there already, StorageError if there is no
        place for it."""
        if (self.source is None) == (self.split is None):
            raise UsageError(
                f"{self.doing} takes a file or a folder, or a split of the run's own data", "name a FILE, or --split test"
            )
        if self.split is not None and self.split not in SPLITS:
            raise UsageError(f"--split {self.split}: there are {', '.join(SPLITS)}")
        if self.sets and self.split is not None:
            raise UsageError("--set is for a file or a folder: the run's own data is read as it was")
        if wrong := [flag for flag in self.sets if not flag.strip().startswith("data.")]:
            raise UsageError(f"--set {wrong[0]}: the run keeps its settings; only how data is read may be set, data.KEY=VALUE")
        if self.out.suffix != ".npz":
            name = self.out.with_suffix("") if self.out.suffix == ".npy" else self.out
            raise UsageError(f"-o {self.out}: arrays are written as .npz", f"-o {name}.npz")
        if not self.out.parent.is_dir():
            raise StorageError(f"there is no folder {self.out.parent} for {self.out.name}", "make it first")
        if os.path.lexists(self.out) and (kind := kind_of(os.lstat(self.out).st_mode)):
            raise StorageError(f"{self.out} is {kind}, not a file", "name another by -o")
        if os.path.lexists(self.out) and not self.force:
            raise UsageError(f"{self.out} is there already", "--force replaces it")
        if self.source is not None and self.out.exists() and self.source.exists() and self.out.samefile(self.source):
            raise UsageError(f"{self.out} would take the place of what it is made from", "name another file by -o")


def apply_to_files(
    run: Run, request: Request, checkpoint: str = "best", data_path: str | None = None, watch: Watch = NOBODY
) -> int:
    """Writes `code`, `image` (or `vector`) or `nll_nats` of every image into `request.out`, beside `label` and `class_names`
    where there are labels and `name` where each image is a file; returns how many there are. A batch is in memory at a time.
    Raises UsageError for what the model cannot do, DataError for images that are not of the run's form, or cannot be read."""
    request.check()
    experiment = stored_experiment(run)
    apply.check_able(experiment.model, request.doing)
    rows, more, whole = _open(run, request, data_path)
    if not len(rows):
        raise UsageError(f"run {run.id} has no {request.split} split: data.validation is 0", "use --split test")
    info = run.info().data
    apply.check_labels(experiment.model, request.doing, rows.labels, info.class_names)
    if experiment.model.is_conditional and (untold := int((rows.labels < 0).sum())):
        say(f"the model is told no label of {untold:,} of {len(rows):,}")
    trained = load(run, checkpoint, warn)
    if whole is not None and trained.scaling is not None:
        rows = ScaledRows(rows, trained.scaling)
    name, shape, dtype, pieces = _made(trained, request, rows)
    watch.begin(request.doing)
    write_in_pieces(request.out, name, (len(rows), *shape), dtype, _watched(pieces, len(rows), watch, whole), more)
    return len(rows)


def _open(run: Run, request: Request, data_path: str | None) -> tuple[Rows, dict[str, NDArray[Any]], Whole | None]:
    """The images, what the npz says of each of them, and where they are from if they are no run's."""
    known = run.info().data.classes
    if request.split is not None:
        dataset = open_run_data(run, stored_experiment(run).data, say, data_path)
        rows = dataset.split(request.split)
        return rows, _labels(rows.labels, known), None
    if data_path is not None:
        raise UsageError("--data-path is for the run's own data", "leave it out, or take --split in place of a file")
    assert request.source is not None
    data = reading(run, request.source, request.sets)
    if data.classes is not None:
        raise UsageError("--set data.classes: every image of a file or a folder is read", "leave it out")
    if data.name not in READ:
        raise UsageError(f"--set data.name={data.name}: a file or a folder is read as {', '.join(READ)}", "one of these")
    if data.name == "folder" and all((request.source / side).is_dir() for side in (IMAGE, GIVEN)):
        message = f"{request.source} holds pairs, and the images of one folder are read"
        raise DataError(message, f"name the one that is meant, such as {request.source / GIVEN}")
    whole = _opened(data, [name for name in _NAMES if not any(flag.strip().startswith(f"data.{name}=") for flag in request.sets)])
    say(whole.told)
    check_form(run, whole.spec, str(request.source))
    apply.check_pairs(stored_experiment(run).model.given_corruptions, whole.spec.paired, str(request.source))
    labels = as_classes(whole.rows.labels, whole.classes, known)
    more = {"name": np.array(whole.names)} if whole.names else {}
    if labels is not None:
        return LabelledRows(whole.rows, labels), _labels(labels, known) | more, whole
    if whole.classes:
        tell(f"the classes {some(whole.classes)} are not those of the run, {some(known) or 'which has none'}")
    # The model is told no class that it does not know.
    unknown = LabelledRows(whole.rows, np.full(len(whole.rows), -1, np.int32))
    return unknown, _labels(whole.rows.labels, whole.classes) | more, whole


def _opened(data: Data, inherited: Sequence[str]) -> Whole:
    """Reads the file; where it holds no arrays of the names that the run's own file has, by what it does hold, which is told.
    Those of `inherited` were not asked for by a flag."""
    try:
        return open_whole(data)
    except DataError as error:
        names = tuple(name for name in inherited if getattr(data, name) is not None)
        for left in dict.fromkeys((names[:1], names)):
            if left:
                with contextlib.suppress(DataError):
                    whole = open_whole(data.model_copy(update=dict.fromkeys(left)))
                    tell(f"{error.message}: read without data.{' and data.'.join(left)} of the run")
                    return whole
        raise


def reading(run: Run, source: Path, sets: Sequence[str]) -> Data:
    """How a file or a folder is read: as the run's own data was, as far as that says anything of it, and by `sets`. Raises
    ConfigError if they do not go together, DataError if there is no such file."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder", "name one of images as the run's, or --split test")
    blocks: dict[str, Any] = dict(yamlfile.parse(run.resolved_config(), "config.resolved.yaml").data)
    own: dict[str, Any] = blocks["data"]
    vectors = spec_of(run).kind == "vector"
    folder = source.is_dir() or source.suffix.lower() in SUFFIXES
    name = "vectors" if vectors else "folder" if folder else "npz"
    settings = {"name": name, "path": os.path.abspath(source)}
    settings |= {key: own[key] for key in _ALWAYS if key in own and not vectors}
    heeded = _OF_THE_SAME if own["name"] == name or {own["name"], name} <= set(FOLDERS) else ()
    settings |= {key: own[key] for key in (*heeded, *(("background",) if folder and not vectors else ())) if key in own}
    return parse(as_config({**blocks, "data": settings}), f"how {source} is read", sets).experiment.data


def check_form(run: Run, spec: Spec, what: str, setting: str = "--set data.{}={}") -> None:
    """Raises DataError if images are not of the form that a run was trained on, naming both, and the `setting` that helps."""
    own = spec_of(run)
    if spec.shape == own.shape and spec.kind == own.kind:
        return
    size, channels = setting.format("size", f"[{own.height},{own.width}]"), setting.format("channels", own.channels)
    helps = [f"{size} resizes them"] * (spec.shape[:2] != own.shape[:2])
    helps += [f"{channels} makes them {_colour(own)}"] * (spec.channels != own.channels)
    same = spec.kind == own.kind == "image"
    raise DataError(
        f"{what} holds {_form(spec)}, and run {run.id} was trained on {_form(own)}",
        " and ".join(helps) if same else "a model takes what it was trained on alone",
    )


def _form(spec: Spec) -> str:
    return f"vectors of {spec.width:,}" if spec.kind == "vector" else f"{spec.height}x{spec.width} {_colour(spec)} images"


def _colour(spec: Spec) -> str:
    return "gray" if spec.channels == 1 else "colour"


def _labels(labels: NDArray[Any], classes: Sequence[str]) -> dict[str, NDArray[Any]]:
    return {"label": labels, "class_names": np.array(classes)} if len(classes) and (labels >= 0).any() else {}


def _made(trained: Trained, request: Request, rows: Rows) -> tuple[str, tuple[int, ...], Any, Iterator[Any]]:
    """What the array is called, its shape for an image, its type, and its pieces."""
    if request.doing == "encode":
        return "code", (apply.code_length(trained),), np.float32, apply.codes(trained, rows)
    if request.doing == "score":
        return "nll_nats", (), np.float32, apply.scores(trained, rows, request.samples)
    made = apply.reconstructions(trained, rows)
    if trained.spec.kind == "vector":
        return "vector", (trained.spec.width,), np.float32, made
    return "image", trained.spec.shape, np.uint8, map(to_uint8, made)


def _watched(pieces: Iterator[Any], n: int, watch: Watch, whole: Whole | None) -> Iterator[Any]:
    """The pieces; at their end, when every image has been read, what was done to the images."""
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        watch.tell(done, n)
    for fact in whole.converted() if whole is not None else ():
        say(fact)
