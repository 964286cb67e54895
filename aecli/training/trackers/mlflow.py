"""MLflow in a file of SQLite, `mlflow/mlflow.db`, with pictures in `mlflow/artifacts`: no server, and nothing is reported."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from aecli.training.writers import Place, scalars

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PARAM = 6000
"""Letters of a value; MLflow refuses more."""
AT_ONCE = 100
"""Params of a call; MLflow refuses more."""


class Mlflow:
    """The training and the pictures are two runs of an experiment, which is called as the run is. Of a training that is written
    anew, what was there is deleted as MLflow deletes: out of sight. One file has both, so that one command shows them: a writer
    waits for the other, by MLflow's own `busy_timeout` for up to 20 s."""

    def __init__(self, place: Place) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when the package is imported
        self._entities = import_module("mlflow.entities")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = f"sqlite:///{place.folder.absolute() / 'mlflow.db'}"
        self._client = import_module("mlflow.tracking").MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiment = self._experiment(place)
        every = [known.experiment_id for known in self._client.search_experiments()]
        there = self._client.search_runs(every, f"attributes.run_name = '{place.part}'")
        if place.part == "training":
            for old in there:
                self._client.delete_run(old.info.run_id)
            there = []
        there = [old for old in there if old.info.experiment_id == experiment]
        self._id = there[0].info.run_id if there else self._client.create_run(experiment, run_name=place.part).info.run_id

    def _experiment(self, place: Place) -> str:
        """The id of the experiment whose pictures lie in the folder. MLflow keeps their absolute place for ever: in one that was
        made before the run was moved, new ones would be written where it lay."""
        folder = place.folder.resolve()
        artifacts = (folder / "artifacts").as_uri()
        there = self._client.search_experiments()
        for known in there:
            if known.artifact_location == artifacts:
                return known.experiment_id
        is_taken = any(known.name == place.run_id for known in there)
        name = f"{place.run_id}, moved to {folder.parent}" if is_taken else place.run_id
        return self._client.create_experiment(name, artifacts)

    def config(self, settings: Mapping[str, Any]) -> None:
        params = [self._entities.Param(name, str(value)[:MOST_PARAM]) for name, value in _flat(settings, "")]
        for first in range(0, len(params), AT_ONCE):
            self._client.log_batch(self._id, params=params[first : first + AT_ONCE])

    def row(self, row: Mapping[str, Any], at: float) -> None:
        metrics = [self._entities.Metric(name, value, round(1000 * at), row["step"]) for name, value in scalars(row).items()]
        self._client.log_batch(self._id, metrics=metrics)

    def picture(self, name: str, picture: Image, step: int) -> None:
        self._client.log_image(self._id, picture, key=name, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


def _flat(settings: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def open_tracker(place: Place) -> Mlflow:
    return Mlflow(place)
