"""The form of the JSON that a run keeps. A file is validated when it is read: whoever damaged or edited it, or made it on another
machine, what comes out has the types that are written here, or is told to be unreadable.

Keys that are not listed are kept as they are: a newer version may have added them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from aecli.system.reading import Unreadable, is_path

SCHEMA = 1
STATES = ("created", "running", "completed", "interrupted", "failed", "diverged", "crashed")
MOST = 2**53
"""No count is as large: beyond, a float does not tell two neighbours apart."""

Count = Annotated[int, Field(ge=0, le=MOST)]
Size = Annotated[int, Field(ge=1, le=MOST)]
RunId = Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\z")]
"""The name of the folder of a run, or of a sweep; see `directory.is_id`."""
Sha256 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 2**16:
        raise ValueError("is no text")
    return value


Raw = Annotated[Any, AfterValidator(_text)]
"""Text that may hold bytes that are no UTF-8, as paths and arguments do: Python and JSON keep them as lone surrogates."""


def _schema(value: int) -> int:
    if value != SCHEMA:
        raise ValueError(f"is schema {value}, and this aecli reads {SCHEMA}: use the version that wrote it")
    return value


Schema = Annotated[int, AfterValidator(_schema)]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False)

    def as_json(self) -> dict[str, Any]:
        """What is written of it: no defaults, so that what is read and written again stays as it was."""
        return self.model_dump(by_alias=True, exclude_unset=True)


R = TypeVar("R", bound=Record)


class SpecFacts(Record):
    """The fields of `core.model.Spec`."""

    height: Size
    width: Size
    channels: Size
    classes: Count
    kind: Literal["image", "vector"] = "image"
    paired: bool = False


class Sizes(Record):
    """Examples in each split."""

    train: Size
    validation: Count
    test: Count


def _path(value: str) -> str:
    if not is_path(value):
        raise ValueError("is no path")
    return value


RawPath = Annotated[Raw, AfterValidator(_path)]


class Place(Record):
    """Where own files were: the path as it was written, where that was, and how it is reached from the run's folder."""

    given: RawPath
    absolute: RawPath
    from_run: RawPath


class DataFacts(Record):
    """The data that a run was trained on. Runs of older versions keep no class names, no rules and no path."""

    name: str
    spec: SpecFacts
    sizes: Sizes
    tier: Literal["auto", "device", "memmap", "stream"]
    fingerprint: str
    class_names: list[Raw] = []
    rules: Annotated[int, Field(ge=1, le=MOST)] = 1
    path: Place | None = None
    duplicates: dict[str, Count] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        """What the labels 0, 1, ... are called; their numbers if the run keeps no names."""
        n = self.spec.classes
        return tuple(self.class_names) if len(self.class_names) == n else tuple(map(str, range(n)))


class Git(Record):
    commit: str
    dirty: bool


class Code(Record):
    """The SHA-256 of a variant's code, and of each of its files."""

    hash: Sha256
    files: dict[str, Sha256]


class CellOf(Record):
    """The sweep that started a run, and for which of its cells, which count from 1."""

    id: Raw
    cell: Size


class Origin(Record):
    """The run whose weights another one started from: which checkpoint of it, by its number and its seal, and how many of the
    weights that is."""

    run: str
    step: Count
    seal: Sha256
    fitted: Count
    left: list[Raw] = []


class Budget(Record):
    """What the length of a run was given by, and the steps that this came to: `per_step` operations, or seconds with what
    validation adds to them."""

    setting: Literal["flop", "minutes"]
    amount: Annotated[Finite, Field(gt=0)]
    per_step: Annotated[Finite, Field(gt=0)]
    steps: Size

    @property
    def told(self) -> str:
        each = f"{self.per_step:.4g} FLOP" if self.setting == "flop" else f"{1e3 * self.per_step:.4g} ms"
        return f"train.{self.setting}: {self.amount:.12g} is {self.steps:,} steps of {each}"


class RunFile(Record):
    """`run.json`: what a run was started with. Written once."""

    schema_: Schema = Field(alias="schema")
    id: str
    created: str
    name: str
    variant: Annotated[str, Field(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,99}\z")]
    parameters: Count
    data: DataFacts
    command: list[Raw] = []
    overrides: list[Raw] = []
    threads: Size | None = None
    """That products are spread over on a CPU, in whose order sums are added; None of runs of older versions."""
    versions: dict[str, str | None] = {}
    platform: str = ""
    devices: list[str] = []
    processes: Size = 1
    """That the devices were spread over; see `system/hosts.py`."""
    git: Git | None = None
    code: Code | None = None
    from_run: Origin | None = None
    experiment: Sha256 | None = None
    """The seal of the config, see `runs/seal.py`."""
    sweep: CellOf | None = None
    budget: Budget | None = None
    """None of a run whose length was given in steps or epochs."""

    @property
    def identity(self) -> str | None:
        """Config, data and the weights that it started from, by their hashes: what numbers, samplers and unfinished work bear
        that are of this run. None of runs of older versions, which keep no seal."""
        if self.experiment is None:
            return None
        start = "" if self.from_run is None else f" from {self.from_run.seal}"
        return f"{self.experiment} on {self.data.fingerprint}{start}"


class StateFile(Record):
    """`state.json`: how far a run is. Written again and again."""

    schema_: Schema = Field(alias="schema")
    state: Literal["created", "running", "completed", "interrupted", "failed", "diverged", "crashed"]
    step: Count
    best_step: Count | None = None
    best_value: Finite | None = None
    reason: str | None = None
    seconds: Annotated[Finite, Field(ge=0)] | None = None
    """Of training steps up to `step`, over all sittings, without what is compiled, measured and saved between them; None of runs
    of older versions, as all that follows."""
    peak_bytes: Count | None = None
    """The most memory that the process of the last sitting has had; on an accelerator that of the device."""
    flop_per_step: Annotated[Finite, Field(ge=0)] | None = None
    """See `core/flop.py`."""


class Progressed(Record):
    """How far a run was when a checkpoint was written, see `training.loop.LoopState`."""

    step: Count
    best_step: Count | None
    best_value: Finite | None
    stale: Count
    evaluated: Count
    seconds: Annotated[Finite, Field(ge=0)] | None = None


class Beside(Record):
    """What a training keeps beside the state in a checkpoint."""

    progressed: Progressed
    metrics_offset: Count


class Leaf(Record):
    path: str
    shape: list[Count]
    dtype: str
    sha256: Sha256


class FileFacts(Record):
    size: Count
    sha256: Sha256


def _inside(name: str) -> str:
    """The name of a file below a checkpoint's folder, which does not lead out of it."""
    parts = name.split("/")
    if not name or len(name) > 1024 or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError("leads out of the checkpoint's folder")
    return name


def _below(name: str) -> str:
    """The name of a file below a run's folder, of bytes that need not be UTF-8."""
    try:
        return _path(_inside(name))
    except ValueError:
        raise ValueError("has a name that leads out of the run's folder") from None


class Commit(Record):
    """`checkpoints/<step>.commit.json`. `extra` is what a training keeps beside the arrays."""

    schema_: int = Field(alias="schema")
    step: Count
    files: dict[Annotated[str, AfterValidator(_inside)], FileFacts]
    leaves: list[Leaf]
    extra: dict[str, Any]
    seal: Sha256


class ArchivedRun(Record):
    """A run in an archive: its folders, and size and hash of each of its files, by names below its own folder."""

    id: RunId
    folders: list[Annotated[Raw, AfterValidator(_below)]]
    files: dict[Annotated[Raw, AfterValidator(_below)], FileFacts]


class Manifest(Record):
    """`aecli-archive.json`, the first file of an archive."""

    schema_: Schema = Field(alias="schema")
    runs: Annotated[list[ArchivedRun], Field(min_length=1, max_length=10_000)]


class Number(Record):
    """A metric in `eval/<split>.json`, see `measures.metric.Recorded`."""

    value: Finite | None
    standard_error: Finite | None
    n: Count
    unit: str
    better: Literal["lower", "higher"] | None
    baselines: dict[str, Finite]
    protocol: dict[str, Any]
    evaluator: str
    note: str | None = None
    difference_errors: dict[str, Finite] = {}


MOST_TAGS = 100
MOST_NOTE = 10_000
"""Letters."""
Tag = Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,49}\z")]


def _note(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_NOTE:
        raise ValueError(f"is no text of at most {MOST_NOTE:,} letters")
    return value


class Labels(Record):
    """`labels.json`: what somebody wants to remember of a run."""

    schema_: Schema = Field(alias="schema", default=SCHEMA)
    tags: Annotated[list[Tag], Field(max_length=MOST_TAGS)] = []
    note: Annotated[Any, AfterValidator(_note)] | None = None


class Row(Record):
    """A line of `metrics.jsonl`: where in the training, and numbers by name."""

    split: str
    step: Count
    epoch: Annotated[Finite, Field(ge=0)]

    @property
    def values(self) -> dict[str, float]:
        """The numbers of the row that are no count of its own, and nothing of the optimizer: what a line has room for."""
        extra = self.model_extra or {}
        return {name: float(value) for name, value in extra.items() if not _is_aside(name) and _is_number(value)}

    @property
    def seconds(self) -> float | None:
        """Of training until its step; None in rows of older versions."""
        value: Any = (self.model_extra or {}).get("seconds")
        return float(value) if _is_number(value) else None


def _is_aside(name: str) -> bool:
    """Of several networks each has a rate and norms of its own, whose names begin with that of the network."""
    return name in ("steps", "seconds") or name.endswith(("learning_rate", "gradient_norm", "update_norm"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST**4 and math.isfinite(value)


def validated(form: type[R], value: Any) -> R:
    """A value of JSON in one of the forms above. Raises Unreadable, naming the first key at fault."""
    if not isinstance(value, dict):
        raise Unreadable("it is no JSON object")
    try:
        return form.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        if what == first["msg"]:  # pydantic's own words
            what = f"is wrong: {what[:1].lower()}{what[1:]}"
        raise Unreadable(f"'{where}' {what}") from None
