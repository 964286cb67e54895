"""Data sets by their TFDS name, prepared once, without TensorFlow where their builder allows it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from PIL import Image
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError
from tensorflow_datasets.core.registered import DatasetNotFoundError

from aecli.config.schema import OWN_FILES, Data
from aecli.data.sources import fashion
from aecli.data.sources.base import Images, Labels, Layout, Origin, Say, stack
from aecli.data.sources.digits import Digits
from aecli.data.sources.shapes import Shapes
from aecli.data.sources.tfds_without_tf import without_tensorflow
from aecli.errors import DataError, SettingError, did_you_mean
from aecli.system.files import exclusive

BUILT_IN: Mapping[str, Any] = {"digits": Digits, "shapes": Shapes}
FILE_ORDER = ("mnist", "fashion_mnist", "kmnist")
"""Published protocols speak of the last 10,000 images of these files, which are shuffled already. TFDS shuffles what it
prepares by a hash; for these it is told not to."""


class TfdsSource:
    def __init__(self, data: Data, root: Path, say: Say, version: str | None = None) -> None:
        """Prepares the data set below `root` where it is not yet; `version` is that of a built-in set. Raises SettingError for an
        unknown name, DataError if the data cannot be had or read."""
        _hush()
        self._name, self._layout = data.name, Layout.of(data)
        self._builder = _builder(data.name, root, version)
        self._image, self._label = _features(data.name, self._builder.info)
        if not self._builder.is_prepared():
            with exclusive(root / ".lock"):
                if not self._builder.is_prepared():
                    _prepare(data, root, say, version)
            self._builder = _builder(data.name, root, version)
        self._open(data)

    def _open(self, data: Data) -> None:
        splits = self._builder.info.splits
        if self._name in FILE_ORDER and not self._builder.info.disable_shuffling:
            raise self._damaged("it was prepared elsewhere and its examples are not in the order of the original files")
        if "train" not in splits:
            raise DataError(f"{self._name} has no split 'train', only {', '.join(splits)}")
        names = [name for name in ("train", "test") if name in splits]
        self._sources = {name: self._data_source(name) for name in names}
        sizes = {name: int(splits[name].num_examples) for name in names}
        self._offset = 0
        if "test" not in names:
            held_out = max(1, round(data.test * sizes["train"]))
            self._offset = sizes["train"] - held_out
            sizes = {"train": self._offset, "test": held_out}
        for name in names:
            expected = int(splits[name].num_examples)
            if len(self._sources[name]) != expected:
                raise self._damaged(f"split '{name}' holds {len(self._sources[name])} of {expected} examples")
        height, width, channels = self.read("train", np.zeros(1, np.int64))[0].shape[1:]
        info = self._builder.info
        classes = 0 if self._label is None else int(info.features[self._label].num_classes)
        self.origin = Origin((height, width, channels), classes, sizes, f"{info.full_name}:{sizes}")

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        if split == "test" and self._offset:
            split, index = "train", index + self._offset
        try:
            records = self._sources[split].__getitems__(index.tolist())
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise self._damaged(f"split '{split}' cannot be read: {str(error).splitlines()[0]}") from None
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            images = list(pool.map(lambda record: self._decode(record[self._image]), records))
        labels = [-1 if self._label is None else int(record[self._label]) for record in records]
        return stack(images, lambda i: f"example {index[i]}"), np.array(labels, np.int32)

    def _decode(self, encoded: bytes) -> Images:
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                return self._layout.arrange(image, self._name)
        except (OSError, SyntaxError, ValueError) as error:
            raise self._damaged(f"an image cannot be decoded: {error}") from None

    def _data_source(self, split: str) -> Any:
        try:
            return self._builder.as_data_source(split, decoders={self._image: tfds.decode.SkipDecoding()})
        except (RuntimeError, ValueError, OSError) as error:
            raise self._damaged(f"split '{split}' cannot be opened: {str(error).splitlines()[0]}") from None

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._name}: {what}", f"remove {self._builder.data_dir} and run again to prepare it anew")


def names() -> tuple[str, ...]:
    """Every name that TFDS knows, the built-in ones among them."""
    return tuple(sorted({*tfds.list_builders(with_community_datasets=False), *BUILT_IN}))


def check_name(name: str) -> None:
    """Raises SettingError if TFDS does not know a name, which may have `/config` and `:version`."""
    base = name.split("/")[0].split(":")[0]
    if base not in (known := names()):
        raise SettingError(
            ("data", "name"),
            "unknown-data",
            f"there is no data set '{name}'",
            did_you_mean(base, (*known, *OWN_FILES)),
            f"`aecli data list` shows what there is; {' and '.join(OWN_FILES)} read your own files",
        )


def declared(name: str, root: Path) -> tuple[tuple[Any, Any, Any], int]:
    """Image shape (None if images differ) and number of classes, as the builder declares them, prepared or not. Raises
    SettingError for a name that does not exist."""
    _hush()
    info = _builder(name, root).info
    image, label = _features(name, info)
    return info.features[image].shape, 0 if label is None else int(info.features[label].num_classes)


def _builder(name: str, root: Path, version: str | None = None) -> Any:
    check_name(name)
    if name in BUILT_IN:
        return BUILT_IN[name](version=version, data_dir=str(root), file_format="array_record")
    try:
        with _quiet():
            return tfds.builder(name, data_dir=str(root), file_format="array_record")
    except ImportError as error:
        raise _needs_tensorflow(name, error) from None
    except (ValueError, AssertionError, DatasetNotFoundError) as error:
        line = str(error).strip().splitlines()[0]
        raise SettingError(("data", "name"), "unknown-data", f"TFDS refuses '{name}': {line}") from None


def _features(name: str, info: Any) -> tuple[str, str | None]:
    """The names of the image and the label among a data set's features. Raises SettingError if there is not one image."""
    images = [key for key, feature in info.features.items() if isinstance(feature, tfds.features.Image)]
    image, label = (info.supervised_keys or (None, None))[:2]
    if image not in images:
        if len(images) != 1:
            message = f"'{name}' holds {len(images) or 'no'} images in each example: {', '.join(info.features)}"
            raise SettingError(("data", "name"), "unsuitable", message, help="choose a data set with one image in each example")
        image = images[0]
    if label not in info.features or not isinstance(info.features[label], tfds.features.ClassLabel):
        label = "label" if isinstance(info.features.get("label"), tfds.features.ClassLabel) else None
    return str(image), label


def _prepare(data: Data, root: Path, say: Say, version: str | None) -> None:
    """Prepares into a temporary folder that is moved into place when it is whole, and removed when it is not."""
    for stale in root.glob(".tmp-*"):  # of a process that was killed; this one holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    say(f"preparing {data.name} (once)")
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=root))
    try:
        manual = _manual_dir(data, temporary)
        builder = _builder(data.name, temporary / "out", version)
        config = tfds.download.DownloadConfig(manual_dir=manual, try_download_gcs=False, register_checksums=False)
        if data.name in FILE_ORDER:
            builder.info.as_proto.disable_shuffling = True
        try:
            with _quiet(), without_tensorflow(builder):
                builder.download_and_prepare(download_dir=str(temporary / "downloads"), download_config=config)
        except Exception as error:
            raise _explain(data.name, error) from error
        made = Path(builder.data_dir)
        target = root / made.relative_to(temporary / "out")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(made, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _manual_dir(data: Data, temporary: Path) -> str | None:
    """The folder of original files to use instead of a download."""
    given = Path(data.manual_dir) if data.manual_dir is not None else None
    if given is not None and not given.is_dir():
        raise DataError(f"data.manual_dir: {given} is not a folder")
    if data.name == "fashion_mnist":
        folder = given or fashion.DEBIAN
        if fashion.has_files(folder):
            originals = temporary / "originals"
            originals.mkdir()
            fashion.restore_originals(folder, originals)
            return str(originals)
    return None if given is None else str(given)


def _explain(name: str, error: Exception) -> DataError:
    import requests

    text = str(error).strip().splitlines()
    line = text[0] if text else type(error).__name__
    if isinstance(error, NonMatchingChecksumError):
        return DataError(
            f"{name}: a file is not the original, its checksum is wrong: {line}", "replace the file in data.manual_dir"
        )
    if isinstance(error, (requests.exceptions.RequestException, DownloadError, ConnectionError, TimeoutError)):
        return DataError(
            f"{name}: the files cannot be downloaded: there is no network, or the server does not answer",
            f"run `aecli data prepare {name}` on a machine with a network and copy its data folder (`aecli data list` names it),"
            " or put the original files into a folder and set data.manual_dir"
            + (", or install Debian's package dataset-fashion-mnist" if name == "fashion_mnist" else ""),
        )
    if isinstance(error, ImportError) or "tensorflow" in str(error).lower() or isinstance(error, (AttributeError, TypeError)):
        return _needs_tensorflow(name, error)
    return DataError(f"{name} cannot be prepared: {type(error).__name__}: {line}")


def _needs_tensorflow(name: str, error: Exception) -> DataError:
    text = str(error).strip().splitlines()
    return DataError(
        f"{name} cannot be prepared without more packages: {text[0] if text else error!r}",
        "install TensorFlow beside aecli for this data set: pip install 'aecli[tf]'",
    )


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """TFDS without its prints, and without four minutes of retries where there is no network."""
    from tensorflow_datasets.core.download import downloader

    with (
        mock.patch.object(downloader, "MAX_RETRIES", 1),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield


def _hush() -> None:
    """TFDS tells its story in logs and progress bars; ours is told by `say`."""
    tfds.disable_progress_bar()
    for name in ("absl", "urllib3", "etils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
