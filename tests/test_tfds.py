"""Every name that TFDS knows is either understood or refused with a reason, and labels can be chosen by name."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets
from etils import epath
from PIL import Image
from process import called

from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
from aecli.data.sources import tfds
from aecli.data.sources.registry import peek
from aecli.data.sources.tfds_without_tf import png
from aecli.errors import DataError, SettingError, StorageError

N = 12


class Pets(tensorflow_datasets.core.GeneratorBasedBuilder):
    """No supervised keys, nested features, labels of every kind."""

    VERSION = tensorflow_datasets.core.Version("1.0.0")
    pkg_dir_path = epath.Path(__file__).parent  # TFDS looks for it in a package

    def _info(self) -> Any:
        features = tensorflow_datasets.features
        kinds = {"smiles": np.bool_, "age": np.int64, "serial": np.int64, "weight": np.float32}
        return self.dataset_info_from_configs(
            features=features.FeaturesDict(
                {
                    "photo": {"image": features.Image(shape=(4, 4, 1), dtype=np.uint8, encoding_format="png")},
                    "kind": features.ClassLabel(names=["cat", "dog", "cow"]),
                    "attributes": {name: features.Scalar(kind) for name, kind in kinds.items()},
                }
            )
        )

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._examples()}

    def _generate_examples(self, **kwargs: Any) -> Any:
        raise NotImplementedError("each split has its own generator")

    @staticmethod
    def _examples() -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(N):
            image = np.full((4, 4, 1), 20 * i, np.uint8)
            attributes = {"smiles": i % 2 == 1, "age": i % 4, "serial": 1000 + i, "weight": 0.5}
            yield i, {"photo": {"image": image}, "kind": i % 3, "attributes": attributes}


class Scans(Pets):
    """Files as they came from somebody: photos on their head, and drawings that are transparent."""

    def _info(self) -> Any:
        image = tensorflow_datasets.features.Image(shape=(4, 6, 4), dtype=np.uint8, encoding_format="png")
        return self.dataset_info_from_configs(features=tensorflow_datasets.features.FeaturesDict({"image": image}))

    @staticmethod
    def _examples() -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(N):
            file = io.BytesIO()
            if i % 2:
                exif = Image.Exif()
                exif[0x0112] = 3
                Image.fromarray(photo()).save(file, "PNG", exif=exif)
            else:
                clear = np.zeros((4, 6, 1), np.uint8)
                Image.fromarray(np.concatenate([photo(), clear], -1)).save(file, "PNG")
            file.seek(0)
            yield i, {"image": file}


class Depths(Pets):
    """Floats, which TFDS keeps as the four channels of a PNG."""

    def _info(self) -> Any:
        image = tensorflow_datasets.features.Image(shape=(4, 6, 1), dtype=np.float32, encoding_format="png")
        return self.dataset_info_from_configs(features=tensorflow_datasets.features.FeaturesDict({"depth": image}))


def photo() -> Any:
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def pets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AECLI_DATA_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(tfds, "BUILT_IN", {**tfds.BUILT_IN, "pets": Pets, "scans": Scans, "depths": Depths})
        yield


def test_every_name_is_understood_or_refused_with_a_reason(tmp_path: Path) -> None:
    understood = 0
    for name in tfds.names():
        try:
            shape, classes, *_ = tfds.declared(Data(name=name), tmp_path)
        except SettingError as error:
            assert error.path == ("data", "name") and "builder_kwargs" not in str(error) and len(error.text) < 1000, name
            continue
        assert len(shape) == 3 and shape[2] in (1, 3) and (classes is None or classes >= 0), name
        understood += 1
    assert understood > 100
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "label", "classes"),
    [
        ("dsprites", None, 0),
        ("dsprites", "label_orientation", 40),
        ("celeb_a", "attributes/Smiling", 2),
        ("cifar100", None, 100),
        ("cifar100", "coarse_label", 20),
        ("smallnorb", None, 5),
        ("stanford_online_products", "super_class_id/num", 12),
        ("so2sat", "sample_id", None),
    ],
)
def test_a_label_is_chosen_by_its_name(name: str, label: str | None, classes: int | None, tmp_path: Path) -> None:
    assert tfds.declared(Data(name=name, label=label), tmp_path)[1] == classes


@pytest.mark.parametrize(
    ("name", "label", "told"),
    [
        ("dsprites", "label_shap", "did you mean 'label_shape'?"),
        ("celeb_a", "smiling", "did you mean 'attributes/Smiling'?"),
        ("dsprites", "value_scale", "is a Tensor"),
        ("dsprites", "image", "is a Image"),
        ("lsun", "label", "has no 'label'"),
        ("clevr", "objects", "is a Sequence"),
    ],
)
def test_a_label_that_is_none_is_refused(name: str, label: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError) as caught:
        tfds.declared(Data(name=name, label=label), tmp_path)
    assert caught.value.path == ("data", "label") and told in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(
    ("label", "classes", "of_image"),
    [("kind", 3, lambda i: i % 3), ("attributes/smiles", 2, lambda i: i % 2), ("attributes/age", 4, lambda i: i % 4)],
)
def test_labels_go_with_their_images(label: str, classes: int, of_image: Any) -> None:
    opened = open_dataset(Data(name="pets", label=label, batch_size=2, validation=2))
    assert opened.spec.classes == classes
    seen: list[int] = []
    for split in ("train", "validation", "test"):
        images, labels = opened.split(split).take(np.arange(len(opened.split(split))))
        seen += [int(image[0, 0, 0]) // 20 for image in images]
        assert labels.tolist() == [of_image(int(image[0, 0, 0]) // 20) for image in images]
    assert sorted(seen) == list(range(N))


def test_without_a_label_it_is_told_which_there_are() -> None:
    said: list[str] = []
    opened = open_dataset(Data(name="pets", batch_size=2, tier="stream"), said.append)
    assert opened.spec.classes == 0 and set(opened.train.take(np.arange(5))[1]) == {-1}
    assert any("data.label can be kind, attributes/age, " in line or "kind" in line for line in said)


@pytest.mark.parametrize("tier", ["auto", "stream"])
def test_encoded_images_are_read_as_those_of_a_folder(tier: Any) -> None:
    said: list[str] = []
    data = Data(name="scans", batch_size=2, validation=0, background=(10, 200, 30), tier=tier)
    opened = open_dataset(data, said.append)
    assert peek(data) == (opened.spec, {"train": 11, "test": 1}, None), "as it is prepared by now"
    seen = [row for split in ("train", "test") for row in opened.split(split).take(np.arange(len(opened.split(split))))[0]]
    upright, plain = photo()[::-1, ::-1], np.broadcast_to(np.uint8([10, 200, 30]), (4, 6, 3))
    assert sorted(row.tobytes() for row in seen) == sorted([upright.tobytes()] * (N // 2) + [plain.tobytes()] * (N // 2))
    assert any(f"EXIF rotated {N // 2}" in line and f"data.background in {N // 2}" in line for line in said), said


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_an_image_encoded_without_tensorflow_is_a_png_of_the_same_pixels(channels: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, channels), np.uint8)
    with Image.open(io.BytesIO(png(pixels)), formats=("PNG",)) as image:
        image.verify()
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert image.mode == mode and np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_images_of_floats_are_refused_before_they_are_prepared() -> None:
    with pytest.raises(SettingError, match="'depth' of 'depths' is float32") as caught:
        peek(Data(name="depths"))
    assert caught.value.path == ("data", "name") and "data.name: npz" in str(caught.value.help)


def test_numbers_that_are_no_classes_are_refused() -> None:
    with pytest.raises(SettingError, match=r"goes from 0 to 1,011 in 12 images") as caught:
        open_dataset(Data(name="pets", label="attributes/serial", batch_size=2))
    assert caught.value.path == ("data", "label")


def test_check_tells_a_wrong_label_with_its_place(tmp_path: Path) -> None:
    text = "data:\n  name: dsprites\n  label: label_shap\nmodel: {variant: bottleneck}\ntrain: {steps: 1}\n"
    (tmp_path / "c.yaml").write_text(text)
    done = called("check", "c.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "c.yaml:3:10" in done.stderr and "label_shape" in done.stderr, done.stderr
    done = called("check", "c.yaml", "--set", "data.label=label_shape", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = called("check", "c.yaml", "--set", "data.name=yes_no", cwd=tmp_path)
    assert done.returncode == 2 and "packages" in done.stderr, done.stderr
    done = called("check", "c.yaml", "--set", "data={name: npz, path: c.yaml, label: x}", cwd=tmp_path)
    assert done.returncode == 2 and "label" in done.stderr


@pytest.mark.timeout(120)
def test_prepared_data_in_the_place_of_other_data_or_of_no_files_is_told(tmp_path: Path) -> None:
    data = Data(name="digits")
    tfds.TfdsSource(data, tmp_path, print)
    prepared = tmp_path / "digits" / "1.0.0"
    for file in sorted(prepared.iterdir()):
        file.rename(tmp_path / "aside")
        os.mkfifo(file)
        with pytest.raises(DataError, match=f"{file} is a FIFO, not a file") as caught:
            tfds.TfdsSource(data, tmp_path, print)
        assert caught.value.help == f"remove {tmp_path / 'digits'} and run again to prepare it anew"
        (tmp_path / "aside").rename(file)
    (prepared / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot be opened"):
        tfds.TfdsSource(data, tmp_path, print)
    with pytest.raises(SettingError) as refused:  # what is there is not what was asked for
        tfds.TfdsSource(Data(name="digits:9.9.9"), tmp_path, print)
    assert refused.value.path == ("data", "name")
    prepared.parent.rename(tmp_path / "shapes")
    (tmp_path / "shapes" / "1.0.0").rename(tmp_path / "shapes" / "2.0.0")
    with pytest.raises(DataError, match="cannot be opened"):
        tfds.TfdsSource(Data(name="shapes"), tmp_path, print)


def test_a_place_that_is_not_utf8_is_told() -> None:
    with pytest.raises(StorageError, match="is not UTF-8"):
        tfds.TfdsSource(Data(name="digits"), Path(os.fsdecode(b"/tmp/\xff")), print)
