"""Where the rows of a training go: `metrics.jsonl`, and the trackers that the config asks for.

`metrics.jsonl` is the record, and a training that cannot write it ends. A tracker shows the same rows elsewhere: when a run goes
on, what it holds of the training is written anew from the rows that are kept, so that it has all of them, and none of steps that
are done again. One that fails is given up with a warning.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aecli.config import values, yamlfile
from aecli.errors import SettingError
from aecli.runs.directory import Run
from aecli.system.files import make_folder

if TYPE_CHECKING:
    from PIL.Image import Image

NEEDS = {
    "tensorboard": ("tensorboardX",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
"""The packages of each tracker, in the extra of its name, which its module in `trackers/` and its folder in a run have, too."""


class Writer(Protocol):
    """What is told of a run while it trains, and of the pictures that are drawn from it."""

    def config(self, settings: Mapping[str, Any]) -> None:
        """The resolved config, as blocks of settings."""
        ...

    def row(self, row: Mapping[str, Any], at: float) -> None:
        """A row of metrics, made `at` this time, in seconds since 1970."""
        ...

    def picture(self, name: str, picture: Image, step: int) -> None: ...

    def close(self) -> None: ...


class Place(NamedTuple):
    """What a tracker writes and where: the `part` of a run, its `training` or its `pictures`. Different processes may write
    them at once, so neither rewrites what the other has: each has files, or a run in a database, of its own."""

    folder: Path
    run_id: str
    part: str


def check_installed(trackers: Sequence[str]) -> None:
    """Raises SettingError for a tracker whose package is not installed."""
    for name in trackers:
        for package in NEEDS[name]:
            if find_spec(package) is None:
                message = f"{package} is not installed, and {name} needs it"
                fix = f"pip install 'aecli[{name}]', or go without: --set train.trackers=[]"
                raise SettingError(("train", "trackers"), "not-installed", message, help=fix)


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by the names that trackers show them under, such as `train/loss`; the step is their place."""
    return {f"{row['split']}/{name}": value for name, value in row.items() if name not in ("split", "step")}


class Tracked:
    """A tracker that ends nothing: what it raises is told once, with what has all that it misses (`kept`), and then it is left
    alone. Packages of others raise what they like."""

    def __init__(self, name: str, place: Place, warn: Callable[[str], None], kept: str) -> None:
        self._name, self._warn, self._kept = name, warn, kept
        self._tracker: Writer | None = None
        self._try(lambda: self._open(place))

    def _open(self, place: Place) -> None:
        make_folder(place.folder)
        self._tracker = importlib.import_module(f"aecli.training.trackers.{self._name}").open_tracker(place)

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:
            given_up, self._tracker = self._tracker, None
            self._warn(f"{self._name} is written no more, and {self._kept}: {type(error).__name__}: {error}")
            if given_up is not None:
                with contextlib.suppress(Exception):
                    given_up.close()

    def config(self, settings: Mapping[str, Any]) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: tracker.config(settings))

    def row(self, row: Mapping[str, Any], at: float) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: tracker.row(row, at))

    def picture(self, name: str, picture: Image, step: int) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: tracker.picture(name, picture, step))

    def close(self) -> None:
        if (tracker := self._tracker) is not None:
            self._try(tracker.close)


class Rows:
    """Takes the rows of a run that is being trained: into `metrics.jsonl`, then to its trackers, which begin with those that are
    there."""

    def __init__(self, run: Run, trackers: Sequence[str], warn: Callable[[str], None]) -> None:
        self._run = run
        kept = "metrics.jsonl has every row"
        places = {name: Place(run.path / name, run.id, "training") for name in trackers}
        self._trackers: list[Writer] = [Tracked(name, place, warn, kept) for name, place in places.items()]
        if self._trackers:
            self._begin()

    def _begin(self) -> None:
        settings = values.as_lists(yamlfile.parse(self._run.resolved_config(), "config.resolved.yaml").data)
        rows, now = self._run.rows(), time.time()
        last = max((row.seconds or 0.0 for row in rows), default=0.0)
        for tracker in self._trackers:
            tracker.config(settings)
            for row in rows:
                tracker.row(row.as_json(), now - last + (row.seconds or 0.0))

    def append(self, row: Mapping[str, Any]) -> None:
        self._run.append_metrics(row)
        now = time.time()
        for tracker in self._trackers:
            tracker.row(row, now)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()


def add_picture(run: Run, trackers: Sequence[str], name: str, picture: Image, step: int, warn: Callable[[str], None]) -> None:
    """A picture of a checkpoint, for each tracker of its run."""
    for tracker in trackers:
        place = Place(run.path / tracker, run.id, "pictures")
        with contextlib.closing(Tracked(tracker, place, warn, "the picture is in its file")) as tracked:
            tracked.picture(name, picture, step)
