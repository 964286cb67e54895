"""Folders of images as people have them: what is read is what a person would see, and nothing goes wrong without a word."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_files import everything_in, gray, labels_by_name, opened, rows_of, save, write_images
from PIL import Image, ImageCms, ImageOps
from process import called

from aecli.config.load import parse
from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data.dataset import open_dataset
from aecli.data.sources.decode import COMPOSITED, DEEP, HIGH_BYTE, Look, decode, heard
from aecli.data.sources.folder import FolderSource
from aecli.data.sources.lister import natural
from aecli.data.sources.registry import peek
from aecli.errors import DataError, UsageError
from aecli.sampling.beside import known_region
from aecli.verbs import check

pytestmark = pytest.mark.portable
LOOK = Look(None, None, (255, 255, 255), None)


def test_a_folder_gives_labels_and_a_shuffled_split(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"cat": 12, "dog": 18})
    data = Data(name="folder", path=str(tmp_path / "own"), batch_size=2, validation=4, test=0.2)
    dataset = open_dataset(data)
    assert dataset.spec == Spec(6, 5, 1, 2) == peek(data).spec
    assert [len(dataset.split(s)) for s in ("train", "validation", "test")] == [20, 4, 6]
    labels = np.concatenate([dataset.split(s).take(np.arange(len(dataset.split(s))))[1] for s in ("train", "validation", "test")])
    assert np.bincount(labels).tolist() == [12, 18]
    assert 0 < labels[:20].mean() < 1
    write_images(tmp_path / "own", {"cat": 13})
    assert open_dataset(data).fingerprint != dataset.fingerprint, "a new file is another data set"


def test_a_folder_with_train_and_test_keeps_them(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own" / "train", {"a": 5, "b": 5}, mode="RGB", kind="jpg")
    write_images(tmp_path / "own" / "test", {"a": 3}, mode="RGB")
    dataset = open_dataset(Data(name="folder", path=str(tmp_path / "own"), batch_size=2, validation=0))
    assert dataset.spec == Spec(6, 5, 3, 2) and len(dataset.train) == 10 and len(dataset.test) == 3


def test_images_of_mixed_sizes_are_refused_unless_resized(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"a": 6})
    write_images(tmp_path / "own", {"b": 6}, size=(9, 9), mode="RGB")
    with pytest.raises(DataError, match="images differ in size and colour") as caught:
        open_dataset(Data(name="folder", path=str(tmp_path / "own"), batch_size=2))
    for shape, example in (("6x5 gray", "a/00.png"), ("9x9 colour", "b/00.png")):
        assert f"6 of {shape}, such as {tmp_path / 'own' / example}" in caught.value.message
    assert "data.size" in str(caught.value.help) and "data.channels" in str(caught.value.help)
    with pytest.raises(DataError, match="images differ in colour:") as caught:
        open_dataset(Data(name="folder", path=str(tmp_path / "own"), batch_size=2, size=(8, 7)))
    assert "data.size" not in str(caught.value.help) and "data.channels" in str(caught.value.help)
    assert everything_in(fresh / "decoded") == []
    dataset = open_dataset(Data(name="folder", path=str(tmp_path / "own"), batch_size=2, size=(8, 7), channels=1))
    assert dataset.spec == Spec(8, 7, 1, 2)


def without_colours() -> bytes:
    """A PNG of indices into a palette that is not there, at which an assertion of Pillow's fails."""
    file = io.BytesIO()
    Image.fromarray(gray(1)).convert("P").save(file, "PNG")
    data = file.getvalue()
    start = data.index(b"PLTE") - 4
    return data[:start] + data[start + 12 + int.from_bytes(data[start : start + 4], "big") :]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 30, without_colours()])
def test_a_broken_image_is_named(fresh: Path, tmp_path: Path, content: bytes) -> None:
    write_images(tmp_path / "own", {"a": 6})
    (tmp_path / "own" / "a" / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        open_dataset(Data(name="folder", path=str(tmp_path / "own"), batch_size=2))


def test_an_empty_or_missing_folder_is_refused(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no PNG, JPEG"):
        open_dataset(Data(name="folder", path=str(tmp_path / "empty")))
    with pytest.raises(DataError, match="nowhere does not exist"):
        open_dataset(Data(name="folder", path=str(tmp_path / "nowhere")))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file, not a folder") as caught:
        open_dataset(Data(name="folder", path=str(tmp_path / "file")))
    assert "data.name: npz" in str(caught.value.help)


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_upright(fresh: Path, tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(gray(1, (16, 24)))
    for i in range(2):
        save(tmp_path / "own" / f"{i}.{kind}", image, exif=exif)
    dataset, told = opened("folder", tmp_path / "own")
    with (tmp_path / "own" / f"0.{kind}").open("rb") as raw, Image.open(raw) as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    assert np.array_equal(rows_of(dataset, "train")[0][0, ..., 0], expected)
    assert ("EXIF rotated 2" in told) == (orientation != 1)


def transparent(mode: str) -> tuple[Image.Image, dict[str, Any]]:
    """An image of a mode whose left half is clear over colours that nobody is to see."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (6, 8, 3), np.uint8)
    alpha = np.full((6, 8), 255, np.uint8)
    alpha[:, :4] = 0
    rgba = Image.fromarray(np.dstack([colours, alpha]))
    if mode == "P":
        return rgba.convert("RGB").quantize(8), {"transparency": 2}
    if mode == "L key":
        levels = colours[..., 0].clip(1)
        levels[:, :4] = 0
        return Image.fromarray(levels), {"transparency": 0}
    if mode == "RGB key":
        colours[:, :4] = 7
        return Image.fromarray(colours), {"transparency": (7, 7, 7)}
    if mode == "I;16 key":
        deep = colours[..., 0].astype(np.uint16) * 257 + 1
        deep[:, :4] = 0
        return Image.fromarray(deep), {"transparency": 0}
    return rgba.convert(mode), {}


def test_gray_of_16_bits_with_transparency_stays_gray(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (6, 5, 2)).astype(">u2")  # gray and alpha, which Pillow does not write

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + line.tobytes() for line in deep)
    header = struct.pack(">IIBBBBB", 5, 6, 16, 4, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    with heard():
        read = decode(file, "deep.png", LOOK)
    level, alpha = deep[..., :1] / 65535, deep[..., 1:] / 65535
    assert read.image.shape == (6, 5, 1) and np.abs(read.image - 255 * (level * alpha + 1 - alpha)).max() <= 2
    assert set(read.notes) == {HIGH_BYTE, COMPOSITED}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L key", "RGB key", "I;16 key"])
@pytest.mark.parametrize("background", ["white", 10, (10, 200, 30), "#00ff00"])
def test_what_is_transparent_shows_the_background(tmp_path: Path, mode: str, background: Any) -> None:
    image, more = transparent(mode)
    path = save(tmp_path / "a.png", image, **more)
    look = Look.of(Data(name="folder", path="x", background=background))
    with heard():
        found = decode(path, "a", look)
    assert any(note == COMPOSITED for note in found.notes)
    if mode != "P":
        clear = found.image[:, :4].reshape(-1, found.image.shape[-1])
        behind = look.background if found.image.shape[-1] == 3 else look.background[:1]
        assert (clear == np.array(behind)[None]).all()
    if mode in ("RGBA", "P"):
        with Image.open(path) as file:
            layer = file.convert("RGBA")
        expected = Image.alpha_composite(Image.new("RGBA", layer.size, (*look.background, 255)), layer).convert("RGB")
        assert np.array_equal(found.image, np.asarray(expected))


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_gray_of_16_bits_is_scaled(fresh: Path, tmp_path: Path, kind: str) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (6, 5)).astype(np.uint16)
    deep[0, 0] = 65535
    for i in range(2):
        save(tmp_path / "own" / f"{i}.{kind}", deep)
    dataset, told = opened("folder", tmp_path / "own")
    assert np.array_equal(rows_of(dataset, "train")[0][0, ..., 0], np.rint(deep / 257))
    assert DEEP in told and "65535 of 65535" in told


def test_big_endian_and_wide_gray(tmp_path: Path) -> None:
    deep = Image.fromarray(np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000)
    buffer = io.BytesIO()
    Image.frombytes("I;16B", deep.size, np.asarray(deep).astype(">u2").tobytes()).save(buffer, "TIFF")
    with heard():
        assert np.array_equal(decode(buffer.getvalue(), "a", LOOK).image[..., 0], np.rint(np.asarray(deep) / 257))
        wide = save(tmp_path / "wide.tif", np.arange(30, dtype=np.int32).reshape(6, 5) * 100_000)
        with pytest.raises(DataError, match="int32 from 0 to 2900000") as caught:
            decode(wide, "wide.tif", LOOK)
        assert "data.range" in str(caught.value.help)
        floats = save(tmp_path / "float.tif", np.linspace(-2, 2, 30, dtype=np.float32).reshape(6, 5))
        with pytest.raises(DataError, match="float32 from -2 to 2"):
            decode(floats, "float.tif", LOOK)
        found = decode(floats, "float.tif", LOOK._replace(range=(-2.0, 2.0)))
    assert np.array_equal(found.image[..., 0].ravel(), np.rint(np.linspace(0, 1, 30, dtype=np.float32) * 255))


@pytest.mark.parametrize(("top", "dtype"), [(1, np.uint8), (3, np.uint8), (255, np.uint16), (4095, np.uint16)])
def test_files_of_masks_or_of_fewer_bits_are_refused_with_their_range(fresh: Path, tmp_path: Path, top: int, dtype: Any) -> None:
    values = np.random.default_rng(0).integers(0, top + 1, (6, 5)).astype(dtype)
    values[0, :2] = 0, top
    for i in range(3):
        save(tmp_path / "own" / f"{i}.png", values)
    with pytest.raises(DataError, match=f"largest value is {top} of") as caught:
        opened("folder", tmp_path / "own")
    assert f"data.range: [0, {top}]" in str(caught.value.help) and everything_in(fresh / "decoded") == []
    dataset, told = opened("folder", tmp_path / "own", range=(0.0, float(top)))
    assert np.array_equal(rows_of(dataset, "train")[0][0, ..., 0], np.rint(values / top * 255)) and "data.range" in told


def test_a_profile_that_is_not_srgb_is_converted(fresh: Path, tmp_path: Path) -> None:
    image = Image.fromarray(gray(0, (6, 5, 3)))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    with heard():
        same = decode(save(tmp_path / "a.png", image, icc_profile=srgb.tobytes()), "a", LOOK)
        bad = decode(save(tmp_path / "b.png", image, icc_profile=b"no profile"), "b", LOOK)
    assert np.array_equal(same.image, np.asarray(image)) and not same.notes
    assert np.array_equal(bad.image, np.asarray(image)) and "cannot be used" in bad.notes[0]
    lab = Image.merge("LAB", [Image.new("L", (5, 6), level) for level in (140, 200, 90)])
    with heard():
        found = decode(save(tmp_path / "c.tif", lab), "c", LOOK)
    expected = ImageCms.profileToProfile(lab, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert np.array_equal(found.image, np.asarray(expected)) and "sRGB" in found.notes[0]


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["10", "2", "1", "b", "A", "a10", "a9", "a09"]
    assert sorted(names, key=natural) == ["1", "2", "10", "A", "a09", "a9", "a10", "b"]


def test_classes_stand_in_natural_order_with_their_names(fresh: Path, tmp_path: Path) -> None:
    for n in range(1, 12):
        save(tmp_path / "own" / str(n) / "a.png", np.full((4, 4), 20 * n, np.uint8))
        save(tmp_path / "own" / str(n) / "b.png", np.full((4, 4), 20 * n, np.uint8))
    dataset, told = opened("folder", tmp_path / "own")
    assert dataset.class_names == tuple(map(str, range(1, 12)))
    images, labels = rows_of(dataset, "train")
    assert (images[:, 0, 0, 0] == 20 * (labels + 1)).all()
    assert "22 images of 11 classes (1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 1 more), 4x4 gray" in told


JUNK = (
    ".ipynb_checkpoints/x-checkpoint.png",
    "__MACOSX/x.png",
    "Thumbs.db",
    "desktop.ini",
    ".DS_Store",
    "._x.png",
    "@eaDir/x.jpg",
)


def test_what_systems_and_editors_leave_is_skipped(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"cat": 5, "dog": 6})
    clean, _ = opened("folder", tmp_path / "own")
    for name in JUNK:
        for place in (tmp_path / "own", tmp_path / "own" / "cat"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(b"no image")
    (tmp_path / "own" / "cat" / "notes.txt").touch()
    (tmp_path / "own" / "readme").touch()
    dataset, told = opened("folder", tmp_path / "own")
    assert dataset.fingerprint == clean.fingerprint and labels_by_name(dataset) == {"cat": 5, "dog": 6}
    assert "14 hidden" in told and "1 .txt" in told and "1 without an ending" in told


@pytest.mark.parametrize("kind", ["jpg", "webp", "bmp", "gif", "tiff", "JPEG"])
def test_every_usual_kind_of_file_is_read(fresh: Path, tmp_path: Path, kind: str) -> None:
    write_images(tmp_path / "own", {"cat": 3})
    write_images(tmp_path / "own", {"dog": 3}, kind=kind)
    dataset, _ = opened("folder", tmp_path / "own", channels=1)
    assert labels_by_name(dataset) == {"cat": 3, "dog": 3}
    with Image.open(tmp_path / "own" / "dog" / f"00.{kind}") as file:
        expected = np.asarray(file.convert("RGB").convert("L") if file.mode != "L" else file)
    assert expected.tobytes() in {image.tobytes() for split in ("train", "test") for image in rows_of(dataset, split)[0]}


def test_of_an_animation_the_first_frame_is_read(fresh: Path, tmp_path: Path) -> None:
    first, second = (Image.fromarray(gray(i)) for i in range(2))
    for i in range(2):
        save(tmp_path / "own" / f"{i}.gif", first, save_all=True, append_images=[second])
    dataset, told = opened("folder", tmp_path / "own", channels=1)
    assert np.array_equal(rows_of(dataset, "train")[0][0, ..., 0], np.asarray(first)) and "of several frames" in told


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        *(("train", "val", "test"), ("Training", "VALID", "testing"), ("TRAIN", "dev", "Test")),
        *(("train_images", "val_images", "test_images"), ("training_set", "ValidationSet", "test-set")),
        *(("images.train", "img_val", "data test"), ("trainset", "dev-split", "TestImgs")),
    ],
)
def test_folders_that_are_called_so_are_splits(fresh: Path, tmp_path: Path, train: str, validation: str, test: str) -> None:
    for name, n in ((train, 5), (validation, 3), (test, 2)):
        write_images(tmp_path / "own" / name, {"cat": n, "dog": n})
    dataset, told = opened("folder", tmp_path / "own", validation=0.5)
    assert [len(dataset.split(split)) for split in ("train", "validation", "test")] == [10, 6, 4]
    assert dataset.class_names == ("cat", "dog") and "data.validation is not used" in told
    shutil.rmtree(tmp_path / "own" / test)
    dataset, told = opened("folder", tmp_path / "own", test=0.2)
    assert [len(dataset.split(split)) for split in ("train", "validation", "test")] == [8, 6, 2]
    assert "no test folder" in told


def test_classes_that_train_lacks_are_told(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own" / "train", {"cat": 5})
    write_images(tmp_path / "own" / "test", {"cat": 5, "cow": 2})
    dataset, told = opened("folder", tmp_path / "own")
    assert dataset.class_names == ("cat", "cow") and "classes of test that train lacks: cow" in told


def test_a_class_may_be_called_like_a_split(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"bus": 3, "train": 4})
    with pytest.raises(DataError, match="train, which name splits") as caught:
        opened("folder", tmp_path / "own")
    assert "data.splits: none" in str(caught.value.help)
    dataset, _ = opened("folder", tmp_path / "own", splits="none")
    assert labels_by_name(dataset) == {"bus": 3, "train": 4}


ODD: dict[str, tuple[dict[str, dict[str, int]], list[str], str, dict[str, Any] | None]] = {
    "stray image": ({".": {"cat": 3, "dog": 3}}, ["preview.png"], "preview.png lies at the top", {"labels": "folders"}),
    "several depths": ({".": {"cat": 3}, "dog": {"x": 3}}, ["dog/a.png"], "several depths", {"labels": "folders"}),
    "unlabelled test": ({"train": {"a": 3}, "test": {".": 2}}, [], "without labels", {"labels": "none"}),
    "unlabelled train": ({"train": {".": 3}, "test": {"a": 2}}, [], "without labels", {"labels": "none"}),
    "unlabelled validation": ({"train": {"a": 3}, "val": {".": 2}}, [], "without labels", {"labels": "none"}),
    "one level too high": ({"set/train": {"a": 3}, "set/test": {"a": 2}}, [], "holds the splits", None),
    "splits inside of classes": ({"a/train": {".": 3}, "a/test": {".": 3}, "b/train": {".": 3}}, [], "holds the splits", None),
    "one folder around the classes": ({"set": {"cat": 3, "dog": 3}}, [], "below one sub-folder", {"labels": "folders"}),
    "a class of other files": ({".": {"cat": 3}}, ["dog/a.heic"], "its label would vanish", {"labels": "folders"}),
    "empty test": ({"train": {"a": 3}}, ["test/"], "the test split, holds no images", None),
    "empty train": ({"test": {"a": 3}}, ["train/"], "the train split, holds no images", None),
    "empty validation": ({"train": {"a": 3}}, ["valid/"], "the validation split, holds no images", None),
    "test of hidden files": ({"train": {"a": 3}}, ["test/a/._x.png"], "left out: 1 hidden", None),
    "no train": ({"test": {"a": 3}, "val": {"a": 3}}, [], "no folder 'train'", {"splits": "none", "labels": "folders"}),
    "train twice": ({"train": {"a": 3}, "training": {"a": 3}}, [], "are both the train split", None),
    "folder beside splits": (
        {"train": {"a": 3}, "test": {"a": 3}, "extra": {"a": 3}},
        [],
        "name splits",
        {"splits": "none", "labels": "folders"},
    ),
    "stray image beside splits": (
        {"train": {"a": 3}, "test": {"a": 3}},
        ["x.png"],
        "beside the folders of splits",
        {"labels": "folders"},
    ),
    "train2017": ({"train2017": {"a": 3}, "val2017": {"a": 2}}, [], "may be splits", {"splits": "none", "labels": "folders"}),
    "trainA": ({"trainA": {".": 3}, "testA": {".": 3}}, [], "trainA may be splits", {"splits": "none"}),
    "train beside my_test": ({"train": {"a": 3}, "my_test": {"a": 3}}, [], "called so: my_test", {"splits": "none"}),
    "train_images alone beside a class": ({"train_images": {".": 3}, "dog": {".": 3}}, [], "name splits", {"splits": "none"}),
    "split folders one level too high": ({"set/train_images": {"a": 3}, "set/test_set": {"a": 2}}, [], "holds the splits", None),
    "odd splits one level too high": ({"set/train2017": {"a": 3}, "set/val2017": {"a": 2}}, [], "holds the splits", None),
    "one image": ({".": {".": 1}}, [], "holds one image; none is left to train on", None),
}


@pytest.mark.parametrize("name", ODD)
def test_a_folder_with_two_readings_is_refused_until_the_config_says_which(fresh: Path, tmp_path: Path, name: str) -> None:
    made, extra, message, choice = ODD[name]
    root = tmp_path / "own"
    for folder, labels in made.items():
        write_images(root / folder, labels)
    for file in extra:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        if file.endswith("/"):
            (root / file).mkdir()
        elif file.endswith(".png") and "._" not in file:
            save(root / file, gray())
        else:
            (root / file).write_bytes(b"x")
    with pytest.raises(DataError, match=message) as caught:
        peek(Data(name="folder", path=str(root)))
    assert caught.value.help
    if choice is not None:
        setting = next(iter(choice.items()))
        assert f"data.{setting[0]}: {setting[1]}" in caught.value.help
        dataset, told = opened("folder", root, **choice)
        assert told and len(dataset.train)


def test_links_are_followed_and_what_cannot_be_is_left_out(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", {"cat": 4})
    root = tmp_path / "own"
    write_images(root, {"dog": 4})
    (root / "cat").symlink_to(tmp_path / "elsewhere" / "cat")
    (root / "dog" / "link.png").symlink_to(tmp_path / "elsewhere" / "cat" / "00.png")
    (root / "dog" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (root / "dog" / "back").symlink_to(root)
    (root / "dog" / "itself.png").symlink_to(root / "dog" / "itself.png")
    os.mkfifo(root / "dog" / "pipe.png")
    dataset, told = opened("folder", root)
    assert labels_by_name(dataset) == {"cat": 4, "dog": 5}
    assert "2 broken link" in told and "1 link that leads back" in told and "1 pipe or device" in told


def test_names_that_are_no_text_stay_apart(fresh: Path, tmp_path: Path) -> None:
    names = {os.fsdecode(b"\xfe"): 2, os.fsdecode(b"\xff"): 3, "\x1b[31m\nred": 4}
    try:
        write_images(tmp_path / "own", names)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    dataset, told = opened("folder", tmp_path / "own")
    assert labels_by_name(dataset) == {"\\u001b[31m\\u000ared": 4, "\\xfe": 2, "\\xff": 3}
    assert "\x1b" not in told and "[31m\\u000ared" in told and "\n" not in told.splitlines()[-1]


def test_one_name_in_two_forms_is_no_label(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"caf\u00e9": 2, "cafe\u0301": 3})
    if len(list((tmp_path / "own").iterdir())) == 1:
        pytest.skip("the file system knows one form")
    with pytest.raises(DataError, match="would be one label"):
        opened("folder", tmp_path / "own")


def test_gray_among_colour_is_told_as_such(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"a": 3})
    write_images(tmp_path / "own", {"b": 2}, mode="RGB", kind="webp")
    with pytest.raises(DataError, match=r"(?s)differ in colour:.*3 of 6x5 gray, .*\.png.*2 of 6x5 colour, .*\.webp") as caught:
        opened("folder", tmp_path / "own")
    assert "data.channels" in str(caught.value.help)
    assert opened("folder", tmp_path / "own", channels=3)[0].spec.channels == 3


LOOSE = {
    "lossless.webp": {"lossless": True},
    "lossy.webp": {"quality": 60},
    "a.gif": {},
    "palette.png": {},
}


@pytest.mark.parametrize("name", LOOSE)
def test_gray_in_a_form_of_colours_is_gray_beside_gray(fresh: Path, tmp_path: Path, name: str) -> None:
    picture = Image.fromarray(gray(0, (30, 40)) // 9 * 9)
    odd = picture.convert("P") if name == "palette.png" else picture
    path = save(tmp_path / "own" / name, odd, **LOOSE[name])
    with Image.open(path) as file:
        expected = np.asarray(file.convert("RGB").convert("L"))
        assert file.mode in ("RGB", "P")
    for i in range(1, 7):  # whichever is the first in the shuffled order
        save(tmp_path / "own" / f"{i}.png", gray(i, (30, 40)))
        dataset, told = opened("folder", tmp_path / "own", test=0.01)
        images = np.concatenate([rows_of(dataset, split)[0] for split in ("train", "test")])
        assert dataset.spec.channels == 1 and "read as gray: 1" in told
        assert expected.tobytes() in {image.tobytes() for image in images}
    save(tmp_path / "own" / "colour.webp", gray(9, (30, 40, 3)))
    with pytest.raises(DataError, match=r"(?s)differ in colour:.*of 30x40 gray.*of 30x40 colour"):
        opened("folder", tmp_path / "own")
    for i in range(1, 7):
        (tmp_path / "own" / f"{i}.png").unlink()
    dataset, _ = opened("folder", tmp_path / "own")
    assert dataset.spec.channels == 3, "beside colour it is of colour"


def test_masks_among_pictures_are_told(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"a": 3})
    save(tmp_path / "own" / "b" / "mask.png", gray() // 255)
    assert "all but black, below an eighth of white: 1, such as b/mask.png" in opened("folder", tmp_path / "own")[1]


def test_files_that_cannot_be_read_and_forms_that_differ_are_told_together(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"a": 6})
    write_images(tmp_path / "own", {"b": 6}, mode="RGB")
    (tmp_path / "own" / "a" / "cut.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cut\.png: no readable image") as caught:
        opened("folder", tmp_path / "own")
    assert "6 of 6x5 gray" in caught.value.message and "6 of 6x5 colour" in caught.value.message
    assert "remove or replace the file" in str(caught.value.help) and "data.channels" in str(caught.value.help)


def test_check_says_what_it_has_looked_at_and_warns_of_what_nobody_means(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "own", {"a": 20})
    text = (
        f"data: {{name: folder, path: {tmp_path / 'own'}, batch_size: 2}}\nmodel: {{variant: bottleneck}}\ntrain: {{steps: 1}}\n"
    )
    config = parse(text, "c.yaml")
    assert "as large as the first: --data looks at all" in check.hold_against_data(config)
    assert "the first" not in check.hold_against_data(config, decode=True)
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setattr(check, "MANY", 1000)
    check.hold_against_data(config)
    assert "parameters of images of 6x5: data.size" in capsys.readouterr().err


def test_all_bad_files_are_named_at_once(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"a": 30})
    for i in range(25):
        (tmp_path / "own" / "a" / f"bad{i}.png").write_bytes(b"no image" * bool(i % 2))
    whole = (tmp_path / "own" / "a" / "00.png").read_bytes()
    (tmp_path / "own" / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="26 files cannot be read") as caught:
        opened("folder", tmp_path / "own")
    named = re.findall(r"bad([0-9]+)\.png: no readable image: (the file is empty|it is not of a kind)", caught.value.message)
    assert [int(number) for number, _ in named] == list(range(20)), "in natural order"
    assert [problem for _, problem in named[:2]] == ["the file is empty", "it is not of a kind"]
    assert caught.value.message.count(".png") == 20 and "and 6 more" in caught.value.message


def test_files_without_a_scale_are_told_in_one_line(fresh: Path, tmp_path: Path) -> None:
    for i in range(25):
        save(tmp_path / "own" / f"{i}.tif", np.full((6, 5), i - 0.5, np.float32))
    first = re.escape(str(tmp_path / "own" / "0.tif"))
    with pytest.raises(DataError, match=f"^25 files, such as {first}: values of float32 from -0.5 to 23.5, and") as caught:
        opened("folder", tmp_path / "own")
    assert caught.value.help == "set data.range: [black, white], one for all files" and "\n" not in caught.value.message
    with pytest.raises(DataError, match=r"^24 files, such as .* from -0.5 to 23.5, which leave data.range") as caught:
        opened("folder", tmp_path / "own", range=(0.0, 1.0))
    assert caught.value.help == "set data.range: [-0.5, 23.5]"
    (tmp_path / "own" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=f"^26 files cannot be read:\n  25 files, such as {first}: .*\n  .*broken.png") as caught:
        opened("folder", tmp_path / "own")
    assert "data.range" in str(caught.value.help) and "remove or replace the file" in str(caught.value.help)


def test_names_that_read_alike_are_refused(fresh: Path, tmp_path: Path) -> None:
    """Marks stand for what cannot be written, so that two names may look the same."""
    write_images(tmp_path / "own", {"a\x1bred": 3})
    dataset, told = opened("folder", tmp_path / "own")
    assert dataset.class_names == ("a\\u001bred",) and told.splitlines()[-1].isprintable()
    write_images(tmp_path / "own", {"a\\u001bred": 3})
    with pytest.raises(DataError, match="would be one label"):
        opened("folder", tmp_path / "own")


def test_warnings_of_pillow_are_told_with_the_file(fresh: Path, tmp_path: Path) -> None:
    good = save(tmp_path / "own" / "a.jpg", gray(0, (8, 8)))
    raw = good.read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01"  # five entries are said to come, and the data ends in the first
    (tmp_path / "own" / "b.jpg").write_bytes(raw[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + raw[2:])
    dataset, told = opened("folder", tmp_path / "own")
    assert len(dataset.train) == len(dataset.test) == 1
    assert "Pillow warns of 1, such as" in told and "b.jpg" in told


EXIFS = st.sampled_from([None, 1, 2, 3, 6, 8])
MODES = st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
KINDS = {
    "1": ["png", "tif", "bmp"],
    "L": ["png", "bmp", "jpg", "gif", "webp", "tif"],
    "RGB": ["png", "bmp", "jpg", "webp", "tif"],
    "CMYK": ["tif", "jpg"],
}


@st.composite
def odd_image(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of some mode, kind, size and orientation: its ending and its bytes."""
    mode, orientation = draw(MODES), draw(EXIFS)
    kind = draw(st.sampled_from(KINDS.get(mode, ["png", "tif"])))
    height, width = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    image = Image.fromarray(rng.integers(0, 256, (height, width, 4), np.uint8))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (height, width)).astype(np.uint16))
    elif mode == "P":
        image = image.convert("RGB").quantize(16)
    elif mode == "CMYK":
        image = image.convert("RGB").convert("CMYK")
    else:
        image = image.convert(mode)
    more: dict[str, Any] = {}
    if orientation is not None and kind in ("png", "jpg", "tif", "webp"):
        more["exif"] = Image.Exif()
        more["exif"][0x0112] = orientation
    if mode == "P" and kind == "png" and draw(st.booleans()):
        more["transparency"] = draw(st.integers(0, 15))
    buffer = io.BytesIO()
    image.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()), **more)
    return kind, buffer.getvalue()


def pillows_own(raw: bytes, background: tuple[int, int, int]) -> Any:
    """How Pillow reads a file: turned by its EXIF, put on a background, in gray or colour as it came."""
    with Image.open(io.BytesIO(raw)) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode == "I;16":
        return np.rint(np.asarray(image) / 257).astype(np.uint8)
    colour = image.mode not in ("1", "L", "LA")
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*background, 255)), layer)
    return np.asarray(image.convert("RGB") if colour else image.convert("RGB").convert("L"))


def beside_gray(images: list[Any], files: list[tuple[str, bytes]]) -> list[Any]:
    """Of images that Pillow gives as colours only because their form knows no gray, the gray that is meant beside gray ones."""
    if all(image.ndim == 3 for image in images):
        return images
    found: list[Any] = []
    for image, (kind, raw) in zip(images, files, strict=True):
        with Image.open(io.BytesIO(raw)) as file:
            loose = kind in ("webp", "gif") or file.mode == "P"
        plain = image.ndim == 3 and loose and np.ptp(image.astype(int), -1).max() <= 1
        found.append(np.asarray(Image.fromarray(image).convert("L")) if plain else image)
    return found


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(odd_image(), min_size=2, max_size=5), level=st.sampled_from([0, 120, 255]), junk=st.sets(st.sampled_from(JUNK))
)
def test_odd_folders_are_read_as_pillow_reads_them(
    tmp_path: Path, files: list[tuple[str, bytes]], level: int, junk: set[str]
) -> None:
    root = tmp_path / "own"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in junk:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"no image")
    for i, (kind, raw) in enumerate(files):
        (root / f"{i}.{kind}").write_bytes(raw)
    expected = beside_gray([pillows_own(raw, (level,) * 3) for _, raw in files], files)
    shapes = {image.shape for image in expected}
    data = Data(name="folder", path=str(root), background=level, test=0.2)
    source = FolderSource(data)
    n = source.origin.sizes
    index = {split: np.arange(n[split]) for split in ("train", "test")}
    if len(shapes) > 1:
        with pytest.raises(DataError, match=r"differ in (size|colour)"):
            [source.read(split, index[split]) for split in ("train", "test")]
        return
    images = np.concatenate([source.read(split, index[split])[0] for split in ("train", "test")])
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in expected)
    assert (f"{len(junk)} hidden" in source.origin.about) == bool(junk)


def test_names_of_classes_reach_the_run_its_pictures_and_its_arrays(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "own", {"1": 6, "2": 6, "10": 6, "dog": 6})
    config = """data: {name: folder, path: own, batch_size: 8, validation: 4}
model: {variant: vae, hidden: [4], latent: 2, conditional: true}
train: {steps: 2}
"""
    (tmp_path / "c.yaml").write_text(config)
    checked = called("check", "--data", "c.yaml", cwd=tmp_path)
    assert checked.returncode == 0 and "24 images of 4 classes (1, 2, 10, dog), 6x5 gray" in checked.stderr
    trained = called("train", "c.yaml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "24 images of 4 classes (1, 2, 10, dog), 6x5 gray" in trained.stderr
    run = tmp_path / "runs" / trained.stdout.strip()
    facts = json.loads((run / "run.json").read_text())["data"]
    assert facts["class_names"] == ["1", "2", "10", "dog"] and facts["rules"] == 2
    made = called("sample", "last", "--mode", "class", "-n", 2, cwd=tmp_path)
    with np.load(tmp_path / made.stdout.split()[1]) as arrays:
        assert arrays["class_names"].tolist() == facts["class_names"]
        assert arrays["label"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert "1, 2, 10, dog" in called("show", "last", cwd=tmp_path).stdout


def test_settings_of_own_files_are_refused_elsewhere() -> None:
    assert Data(name="cifar10", background=0).background == 0, "of an encoded image"
    with pytest.raises(ValueError, match="background is for name: folder, name: pairs and TFDS data sets"):
        Data(name="npz", path="x", background=0)
    for setting in ({"labels": "none"}, {"range": (0.0, 1.0)}, {"splits": "none"}, {"layout": "gray"}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))} is for name"):
            Data(name="digits", **setting)
    with pytest.raises(ValueError, match="there is no colour"):
        Data(name="folder", path="x", background="snwo")
    with pytest.raises(ValueError, match="below the one that is white"):
        Data(name="folder", path="x", range=(1.0, 1.0))


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        ((np.arange(64).reshape(8, 8) > 31).astype(np.uint8), "the largest value is 1 of 255"),
        ((np.arange(64).reshape(8, 8) > 31).astype(np.uint16) * 255, "the largest value is 255 of 65535"),
        (np.dstack([np.full((8, 8), 255, np.uint8)] * 3 + [np.eye(8, dtype=np.uint8) * 255]), "nothing transparent"),
        (np.full((8, 8), 255, np.uint8), "every pixel is given"),
        (np.zeros((8, 8), np.uint8), "nothing is given"),
        (np.zeros((8, 8), np.uint16), "nothing is given"),
        (np.zeros((7, 8), np.uint8), "a mask of 7x8 pixels for images of 8x8"),
    ],
)
def test_a_region_is_white_and_black(tmp_path: Path, mask: Any, word: str) -> None:
    path = save(tmp_path / "mask.png", mask)
    with pytest.raises(UsageError, match=word):
        known_region(str(path), 8, 8)


def test_a_region_is_read_in_every_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = np.arange(64).reshape(8, 8) > 31
    for i, mask in enumerate((known, known.astype(np.uint8) * 255, known.astype(np.uint16) * 65535)):
        assert np.array_equal(known_region(str(save(tmp_path / f"{i}.png", mask)), 8, 8), known)
    assert not capsys.readouterr().err
    assert np.array_equal(known_region(str(save(tmp_path / "soft.png", known * np.uint8(200) + np.uint8(20))), 8, 8), known)
    assert "64 pixels are neither black nor white" in capsys.readouterr().err


def test_runs_of_before_are_read_as_they_were(fresh: Path) -> None:
    """Ordinary files are the same data by both rules, and what is not is read by those of the run."""
    path = Path(__file__).parent / "old_runs"
    kept = json.loads(next(path.glob("runs/folder-*/run.json")).read_text())["data"]["fingerprint"]
    data = Data(name="folder", path=str(path / "images"), batch_size=8, validation=0.2, test=0.25)
    lines: list[str] = []
    assert [open_dataset(data, lines.append, rules).fingerprint for rules in (1, 2)] == [kept, kept]
    assert ["is read by rules 1" in line for line in lines if line.startswith(data.path or "")] == [True, False]


def test_other_rules_read_other_pixels_and_never_share_a_cache(fresh: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    for i in range(3):
        save(tmp_path / "own" / f"{i}.png", Image.fromarray(gray(i)), exif=exif)
    data = Data(name="folder", path=str(tmp_path / "own"), batch_size=1, validation=0)
    now, before = open_dataset(data), open_dataset(data, rules=1)
    assert np.array_equal(rows_of(now, "train")[0][:, ::-1, ::-1], rows_of(before, "train")[0])
    assert now.fingerprint != before.fingerprint and (now.rules, before.rules) == (2, 1)
