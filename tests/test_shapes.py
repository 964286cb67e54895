"""The built-in sets hold no image twice, and what is in two splits of any data is counted."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_fashion
from fit import blobs, dataset
from process import TINY, called

from aecli.config.schema import Data
from aecli.data import duplicates
from aecli.data.binarize import draw_fixed
from aecli.data.dataset import Dataset, open_dataset
from aecli.data.rows import ArrayRows
from aecli.data.sources import factors
from aecli.data.sources.registry import listing
from aecli.system.folders import cache_root


def images_of(data: Dataset, *splits: str) -> list[bytes]:
    return [image.tobytes() for split in splits for image in data.split(split).all()[0]]


@pytest.mark.parametrize("name", ["shapes", "digits", "photos"])
def test_no_image_of_a_built_in_set_is_there_twice(name: str) -> None:
    """Whatever the config holds out for validation: a cut between two images cannot part equal ones."""
    data = open_dataset(Data(name=name, validation=0.17))
    every = images_of(data, "train", "validation", "test")
    assert len(set(every)) == len(every) and duplicates.note(data) is None


def test_shapes_hold_every_image_that_the_factors_give() -> None:
    data = open_dataset(Data(name="shapes", validation=0))
    assert len(data.train) + len(data.test) == len(factors._known()) == 5120
    assert factors.of(data.test) is not None
    for split, share in (("train", 0.9), ("test", 0.1)):
        assert np.bincount(data.split(split).all()[1]).tolist() == [share * n for n in (1280, 1280, 2560)], split


def test_the_first_version_of_shapes_is_there_for_the_runs_that_were_trained_on_it(tmp_path: Path) -> None:
    from aecli.data.sources.shapes import Shapes

    made = Shapes(version=factors.VERSIONS[1], data_dir=str(tmp_path))._split_generators(None)
    train, test = ([example["image"] for _, example in made[split]] for split in ("train", "test"))
    assert (len(train), len(test)) == (6912, 768) and sum(image in set(train) for image in test) == 451


@pytest.mark.parametrize("name", ["shapes", "digits", "photos", pytest.param("fashion_mnist", marks=needs_fashion)])
def test_what_the_list_says_of_a_built_in_set_is_true(name: str) -> None:
    data = open_dataset(Data(name=name, validation=0))
    said = f"{len(data.train):,} train and {len(data.test):,} test, {data.spec.classes} classes"
    colour = "gray" if data.spec.channels == 1 else "colour"
    assert listing()[name].startswith(f"{data.spec.height}x{data.spec.width} {colour}, {said}")


def shared(train: int, validation: int, test: int, **more: Any) -> Dataset:
    """So many images of each held-out split are in the train split of so many images too."""
    data = dataset(train, 40)
    first = data.train.all()[0]

    def rows(n: int, seed: int) -> ArrayRows:
        images = blobs(40, seed=seed).images.copy()
        images[5 : 5 + n] = first[3 : 3 + n]
        return ArrayRows(images, np.zeros(40, np.int32))

    name = f"{validation} and {test} of {train}"
    return dataclasses.replace(data, validation=rows(validation, 8), test=rows(test, 9), fingerprint=name, **more)


def test_images_in_two_splits_are_counted_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shared(90, 7, 31)
    monkeypatch.setattr(duplicates, "PIECE_BYTES", 64 * 11)  # so that a split is read in several pieces
    assert duplicates.count(data) == {"validation": 7, "test": 31}
    assert duplicates.note(shared(91, 0, 0)) is None
    assert str(duplicates.note(data)).startswith("7 of the 40 validation images and 31 of the 40 test images are equal")
    validation, test = draw_fixed([data.validation, data.test])
    drawn = dataclasses.replace(
        data, validation=validation, test=test, drawn_from={"validation": data.validation, "test": data.test}
    )
    assert duplicates._count(drawn) == {"validation": 7, "test": 31}, "of the images, not of a draw of them"
    monkeypatch.setattr(duplicates, "_digests", lambda rows: pytest.fail("it was counted before"))
    assert duplicates.count(data) == {"validation": 7, "test": 31}


def test_a_damaged_or_missing_cache_costs_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shared(92, 1, 2)
    before = set((cache_root() / "shared").glob("duplicates-*"))
    duplicates.count(data)
    [kept] = set((cache_root() / "shared").glob("duplicates-*")) - before
    kept.write_bytes(kept.read_bytes()[:40])
    assert duplicates.count(data) == {"validation": 1, "test": 2}
    monkeypatch.setenv("AECLI_DATA_DIR", "/proc/nowhere")
    assert duplicates.count(data) == {"validation": 1, "test": 2}


def test_as_many_images_as_fashion_mnist_has_are_counted_in_a_moment() -> None:
    many = ArrayRows(np.random.default_rng(0).integers(0, 256, (60_000, 28, 28, 1), np.uint8), np.zeros(60_000, np.int32))
    data = dataclasses.replace(dataset(), train=many, validation=many.part(0, 0), test=many.part(50_000, 60_000))
    begun = time.process_time()
    assert duplicates._count(data) == {"validation": 0, "test": 10_000}
    assert time.process_time() - begun < 2, "0.2 s on an idle core"


def test_a_training_tells_and_keeps_how_many_held_out_images_it_trains_on(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", image=image, test_image=np.concatenate([image[:5], 255 - image[5:12]]))
    config = TINY.replace("name: digits, batch_size: 32", "name: npz, path: x.npz, batch_size: 16, validation: 0")
    (tmp_path / "c.yaml").write_text(config.replace("steps: 40", "steps: 2"))
    done = called("train", "c.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "warning: 5 of the 12 test images are equal to train images" in done.stderr
    kept = json.loads((tmp_path / "runs" / done.stdout.strip() / "run.json").read_text())["data"]["duplicates"]
    assert kept == {"validation": 0, "test": 5}
