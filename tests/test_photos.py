"""`photos`: what is held out is apart from what is trained on, and the photographs are those that are named."""

from __future__ import annotations

import shutil
from importlib import resources
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
from aecli.data.sources import photos
from aecli.data.sources.photos import BANDS, FILES, HEIGHT, SIDE, WIDTH, photograph
from aecli.errors import DataError


def covered(split: str) -> np.ndarray:
    """How many patches of a split hold each pixel of a photograph."""
    found = np.zeros((HEIGHT, WIDTH), int)
    for top, left in BANDS[split].corners():
        found[top : top + SIDE, left : left + SIDE] += 1
    return found


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_no_pixel_of_a_split_is_within_a_patch_of_another_split(one: str, other: str) -> None:
    columns = [np.flatnonzero(covered(split).any(0)) for split in (one, other)]
    between = np.abs(columns[0][:, None] - columns[1]).min() - 1
    assert between >= SIDE, "pixels that belong to neither"


def test_held_out_patches_do_not_overlap_and_all_are_inside() -> None:
    assert all(covered(split).max() == 1 for split in ("validation", "test"))
    for split, band in BANDS.items():
        assert covered(split).sum() == len(band.corners()) * SIDE**2


def test_patches_are_of_the_photographs_and_labelled_by_them() -> None:
    said: list[str] = []
    data = open_dataset(Data(name="photos", validation=0.3), said.append)
    assert data.class_names == ("china", "flower") and data.spec.shape == (SIDE, SIDE, 3)
    assert any("data.validation is not used" in line for line in said)
    whole = [photograph(name) for name in FILES]
    for split, band in BANDS.items():
        images, labels = data.split(split).all()
        places = product(range(2), band.corners())
        known = {whole[label][top : top + SIDE, left : left + SIDE].tobytes(): label for label, (top, left) in places}
        assert len(images) == len(known), split
        assert [known[image.tobytes()] for image in images] == labels.tolist(), split
    assert open_dataset(Data(name="photos", tier="stream")).fingerprint == data.fingerprint


def test_another_file_of_that_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with resources.as_file(resources.files("sklearn.datasets").joinpath("images")) as images:
        folder = shutil.copytree(images, tmp_path / "images").parent
    monkeypatch.setattr(photos.resources, "files", lambda package: folder)
    assert photograph("china").shape == (HEIGHT, WIDTH, 3)
    (folder / "images" / "flower.jpg").write_bytes((folder / "images" / "china.jpg").read_bytes())
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"photos cannot be prepared.*flower\.jpg"):
        open_dataset(Data(name="photos"))
