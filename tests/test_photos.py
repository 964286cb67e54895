"""`photos`: what is held out is apart from what is trained on, and the photographs are those that are named."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
from aecli.data.sources import photographs
from aecli.data.sources.photographs import BANDS, FILES, HEIGHT, SIDE, WIDTH, photograph
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
    folder = shutil.copytree(photographs.images(), tmp_path / "images")
    monkeypatch.setattr(photographs, "images", lambda: folder)
    assert photograph("china").shape == (HEIGHT, WIDTH, 3)
    (folder / "flower.jpg").write_bytes((folder / "china.jpg").read_bytes())
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"photos cannot be prepared.*flower\.jpg"):
        open_dataset(Data(name="photos"))


def test_held_out_patches_know_the_region_that_they_are_of() -> None:
    """Whatever their order and size: patches of a region lie side by side in one photograph."""
    whole = [photograph(name) for name in FILES]
    data, small = (open_dataset(Data(name="photos", size=size)) for size in (None, (16, 16)))
    for split, count in (("test", 20), ("validation", 10)):
        band, (images, labels) = BANDS[split], data.split(split).all()
        places = {
            whole[label][top : top + SIDE, left : left + SIDE].tobytes(): (top, left)
            for label, (top, left) in product(range(2), band.corners())
        }
        at = np.array([places[image.tobytes()] for image in images])
        blocks = data.blocks[split]
        assert len(blocks) == len(images) and len(np.unique(blocks)) == count
        for block in np.unique(blocks):
            inside = at[blocks == block]
            assert len(set(labels[blocks == block])) == 1
            assert (np.ptp(inside, axis=0) <= (photographs.REGION - 1) * SIDE).all() and len(inside) >= 4
        assert np.array_equal(small.blocks[split], blocks)


def test_decoded_patches_can_do_without_the_photographs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert open_dataset(Data(name="photos")).blocks
    assert open_dataset(Data(name="photos:1.0.0")).blocks.keys() == {"validation", "test"}
    monkeypatch.setattr(photographs, "images", lambda: tmp_path)
    said: list[str] = []
    assert not open_dataset(Data(name="photos"), said.append).blocks
    assert "photos: images of validation and test are taken for independent: where they were cut from is not known" in said
    assert not open_dataset(Data(name="digits")).blocks
