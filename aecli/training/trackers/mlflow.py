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
    anew, what was there is deleted as MLflow deletes: out of sight."""

    def __init__(self, place: Place) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when the package is imported
        self._entities = import_module("mlflow.entities")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = f"sqlite:///{place.folder.absolute() / 'mlflow.db'}"
        self._client = import_module("mlflow.tracking").MlflowClient(tracking_uri=uri, registry_uri=uri)
        known = self._client.get_experiment_by_name(place.run_id)
        artifacts = (place.folder.absolute() / "artifacts").as_uri()
        experiment = known.experiment_id if known is not None else self._client.create_experiment(place.run_id, artifacts)
        there = self._client.search_runs([experiment], f"attributes.run_name = '{place.part}'")
        if place.part == "training":
            for old in there:
                self._client.delete_run(old.info.run_id)
            there = []
        self._id = there[0].info.run_id if there else self._client.create_run(experiment, run_name=place.part).info.run_id

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
