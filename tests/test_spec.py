"""What a run writes down about its data, and what it reads of runs that wrote less."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fit import dataset, experiment, new_run

from aecli.cli.tables import show_run
from aecli.core.model import Batch, Spec
from aecli.runs.directory import Run
from aecli.runs.trained import load

OLD = Path(__file__).parent / "old_runs" / "runs"


@pytest.fixture
def old(tmp_path: Path) -> Run:
    [found] = OLD.glob("digits-*")
    return Run(Path(shutil.copytree(found, tmp_path / found.name)))


def test_data_of_which_nothing_else_is_said_are_images() -> None:
    assert Spec(*(8, 8, 1), 10) == Spec(height=8, width=8, channels=1, classes=10, kind="image")
    assert Spec(8, 8, 1, 0) != Spec(8, 8, 1, 0, "vector")


def test_a_vector_has_a_place_for_every_value() -> None:
    spec = Spec(1, 7, 1, 0, "vector")
    assert spec.size == 7 and spec.shape == (1, 7, 1)
    assert Batch.abstract(3, spec).image.shape == (3, 1, 7, 1)


def test_a_run_writes_the_kind_of_its_data(tmp_path: Path) -> None:
    run = new_run(tmp_path, experiment("variant: vae, hidden: [12], latent: 3"), dataset())
    written = run.info().as_json()["data"]["spec"]
    assert written["kind"] == "image" and Spec(**written) == dataset().spec


def test_a_run_that_does_not_say_the_kind_of_its_data_is_read(old: Run) -> None:
    assert "kind" not in old.info().as_json()["data"]["spec"]
    assert load(old, "last", print).spec == Spec(8, 8, 1, 10, "image")


def test_show_prints_the_same_with_and_without_the_kind(old: Run, capsys: pytest.CaptureFixture[str]) -> None:
    show_run(old)
    before = capsys.readouterr().out
    info = old.info().as_json()
    info["data"]["spec"]["kind"] = "image"
    (old.path / "run.json").write_text(json.dumps(info))
    show_run(old)
    assert capsys.readouterr().out == before and "digits 8x8x1, 1,400 train" in before
