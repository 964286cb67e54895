"""Arrays as people have them: each is read right, or refused with what would mend it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_files import opened, rows_of

from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data.dataset import open_dataset
from aecli.data.sources import rules_1
from aecli.data.sources.npz import NpzSource
from aecli.errors import DataError

pytestmark = pytest.mark.portable


def test_an_npz_file_is_read(fresh: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 6, 5), np.uint8), rng.integers(0, 3, 40)
    np.savez(tmp_path / "own.npz", image=images, label=labels)
    dataset = open_dataset(Data(name="npz", path=str(tmp_path / "own.npz"), batch_size=4, validation=6, test=0.1))
    assert dataset.spec == Spec(6, 5, 1, 3)
    assert [len(dataset.split(s)) for s in ("train", "validation", "test")] == [30, 6, 4]
    np.savez(tmp_path / "float.npz", image=images / 255.0, test_image=images[:7] / 255.0)
    dataset = open_dataset(Data(name="npz", path=str(tmp_path / "float.npz"), batch_size=4, validation=0))
    assert np.array_equal(dataset.train.take(np.arange(40))[0][..., 0], images), "floats in [0, 1] become the nearest 8-bit level"
    assert len(dataset.test) == 7 and dataset.spec.classes == 0
    resized = open_dataset(Data(name="npz", path=str(tmp_path / "own.npz"), batch_size=4, size=(12, 10), channels=3))
    assert resized.spec == Spec(12, 10, 3, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.zeros((3, 4, 4), np.uint8)}, "no array 'image'"),
        ({"image": np.zeros((3, 4), np.uint8)}, "must be"),
        ({"image": np.zeros((3, 4, 4, 2), np.uint8)}, "must be"),
        ({"image": np.full((3, 4, 4), 2.0)}, r"float64 from 2 to 2, and floats are read as \[0, 1\]"),
        ({"image": np.full((3, 4, 4), np.nan)}, r"holds nan at .* \[0, 0, 0, 0\], 48 in all"),
        ({"image": np.full((3, 4, 4), -1)}, "int64 from -1 to -1"),
        ({"image": np.zeros((3, 4, 4), np.uint8), "label": np.zeros(2, int)}, "must be 3 labels"),
        ({"image": np.zeros((3, 4, 4), np.uint8), "label": np.array([0.5, 1, 2])}, "must be whole numbers"),
        ({"image": np.array([{}, {}], object)}, "array of Python objects"),
    ],
)
def test_a_wrong_npz_file_is_refused(fresh: Path, tmp_path: Path, arrays, message: str) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=message):
        open_dataset(Data(name="npz", path=str(tmp_path / "own.npz"), batch_size=1))


def test_a_file_that_is_no_npz_is_refused(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="no readable"):
        open_dataset(Data(name="npz", path=str(tmp_path / "own.npz")))
    with pytest.raises(DataError, match="no such file"):
        open_dataset(Data(name="npz", path=str(tmp_path / "nowhere.npz")))
    with pytest.raises(DataError, match="is a folder, not a file") as caught:
        open_dataset(Data(name="npz", path=str(tmp_path)))
    assert "data.name: folder" in str(caught.value.help)


def given_images(n: int = 12, shape: tuple[int, ...] = (4, 5), seed: int = 0) -> Any:
    """uint8 images that fill the range."""
    images = np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)
    images.flat[0], images.flat[-1] = 0, 255
    return images


def read(path: Path, arrays: dict[str, Any], **settings: Any) -> tuple[Any, str]:
    np.savez(path / "own.npz", **arrays)
    return opened("npz", path / "own.npz", **settings)


def refused(path: Path, arrays: dict[str, Any], **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, arrays, **settings)
    return f"{caught.value.message} | {caught.value.help}"


IMAGES = given_images()


@pytest.mark.parametrize(
    ("made", "settings", "word"),
    [
        (IMAGES, {}, ""),
        (IMAGES.astype(np.uint16) * 257, {}, "16 bit scaled to 8"),
        (IMAGES.astype(">u2") * 257, {}, "16 bit scaled to 8"),
        (IMAGES.astype(np.int64), {}, "int64 from 0 to 255 taken as 0 to 255"),
        (IMAGES / 255, {}, "float64 from 0 to 1, rounded to 8 bit"),
        ((IMAGES / 255).astype(np.float32), {}, "rounded to 8 bit"),
        ((IMAGES / 255).astype(np.float32) * np.float32(1.000001), {}, "clipped to [0, 1]"),
        (IMAGES / 127.5 - 1, {"range": (-1.0, 1.0)}, "-1 to 1 (data.range)"),
        (IMAGES.astype(np.float32), {"range": (0.0, 255.0)}, "0 to 255 (data.range)"),
        (IMAGES / 255e3, {"range": (0.0, 1e-3)}, "data.range"),
        (IMAGES.astype(np.int16) - 128, {"range": (-128.0, 127.0)}, "data.range"),
        (IMAGES[..., None], {}, ""),
        (IMAGES[:, None], {}, "channels moved to the end"),
    ],
)
def test_every_type_of_image_gives_the_same_levels(fresh: Path, tmp_path: Path, made: Any, settings: Any, word: str) -> None:
    dataset, told = read(tmp_path, {"image": made, "test_image": made[:3]}, **settings)
    assert np.array_equal(rows_of(dataset, "train")[0][..., 0], IMAGES) and len(dataset.test) == 3
    assert word in told and "12 train, 3 test" in told


def test_bool_and_colour_with_channels_first(fresh: Path, tmp_path: Path) -> None:
    dataset, told = read(tmp_path, {"x_train": IMAGES > 100, "x_test": IMAGES > 100})
    assert np.array_equal(rows_of(dataset, "test")[0][..., 0], (IMAGES > 100) * np.uint8(255)) and "true is white" in told
    colour = given_images(5, (3, 6, 7))
    dataset, told = read(tmp_path, {"x_train": colour, "x_test": colour})
    assert np.array_equal(rows_of(dataset, "train")[0], np.moveaxis(colour, 1, 3)) and "[n, C, H, W]" in told


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ((IMAGES > 100).astype(np.uint8), "the largest value is 1 of 255|data.range: [0, 1]"),
        (IMAGES // 16, "the largest value is 15 of 255|data.range: [0, 15]"),
        (IMAGES.astype(np.uint16), "the largest value is 255 of 65535|data.range: [0, 255]"),
        (IMAGES.astype(np.int32) * 16, "int32 [12, 4, 5, 1] is|from 0 to 4080|data.range: [0, 4095]"),
        (IMAGES / 127.5 - 1, "float64 from -1 to 1|data.range: [-1, 1]|(x + 1) / 2"),
        (IMAGES.astype(np.float32), "float32 from 0 to 255|data.range: [0, 255]"),
        (IMAGES / 255e3, "from 0 to 0.001|next to nothing|data.range: [0, 0.001]"),
        (IMAGES.astype(complex), "holds no numbers"),
        (IMAGES.astype(str), "holds no numbers"),
        (IMAGES.reshape(12, -1), "must be [n, H, W]|[12, 20]"),
        (given_images(4, (784,)), "reshape(-1, 28, 28)"),
        (given_images(4, (3072,)), "reshape(-1, 3, 32, 32)"),
        (given_images(4, (5, 5, 4)), "transparency"),
        (given_images(32, (32, 3)), "one image with 3 channels|data.layout: gray"),
        (given_images(4, (3, 8, 3)), "channels first or last|data.layout: channels_first"),
        (given_images(5, (6, 3, 40)), "images first"),
        (IMAGES[:1], "holds one image; none is left to train on"),
        (IMAGES[:0], "is empty"),
        (np.array(7, np.uint8), "is a single value"),
        (given_images(4, (4, 5, 6)), "x[:, :3]"),
        (IMAGES * 2e-6 + 1000, "data.range: [1000, 1000.0005]"),
    ],
)
def test_what_has_two_meanings_is_refused_with_what_mends_it(fresh: Path, tmp_path: Path, made: Any, words: str) -> None:
    text = refused(tmp_path, {"image": made})
    for word in words.replace("int32 [12, 4, 5, 1] is|", "").split("|"):
        assert word in text, text


def test_a_choice_in_the_config_settles_it(fresh: Path, tmp_path: Path) -> None:
    dataset, _ = read(tmp_path, {"image": (IMAGES > 100).astype(np.uint8)}, range=(0.0, 1.0))
    assert set(np.unique(rows_of(dataset, "train")[0])) == {0, 255}
    both = given_images(4, (3, 8, 3))
    assert read(tmp_path, {"image": both}, layout="channels_first")[0].spec == Spec(8, 3, 3, 0)
    assert read(tmp_path, {"image": both}, layout="channels_last")[0].spec == Spec(3, 8, 3, 0)
    assert read(tmp_path, {"image": given_images(32, (32, 3))}, layout="gray")[0].spec == Spec(32, 3, 1, 0)
    assert "leaves data.range" in refused(tmp_path, {"image": IMAGES / 100}, range=(0.0, 1.0))


def test_a_narrow_range_far_from_zero_is_read_as_its_message_says(fresh: Path, tmp_path: Path) -> None:
    dataset, _ = read(
        tmp_path, {"image": IMAGES * 2e-6 + 1000, "test_image": IMAGES[:1] * 2e-6 + 1000}, range=(1000.0, 1000.0005)
    )
    assert np.abs(rows_of(dataset, "train")[0][..., 0].astype(int) - IMAGES).max() <= 5, "the range is 2 % narrower"


def test_what_is_not_finite_is_named_with_its_place(fresh: Path, tmp_path: Path) -> None:
    broken = IMAGES / 255
    broken[7, 2, 3] = np.nan
    broken[8, 0, 0] = np.inf
    text = refused(tmp_path, {"image": broken})
    assert "holds nan at [image, row, column, channel] [7, 2, 3, 0], 2 in all" in text


@pytest.mark.parametrize(
    "names",
    [
        ("image", "label", "val_image", "val_label", "test_image", "test_label"),
        ("images", "labels", "valid_images", "valid_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test"),
        ("X_train", "y_train", "X_valid", "y_valid", "X_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("data", "target", "validation_data", "validation_target", "testing_data", "testing_target"),
        ("trainX", "trainY", "devX", "devY", "testX", "testY"),
    ],
)
def test_the_usual_names_of_arrays_are_known(fresh: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    labels = np.arange(12) % 3
    parts = [IMAGES, labels, IMAGES[:6], labels[:6], IMAGES[:3], labels[:3]]
    dataset, told = read(tmp_path, dict(zip(names, parts, strict=True)) | {"mean": np.zeros(3)})
    assert [len(dataset.split(split)) for split in ("train", "validation", "test")] == [12, 6, 3]
    assert np.array_equal(rows_of(dataset, "train")[1], labels) and dataset.class_names == ("0", "1", "2")
    assert "arrays left out: mean" in told and "data.validation is not used" in told


LABELS = np.arange(12) % 3


@pytest.mark.parametrize(
    "names", [("fine_labels", "test_fine_labels"), ("train_coarse_label", "coarse_label_test"), ("a-target", "test_a-target")]
)
def test_labels_of_one_kind_are_labels(fresh: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    arrays = {"image": IMAGES, names[0]: LABELS, "test_image": IMAGES[:3], names[1]: LABELS[:3]}
    dataset, told = read(tmp_path, arrays)
    assert np.array_equal(rows_of(dataset, "train")[1], LABELS) and f"labels are {', '.join(names)}" in told
    text = refused(tmp_path, arrays | {"other_labels": LABELS})
    assert "may be the labels" in text and names[0] in text and "other_labels" in text and "data.labels: none" in text
    dataset, told = read(tmp_path, arrays | {"other_labels": LABELS}, labels="none")
    assert dataset.spec.classes == 0 and "other_labels" in told
    dataset, told = read(tmp_path, arrays | {"other_labels": LABELS, "label": LABELS, "test_label": LABELS[:3]})
    assert dataset.spec.classes == 3 and f"arrays left out: {names[0]}" in told


@pytest.mark.parametrize(
    ("labels", "names", "word"),
    [
        (LABELS, ("0", "1", "2"), ""),
        (LABELS + 1, ("1", "2", "3"), "labels 1 to 3 are 3 classes"),
        (np.array([3, 7, 9])[LABELS], ("3", "7", "9"), "labels 3 to 9 are 3 classes"),
        (LABELS[:, None].astype(np.uint8), ("0", "1", "2"), ""),
        (np.eye(3)[LABELS], ("0", "1", "2"), "one-hot of 3 columns"),
        (np.eye(5, dtype=bool)[LABELS * 2], ("0", "2", "4"), "one-hot of 5 columns"),
        (LABELS.astype(np.float32), ("0", "1", "2"), "float, taken as whole numbers"),
        (np.array(["2", "10", "a"])[LABELS], ("2", "10", "a"), ""),
        (np.array([b"cat", b"dog", b"eel"])[LABELS], ("cat", "dog", "eel"), ""),
        (np.array([0, 100_000, 7])[LABELS], ("0", "7", "100000"), "3 classes"),
        (np.array([b"\xfe", b"\xff", b"a"])[LABELS], ("\\xfe", "\\xff", "a"), "3 classes"),
    ],
)
def test_every_form_of_labels_gives_classes_that_occur(fresh: Path, tmp_path: Path, labels: Any, names: Any, word: str) -> None:
    dataset, told = read(tmp_path, {"image": IMAGES, "label": labels, "test_image": IMAGES, "test_label": labels})
    assert dataset.class_names == names and dataset.spec.classes == 3 and word in told
    meant = np.array(names)[rows_of(dataset, "test")[1]].tolist()
    flat = labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.ravel()
    texts = [
        x.decode(errors="backslashreplace") if isinstance(x, bytes) else str(x) if isinstance(x, str) else str(int(x))
        for x in flat.tolist()
    ]
    assert meant == texts


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.arange(12), "labels are different"),
        (LABELS - 1, "from -1 to 1"),
        (LABELS.astype(np.int64) * 2**31, "fit into int32"),
        (np.where(LABELS == 1, np.nan, 0.0), r"[1] is nan"),
        (LABELS / 2, "[1] is 0.5"),
        (np.ones((12, 3)), "is not one-hot: row 0"),
        (LABELS[:5], "must be 12 labels"),
        (np.zeros((12, 2, 2)), "must be 12 labels"),
        (np.array([1, "a", None] * 4, object), "array of Python objects"),
    ],
)
def test_what_is_no_label_is_refused(fresh: Path, tmp_path: Path, labels: Any, words: str) -> None:
    text = refused(tmp_path, {"image": IMAGES, "label": labels})
    assert words in text, text
    if labels.dtype != object:
        dataset, told = read(tmp_path, {"image": IMAGES, "label": labels}, labels="none")
        assert dataset.spec.classes == 0 and "labels left out" in told


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": IMAGES, "label": LABELS, "test_image": IMAGES}, "'test_image' have no labels|data.labels: none"),
        ({"image": IMAGES, "label": LABELS, "val_image": IMAGES}, "'val_image' have no labels"),
        ({"image": IMAGES, "test_image": IMAGES, "test_label": LABELS}, "'image' have no labels"),
        ({"image": IMAGES, "label": LABELS, "test_label": LABELS}, "no images of the test split"),
        ({"image": IMAGES, "images": IMAGES}, "are both images of the train split"),
        ({"test_image": IMAGES}, "no array 'image'"),
        ({"arr_0": IMAGES, "arr_1": LABELS}, "only arr_0, arr_1"),
        ({"image": IMAGES, "test_image": IMAGES / 255}, "different types: float64, uint8"),
        ({"image": IMAGES, "test_image": given_images(3, (7, 5))}, "differ in size"),
        ({"image": IMAGES, "test_image": IMAGES // 255}, "'test_image'|from 0 to 1|while other splits reach 255"),
        ({"image": IMAGES // 255, "test_image": IMAGES}, "'image'|from 0 to 1|while other splits reach 255"),
        (
            {"image": IMAGES / 255, "test_image": IMAGES.astype(float)},
            "different ranges: 'image' from 0 to 1, 'test_image' from 0 to 255",
        ),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(fresh: Path, tmp_path: Path, arrays: Any, words: str) -> None:
    text = refused(tmp_path, arrays)
    assert all(word in text for word in words.split("|")), text


def test_an_npy_file_is_read_whatever_it_is_called(fresh: Path, tmp_path: Path) -> None:
    for name in ("own.npy", "own.npz"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, IMAGES)
        dataset, told = opened("npz", tmp_path / name)
        held = np.concatenate([rows_of(dataset, split)[0][..., 0] for split in ("train", "test")])
        assert sorted(x.tobytes() for x in held) == sorted(x.tobytes() for x in IMAGES) and "12 images without labels" in told
    np.savez(tmp_path / "own.npz", IMAGES)
    assert len(opened("npz", tmp_path / "own.npz")[0].train) == 11


def test_older_rules_refuse_what_is_damaged_too(tmp_path: Path) -> None:
    """Bytes that no decompressor takes, under a checksum that was not looked at yet."""
    path = tmp_path / "own.npz"
    np.savez_compressed(path, image=IMAGES)
    with zipfile.ZipFile(path) as archive:
        member = archive.infolist()[0]
    raw = bytearray(path.read_bytes())
    raw[member.header_offset + 70 : member.header_offset + 90] = b"\xff" * 20
    path.write_bytes(raw)
    for opener in (rules_1.NpzSource, NpzSource):
        with pytest.raises(DataError, match=r"own\.npz.* (no readable|cannot be read)"):
            opener(Data(name="npz", path=str(path)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image", "no array")
    with pytest.raises(DataError, match="'image' is no array"):
        rules_1.NpzSource(Data(name="npz", path=str(path)))


def test_what_is_no_array_is_refused_with_what_mends_it(fresh: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([IMAGES, None], object))
    (tmp_path / "folder.npz").mkdir()
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("image", "no array")
    for name, word in (("objects.npy", "a pickle"), ("folder.npz", "is a folder"), ("text.npz", "'image' is no array")):
        with pytest.raises(DataError, match=word) as caught:
            opened("npz", tmp_path / name)
        assert caught.value.help


def test_one_value_alone_is_read_and_told_where_it_is_dark(fresh: Path, tmp_path: Path) -> None:
    assert "every value is 1 of 255" in read(tmp_path, {"image": np.ones_like(IMAGES)})[1]
    assert "every value" not in read(tmp_path, {"image": np.full_like(IMAGES, 128)})[1]


def test_labels_of_test_alone_are_told(fresh: Path, tmp_path: Path) -> None:
    arrays = {"image": IMAGES, "label": LABELS, "test_image": IMAGES[:4], "test_label": np.array([0, 1, 2, 5])}
    dataset, told = read(tmp_path, arrays)
    assert dataset.class_names == ("0", "1", "2", "5") and "classes of test that train lacks: 5" in told


TYPES = [np.uint8, np.uint16, np.int16, np.int64, np.float16, np.float32, np.float64, np.bool_]


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(TYPES),
    low=st.sampled_from([0, -1, -128, 0.25]),
    high=st.sampled_from([1, 2, 16, 200, 255, 4095, 60000, 1e-3]),
    layout=st.sampled_from(["gray", "channels_last", "channels_first"]),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    chosen=st.booleans(),
    seed=st.integers(0, 99),
)
def test_odd_arrays_are_read_right_or_refused(
    tmp_path: Path,
    dtype: Any,
    low: float,
    high: float,
    layout: str,
    channels: int,
    size: tuple[int, int],
    chosen: bool,
    seed: int,
) -> None:
    """With `data.range` and `data.layout` every array is read as they say; without, by what type and values alone say, and where
    they don't it is refused with the values that it has."""
    shape = (7, *size) if layout == "gray" else (7, *size, channels) if layout == "channels_last" else (7, channels, *size)
    unit = np.random.default_rng(seed).random(shape)
    unit.flat[0], unit.flat[-1] = 0, 1
    values = low + unit * (high - low)
    if np.dtype(dtype).kind in "ui":
        values = values.clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
    array = values.astype(dtype)
    least, most = float(array.min()), float(array.max())
    np.savez(tmp_path / "own.npz", image=array)
    last = array[..., None] if layout == "gray" else np.moveaxis(array, 1, 3) if layout == "channels_first" else array
    if chosen and least < most:
        source = NpzSource(Data(name="npz", path=str(tmp_path / "own.npz"), range=(least, most), layout=layout))
        black, white = least, most
    else:
        try:
            source = NpzSource(Data(name="npz", path=str(tmp_path / "own.npz")))
        except DataError as error:
            assert error.help and ("data." in error.help or "save" in error.help)
            return
        kind = np.dtype(dtype).kind
        black, white = (0, 1) if kind in "fb" else (0, 65535) if dtype is np.uint16 else (0, 255)
        assert black - 1e-3 <= least <= most <= white + 1e-3
        assert dtype is np.uint8 or np.dtype(dtype).name in source.origin.about or "16 bit" in source.origin.about
    read = {split: source.read(split, np.arange(n))[0] for split, n in source.origin.sizes.items()}
    unit = np.clip((last.astype(np.float64) - black) / (white - black), 0, 1) * 255
    ours = np.sort(np.concatenate(list(read.values())).reshape(7, -1).astype(int), axis=0)
    assert np.abs(ours - np.sort(unit.reshape(7, -1), axis=0)).max() <= 0.5 + 1e-3
