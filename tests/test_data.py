"""Data sets: what they hold, and what happens when they cannot be had."""

from __future__ import annotations

import errno
import gzip
import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_fashion
from own_files import everything_in, write_images
from PIL import Image

from aecli.config.load import load
from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data.binarize import draw_fixed
from aecli.data.dataset import Dataset, open_dataset, subset
from aecli.data.rows import ArrayRows
from aecli.data.sources import fashion
from aecli.data.sources.factors import FACTORS, render
from aecli.data.sources.registry import open_source, peek
from aecli.errors import ConfigError, DataError, SettingError, translate
from aecli.system.folders import cache_root
from aecli.verbs import check

pytestmark = pytest.mark.portable


def test_digits_are_the_embedded_file() -> None:
    opened = open_dataset(Data(name="digits", validation=150))
    assert opened.spec == Spec(8, 8, 1, 10)
    assert [len(opened.split(s)) for s in ("train", "validation", "test")] == [1350, 150, 297]
    raw = gzip.decompress((Path(__file__).parent.parent / "aecli/data/embedded/digits.csv.gz").read_bytes())
    rows = np.array([[float(x) for x in line.split(",")] for line in raw.decode().split()])
    images = np.concatenate([opened.split(s).take(np.arange(len(opened.split(s))))[0] for s in ("train", "validation", "test")])
    labels = np.concatenate([opened.split(s).take(np.arange(len(opened.split(s))))[1] for s in ("train", "validation", "test")])
    ours = sorted((tuple(image.ravel()), int(label)) for image, label in zip(images, labels, strict=True))
    theirs = sorted((tuple(np.rint(row[:64] * 255 / 16).astype(int)), int(row[64])) for row in rows)
    assert ours == theirs


def test_shapes_are_whole() -> None:
    for scale in range(FACTORS["scale"]):
        for angle in range(FACTORS["angle"]):
            for corner in ((0, 0), (7, 7), (0, 7)):
                image = render(0, scale, angle, *corner)
                border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
                assert image.max() == 255 and border.max() == 0, "the shape is whole"


@needs_fashion
def test_fashion_mnist_is_the_original_in_its_order() -> None:
    opened = open_dataset(Data(name="fashion_mnist", validation=10_000))
    assert opened.spec == Spec(28, 28, 1, 10)
    for name, split in (("train", (opened.train, opened.validation)), ("t10k", (opened.test,))):
        raw = gzip.decompress((fashion.DEBIAN / f"{name}-images-idx3-ubyte.gz").read_bytes())
        original = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28, 1)
        assert np.array_equal(np.concatenate([rows.take(np.arange(len(rows)))[0] for rows in split]), original)
    assert np.bincount(opened.test.take(np.arange(10_000))[1]).tolist() == [1000] * 10
    assert opened.fingerprint.startswith("bac123b3fcea"), "which runs of old keep"


@needs_fashion
def test_the_frozen_binarization_is_the_published_one() -> None:
    opened = open_dataset(Data(name="fashion_mnist", validation=10_000, binarize="fixed"))
    images, _ = opened.test.take(np.arange(10_000))
    assert set(np.unique(images)) == {0, 255}
    bits = images.reshape(10_000, 784) // 255
    assert hashlib.sha256(np.packbits(bits).tobytes()).hexdigest().startswith("25f0d69b40ae46a7")
    assert bits.mean() == pytest.approx(0.286816, abs=1e-6)
    entropy = open_dataset(Data(name="fashion_mnist")).test.take(np.arange(10_000))[0].reshape(10_000, 784) / 255.0
    p = np.clip(entropy, 1e-12, 1 - 1e-12)
    floor = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(1).mean()
    assert floor == pytest.approx(189.858, abs=1e-3)


@needs_fashion
def test_restored_headers_give_the_registered_checksums(tmp_path: Path) -> None:
    fashion.restore_originals(fashion.DEBIAN, tmp_path)
    digest = hashlib.sha256((tmp_path / "train-images-idx3-ubyte.gz").read_bytes()).hexdigest()
    assert digest == "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"


@needs_fashion
@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_wrong_original_is_refused_and_nothing_is_left(fresh: Path, tmp_path: Path, damage: str) -> None:
    originals = tmp_path / "originals"
    originals.mkdir()
    for name in fashion.FILES:
        raw = bytearray((fashion.DEBIAN / name).read_bytes())
        if name.startswith("t10k-labels"):
            raw = raw[:-100] if damage == "truncate" else raw
            raw[1000] ^= 1
        (originals / name).write_bytes(bytes(raw))
    with pytest.raises(DataError, match="checksum"):
        open_dataset(Data(name="fashion_mnist", manual_dir=str(originals)))
    assert everything_in(fresh) == ["decoded", "tfds"]


def test_without_a_network_it_says_so_soon_and_leaves_nothing(fresh: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(DataError, match="no network") as caught:
        open_dataset(Data(name="cifar10"))
    assert time.monotonic() - begun < 5
    assert "aecli data prepare cifar10" in str(caught.value.help)
    assert everything_in(fresh) == ["decoded", "tfds"]


def test_unknown_names_are_config_errors_with_the_nearest_name(fresh: Path) -> None:
    with pytest.raises(SettingError) as caught:
        open_dataset(Data(name="fashion_mnst"))
    assert caught.value.path == ("data", "name") and caught.value.label == "did you mean 'fashion_mnist'?"
    with pytest.raises(SettingError, match="no data set 'xyzzy'"):
        open_dataset(Data(name="xyzzy"))
    with pytest.raises(SettingError, match="no images"):
        open_dataset(Data(name="imdb_reviews"))
    assert everything_in(fresh) == ["decoded", "tfds"]


def test_a_truncated_shard_is_found(fresh: Path) -> None:
    open_dataset(Data(name="digits", tier="stream"))
    [shard] = fresh.glob("tfds/digits/*/digits-train.array_record*")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(DataError, match="digits") as caught:
        open_dataset(Data(name="digits"))
    assert "remove" in str(caught.value.help)
    assert [path for path in everything_in(fresh / "decoded")] == []


def test_the_cache_is_read_without_tensorflow_datasets(fresh: Path) -> None:
    import subprocess
    import sys

    open_dataset(Data(name="digits"))
    code = (
        "import sys; from aecli.config.schema import Data; from aecli.data.dataset import open_dataset;"
        "assert len(open_dataset(Data(name='digits')).test) == 297;"
        "sys.exit('tensorflow_datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def images_of(opened: Dataset) -> list[bytes]:
    """Of all splits."""
    rows = (opened.split(split) for split in ("train", "validation", "test"))
    return [image.tobytes() for part in rows for image in part.take(np.arange(len(part)))[0]]


def test_no_image_is_in_two_splits(fresh: Path, tmp_path: Path) -> None:
    """Of a file or a folder that says nothing of a test split: the parts that are held out are cut from train."""
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5), np.uint8)
    np.savez(tmp_path / "own.npz", image=images)
    write_images(tmp_path / "own", {"cat": 12, "dog": 18})
    of_file = open_dataset(Data(name="npz", path=str(tmp_path / "own.npz"), batch_size=4, validation=6, test=0.2))
    assert sorted(images_of(of_file)) == sorted(image.tobytes() for image in images)
    of_folder = open_dataset(Data(name="folder", path=str(tmp_path / "own"), batch_size=4, validation=4, test=0.2))
    assert len(images_of(of_folder)) == 30 == len(set(images_of(of_folder)))


@pytest.mark.parametrize(("setting", "key"), [({"validation": 1500}, "validation"), ({"batch_size": 2000}, "batch_size")])
def test_settings_that_leave_nothing_to_train_on_are_refused(setting, key: str) -> None:
    with pytest.raises(SettingError) as caught:
        open_dataset(Data(name="digits", **setting))
    assert caught.value.path == ("data", key)


def test_validation_is_the_last_part_of_train() -> None:
    whole = open_dataset(Data(name="digits", validation=0)).train.take(np.arange(1500))[0]
    for amount, n in ((100, 100), (0.2, 300)):
        opened = open_dataset(Data(name="digits", validation=amount))
        assert np.array_equal(opened.validation.take(np.arange(n))[0], whole[-n:])
        assert len(opened.train) == 1500 - n


def test_the_frozen_draw_is_drawn_once_split_after_split() -> None:
    rows = ArrayRows(np.full((50, 4, 4, 1), 100, np.uint8), np.zeros(50, np.int32))
    first, second = draw_fixed([rows, rows]), draw_fixed([rows, rows])
    assert np.array_equal(first[0].images, second[0].images) and np.array_equal(first[1].images, second[1].images)
    assert not np.array_equal(first[0].images, first[1].images)
    generator = np.random.RandomState(777)
    expected = generator.binomial(1, np.full((50, 16), 100 / 255.0))
    assert np.array_equal(first[0].images.reshape(50, 16) // 255, expected)


def test_the_frozen_draw_of_a_data_set_is_of_validation_then_test() -> None:
    for held_out in (100, 120, 100):  # each is kept, and no other's is read
        gray, drawn = (open_dataset(Data(name="digits", validation=held_out, binarize=b)) for b in ("none", "fixed"))
        generator = np.random.RandomState(777)
        for split in ("validation", "test"):
            rows = np.arange(len(gray.split(split)))
            expected = generator.binomial(1, gray.split(split).take(rows)[0].reshape(len(rows), -1) / 255.0)
            assert np.array_equal(drawn.split(split).take(rows)[0].reshape(len(rows), -1) // 255, expected)
            assert np.array_equal(drawn.intensity(split).take(rows)[0], gray.split(split).take(rows)[0])


def test_a_subset_keeps_the_first_rows() -> None:
    opened = open_dataset(Data(name="digits"))
    small = subset(opened, 20, 5)
    assert (len(small.train), len(small.validation), len(small.test)) == (20, 5, 5)
    assert np.array_equal(small.train.take(np.arange(20))[0], opened.train.take(np.arange(20))[0])


def test_the_cache_follows_its_variable(fresh: Path) -> None:
    assert cache_root() == fresh


def test_a_declared_shape_is_known_without_preparing(fresh: Path) -> None:
    spec, sizes, absent = peek(Data(name="mnist"))
    assert (spec, sizes) == (Spec(28, 28, 1, 10), {}) and "training downloads them" in str(absent)
    assert "data.manual_dir" in str(peek(Data(name="celeb_a_hq")).absent) and peek(Data(name="digits")).absent is None
    assert peek(Data(name="cifar10", size=(16, 16), channels=1)).spec == Spec(16, 16, 1, 10)
    assert not (fresh / "decoded").exists()


@pytest.mark.parametrize("name", ["folder", "npz", "vectors", "digits"])
def test_check_tells_a_batch_that_is_too_large_without_decoding(
    name: str, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "folder":
        for i in range(40):
            Image.fromarray(np.full((4, 4), i, np.uint8)).save(tmp_path / f"{i}.png")
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((40, 4) if name == "vectors" else (40, 4, 4)))
    open_dataset(Data(name="digits"))  # prepared, so that its sizes are known
    monkeypatch.setattr("aecli.data.dataset.open_decoded", None)
    path = {"folder": f", path: {tmp_path}", "digits": ""}.get(name, f", path: {tmp_path / 'a.npz'}")
    model = "model: {variant: bottleneck, net: mlp, latent: 2}\ntrain: {steps: 1}\n"
    text = f"data: {{name: {name}{path}, batch_size: BATCH}}\n{model}"
    most = 1350 if name == "digits" else 32  # of 40, 4 are the test split, and 4 of the others the validation split
    (tmp_path / "c.yaml").write_text(text.replace("BATCH", str(most + 1)))
    with pytest.raises(ConfigError) as caught:
        check.hold_against_data(load(tmp_path / "c.yaml"))
    assert f"batch of {most + 1} is larger than the {most} " in caught.value.render() and "c.yaml:1:" in caught.value.render()
    (tmp_path / "c.yaml").write_text(text.replace("BATCH", str(most)))
    assert "parameters" in check.hold_against_data(load(tmp_path / "c.yaml"))


def test_a_pass_over_a_file_does_not_make_the_process_as_large_as_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.ones((2000, 16, 1024), np.uint8))

    def mapped() -> int:
        return int(re.findall(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])

    rows = ArrayRows(np.load(tmp_path / "a.npy", mmap_mode="r"), np.zeros(2000, np.int32)).part(1, 2000)
    before = mapped()
    monkeypatch.setattr("aecli.data.rows.MAPPED_BYTES", 1024 * before + 2**22)
    total = sum(int(rows.take(np.arange(start, min(start + 100, 1999)))[0].sum()) for start in range(0, 1999, 100))
    assert total == 1999 * 16 * 1024 and mapped() - before < 8000, "of 32 MB"


@pytest.mark.parametrize("name", ["folder", "npz", "vectors"])
def test_what_the_system_lacks_is_not_laid_to_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", {"a": 4, "b": 4})
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((40, 4) if name == "vectors" else (40, 4, 4)))
    data = Data(name=name, path=str(tmp_path / ("images" if name == "folder" else "a.npz")))

    def refuse(path: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    for module in ("decode", "npy", "npz", "vectors"):
        monkeypatch.setattr(f"aecli.data.sources.{module}.open_own", refuse, raising=False)
    with pytest.raises(OSError, match="Too many open files") as caught:
        open_source(data, print)
    found = translate(caught.value)
    assert found is not None and found.code == 7 and "ulimit -n" in str(found.help)
