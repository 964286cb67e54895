"""Weights & Biases in its offline mode: folders `wandb/offline-run-*`, which nobody sends but `wandb sync`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aecli.system.files import remove_tree
from aecli.training.writers import Place, scalars

if TYPE_CHECKING:
    from PIL.Image import Image


class Wandb:
    """The training and the pictures are two runs of a group, since two processes cannot write one."""

    def __init__(self, place: Place) -> None:
        name = place.run_id if place.part == "training" else f"{place.run_id}-{place.part}"
        if place.part == "training":
            for old in place.folder.glob(f"offline-run-*-{name}"):
                remove_tree(old)
        with _inside(place.folder / ".own"):
            self._wandb = import_module("wandb")
            settings = self._wandb.Settings(
                mode="offline",
                root_dir=str(place.folder.parent),  # the folder `wandb` in it is the package's own idea
                symlink=False,
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                save_code=False,
                disable_job_creation=True,
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            )
            self._run = self._wandb.init(
                project="aecli",
                id=name,
                name=name,
                group=place.run_id,
                job_type=place.part,
                settings=settings,
                reinit="create_new",
            )
        for path in place.folder.rglob("*"):
            if path.is_symlink():  # the process that it starts links its log in spite of `symlink`, and a run holds no links
                path.unlink()

    def config(self, settings: Mapping[str, Any]) -> None:
        self._run.config.update(dict(settings))

    def row(self, row: Mapping[str, Any], at: float) -> None:
        self._run.log(scalars(row), step=row["step"])

    def picture(self, name: str, picture: Image, step: int) -> None:
        self._run.log({name: self._wandb.Image(picture)}, step=step)

    def close(self) -> None:
        self._run.finish()


@contextlib.contextmanager
def _inside(folder: Path) -> Generator[None]:
    """What the package and the process that it starts keep lies in the run, and they report to nobody."""
    ours = {f"WANDB_{kind}_DIR": str(folder) for kind in ("CACHE", "CONFIG", "DATA", "ARTIFACT")}
    ours |= {"WANDB_ERROR_REPORTING": "false", "WANDB_MODE": "offline"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def open_tracker(place: Place) -> Wandb:
    return Wandb(place)
