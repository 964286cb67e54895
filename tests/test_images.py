"""Pictures: rounded, whole, labelled."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aecli.sampling import pictures

pytestmark = pytest.mark.portable


def test_intensities_are_rounded_not_truncated() -> None:
    assert pictures.to_uint8(np.array([0.0, 0.499, 0.5 / 255, 0.9999, 1.0, -0.2, 1.3])).tolist() == [0, 127, 0, 255, 255, 0, 255]
    assert np.array_equal(pictures.to_uint8(np.arange(256) / 255), np.arange(256))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_pixel_of_every_image(channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 256, (n, 8, 8, channels), np.uint8) for n in (5, 3)]
    pictures.save(tmp_path / "g.png", pictures.grid(rows))
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / "g.png").read_bytes())))
    picture = picture.reshape(*picture.shape[:2], channels)
    zoom = 7  # 56 / 8
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = 4 + r * 60, 4 + c * 60
            assert np.array_equal(picture[top : top + 56 : zoom, left : left + 56 : zoom], image)


def test_labels_stand_beside_their_rows_and_cover_no_image() -> None:
    row = np.zeros((2, 8, 8, 1), np.uint8)
    plain, labelled = pictures.grid([row, row]), pictures.grid([row, row], ["original", "reconstruction"])
    margin = labelled.width - plain.width
    assert margin > 60
    left = np.asarray(labelled)[:, :margin]
    assert (left < 128).any(), "ink"
    assert np.array_equal(np.asarray(labelled)[:, margin:], np.asarray(plain))


def test_letters_that_the_font_lacks_are_replaced() -> None:
    row = np.zeros((1, 8, 8, 1), np.uint8)
    given, plain = ["café", "Küche", "Straße", "猫"], ["cafe", "Kuche", "2: Stra?e", "3: ?"]
    for drawn, expected in ((given, plain), (["cat", "dog"], ["cat", "dog"])):
        assert np.array_equal(
            np.asarray(pictures.grid([row] * len(drawn), drawn)), np.asarray(pictures.grid([row] * len(drawn), expected))
        )
        heads = pictures.grid([np.repeat(row, len(drawn), 0)], heads=drawn)
        assert np.array_equal(np.asarray(heads), np.asarray(pictures.grid([np.repeat(row, len(drawn), 0)], heads=expected)))


def test_large_images_are_not_enlarged() -> None:
    assert pictures.grid([np.zeros((1, 200, 100, 1), np.uint8)]).size == (108, 208)
