"""Data sets by their TFDS name, prepared once, without TensorFlow where their builder allows it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from numpy.typing import NDArray
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError
from tensorflow_datasets.core.registered import DatasetNotFoundError

from aecli.config.schema import OWN_FILES, Data
from aecli.data.sources import fashion
from aecli.data.sources.base import Images, Labels, Origin, Say, base_of, stack
from aecli.data.sources.decode import Decoded, Look, decode
from aecli.data.sources.digits import Digits
from aecli.data.sources.photos import Photos
from aecli.data.sources.shapes import Shapes
from aecli.data.sources.tfds_without_tf import without_tensorflow
from aecli.data.sources.told import some
from aecli.errors import DataError, SettingError, StorageError, did_you_mean
from aecli.system.files import exclusive
from aecli.system.folders import open_to_readers
from aecli.system.own import check_own

BUILT_IN: Mapping[str, Any] = {"digits": Digits, "photos": Photos, "shapes": Shapes}
FILE_ORDER = ("mnist", "fashion_mnist", "kmnist")
"""Published protocols speak of the last 10,000 images of these files, which are shuffled already. TFDS shuffles what it
prepares by a hash; for these it is told not to."""
_RECORDS = 1024
_EXTRA = "'aecli[tf]'"
_SHOWN = 12
"""Names of features in a message."""


class TfdsSource:
    def __init__(self, data: Data, root: Path, say: Say, version: str | None = None) -> None:
        """Prepares the data set below `root` where it is not yet; `version` is that of a built-in set. Raises SettingError for an
        unknown name, DataError if the data cannot be had or read, StorageError if its files can have no such path."""
        try:
            str(root).encode()
        except UnicodeEncodeError:  # ArrayRecord opens none
            message = f"prepared data cannot be kept in {root}, which is not UTF-8"
            raise StorageError(message, "set AECLI_DATA_DIR to a folder with another name") from None
        _hush()
        self._name, self._look = data.name, Look.of(data)
        self._notes: dict[tuple[str, str], NDArray[np.bool_]] = {}
        """Which examples of a split something was done to: a byte each, since a stream may be read for days."""
        self._builder = _builder(data.name, root, version)
        self._image, self._label = _features(data, self._builder.info)
        if self._label is None and (labels := _labels(self._builder.info)):
            say(f"{data.name}: no labels are read; data.label can be {some(labels, _SHOWN)}")
        if not self._builder.is_prepared():
            lock = root / f".{data.name.replace('/', '_')}.lock"
            with exclusive(lock, f"prepares {data.name}", say):
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
        names = _read_splits(data, splits)
        self._sources = {name: self._data_source(name) for name in names}
        self._sizes = sizes = _sizes(data, splits)
        self._offset = 0 if "test" in names else sizes["train"]
        for name in names:
            expected = int(splits[name].num_examples)
            if len(self._sources[name]) != expected:
                raise self._damaged(f"split '{name}' holds {len(self._sources[name])} of {expected} examples")
        height, width, channels = self.read("train", np.zeros(1, np.int64))[0].shape[1:]
        classes = 0 if self._label is None else _classes(self._label)
        if classes is None:
            classes = self._count_classes(sizes)
        names = () if self._label is None else _class_names(self._label, classes)
        self.origin = Origin((height, width, channels), classes, sizes, f"{self._builder.info.full_name}:{sizes}", names)

    def _count_classes(self, sizes: Mapping[str, int]) -> int:
        """One more than the largest label, of labels that are whole numbers without a declared range."""
        assert self._label is not None
        low, high = 0, 0
        for split, n in sizes.items():
            for start in range(0, n, _RECORDS):
                records = self._records(split, np.arange(start, min(start + _RECORDS, n)))
                labels = [int(self._label.of(record)) for record in records]
                low, high = min(low, *labels), max(high, *labels)
        images = sum(sizes.values())
        if low < 0 or high >= images:
            raise SettingError(
                ("data", "label"),
                "unsuitable",
                f"'{self._label.name}' of '{self._name}' goes from {low:,} to {high:,} in {images:,} images: that is no class",
                help="choose another feature, or leave data.label out",
            )
        return high + 1

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        records = self._records(split, index)
        # A task a thread: to hand over one small image takes longer than to decode it.
        share = -(-len(records) // (os.cpu_count() or 1))
        with ThreadPoolExecutor() as pool:
            shares = pool.map(self._decode_all, (records[i : i + share] for i in range(0, len(records), share)))
            found = [one for share in shares for one in share]
        for i, one in zip(index, found, strict=True):
            for note in one.notes:
                if (note, split) not in self._notes:
                    self._notes[note, split] = np.zeros(self._sizes[split], bool)
                self._notes[note, split][i] = True
        labels = [-1 if self._label is None else int(self._label.of(record)) for record in records]
        return stack([one.image for one in found], lambda i: f"example {index[i]}"), np.array(labels, np.int32)

    def _records(self, split: str, index: NDArray[np.int64]) -> list[Any]:
        if split == "test" and self._offset:
            split, index = "train", index + self._offset
        try:
            return list(self._sources[split].__getitems__(index.tolist()))
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise self._damaged(f"split '{split}' cannot be read: {str(error).splitlines()[0]}") from None

    def _decode_all(self, records: Sequence[Any]) -> list[Decoded]:
        return [self._decode(self._image.of(record)) for record in records]

    def converted(self) -> tuple[str, ...]:
        counts: dict[str, int] = {}
        for (note, _), of_example in self._notes.items():
            counts[note] = counts.get(note, 0) + int(of_example.sum())
        return tuple(f"{note} {n:,}" for note, n in counts.items())

    def _decode(self, encoded: bytes) -> Decoded:
        """As a file of a folder is: TFDS would leave a photo on its side, and what is transparent in the colours hidden there."""
        try:
            return decode(encoded, self._name, self._look)
        except DataError as error:
            raise self._damaged(f"an image cannot be decoded: {error.message}") from None

    def _data_source(self, split: str) -> Any:
        try:
            return self._builder.as_data_source(split, decoders=self._image.inside(tfds.decode.SkipDecoding()))
        except (RuntimeError, ValueError, OSError) as error:
            raise self._damaged(f"split '{split}' cannot be opened: {str(error).splitlines()[0]}") from None

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._name}: {what}", f"remove {self._builder.data_dir} and run again to prepare it anew")


def names() -> tuple[str, ...]:
    """Every name that TFDS knows, the built-in ones among them."""
    return tuple(sorted({*tfds.list_builders(with_community_datasets=False), *BUILT_IN}))


def check_name(name: str) -> None:
    """Raises SettingError if TFDS does not know a name, which may have `/config` and `:version`."""
    base = base_of(name)
    if base not in (known := names()):
        raise SettingError(
            ("data", "name"),
            "unknown-data",
            f"there is no data set '{name}'",
            did_you_mean(base, (*known, *OWN_FILES)),
            f"`aecli data list` shows what there is; {' and '.join(OWN_FILES)} read your own files",
        )


class Feature(NamedTuple):
    """One of what an example holds: `keys` lead to it, through nested ones, and `name` is them with a `/` between."""

    keys: tuple[str, ...]
    kind: Any

    @property
    def name(self) -> str:
        return "/".join(self.keys)

    def of(self, record: Any) -> Any:
        for key in self.keys:
            record = record[key]
        return record

    def inside(self, value: Any) -> Any:
        """`value` where the feature is, in dictionaries nested as it is."""
        for key in reversed(self.keys):
            value = {key: value}
        return value


def _read_splits(data: Data, splits: Any) -> list[str]:
    """The splits that are read; for validation of built-in sets alone, since of others runs have held out a part of train."""
    own = ("validation",) if base_of(data.name) in BUILT_IN else ()
    return [name for name in ("train", *own, "test") if name in splits]


def _sizes(data: Data, splits: Any) -> dict[str, int]:
    """How many examples each split has; where there is no test split, a part of train is it."""
    sizes = {name: int(splits[name].num_examples) for name in _read_splits(data, splits)}
    if "train" in sizes and "test" not in sizes:
        held_out = max(1, round(data.test * sizes["train"]))
        sizes = {"train": sizes["train"] - held_out, "test": held_out}
    return sizes


class Declared(NamedTuple):
    """What a builder says of its data: the `shape` of an image, None where images differ; the number of `classes`, None if only
    the examples tell, and their `names`; the `sizes` of the splits, empty if it is not prepared."""

    shape: tuple[Any, Any, Any]
    classes: int | None
    names: tuple[str, ...]
    sizes: Mapping[str, int]


def declared(data: Data, root: Path) -> Declared:
    """Raises SettingError for a name that does not exist, and for data that holds no image or not the label."""
    _hush()
    info = _builder(data.name, root).info
    image, label = _features(data, info)
    height, width, channels = image.kind.shape
    channels = {2: None, 4: 3}.get(channels, channels)  # the background decides whether gray that is transparent stays gray
    classes = 0 if label is None else _classes(label)
    names = _class_names(label, classes) if label is not None and classes is not None else ()
    return Declared((height, width, channels), classes, names, _sizes(data, info.splits))


def absent(data: Data, root: Path) -> str | None:
    """How the images of a data set would come that are neither prepared nor made or found on this machine; None if they are.
    Raises SettingError for a name that does not exist."""
    if (
        base_of(data.name) in BUILT_IN
        or data.manual_dir is not None
        or (data.name == "fashion_mnist" and fashion.has_files(fashion.DEBIAN))
    ):
        return None
    _hush()
    builder = _builder(data.name, root)
    if builder.is_prepared():
        return None
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return "put the original files into a folder and set data.manual_dir"
    return f"training downloads them; without a network, {_without_network(data.name)}"


def _without_network(name: str) -> str:
    return (
        f"run `aecli data prepare {name}` on a machine with a network and copy its data folder (`aecli data list` names it),"
        " or put the original files into a folder and set data.manual_dir"
        + (", or install Debian's package dataset-fashion-mnist" if name == "fashion_mnist" else "")
    )


def _builder(name: str, root: Path, version: str | None = None) -> Any:
    check_name(name)
    prepared = root / base_of(name)
    anew = f"remove {prepared} and run again to prepare it anew"
    _only_files(prepared, anew)
    try:
        if name in BUILT_IN:
            return BUILT_IN[name](version=version, data_dir=str(root), file_format="array_record")
        with _quiet():
            return tfds.builder(name, data_dir=str(root), file_format="array_record")
    except DatasetNotFoundError as error:
        raise SettingError(("data", "name"), "unknown-data", f"TFDS refuses '{name}': {_reason(error)}") from None
    except Exception as error:  # a builder's own code: it may import, open and compute what it likes
        cause = error
        while not isinstance(cause, ImportError) and cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        if isinstance(cause, ImportError):
            wanted = f"its builder needs more packages: {_reason(cause)}"
            missing = re.search(r"No module named '(\w+)", str(cause))
            package = missing[1] if missing else "what it asks for"
            help = f"pip install {_EXTRA if package == 'tensorflow' else package}, beside aecli"
            raise SettingError(("data", "name"), "needs-package", f"'{name}' cannot be had: {wanted}", help=help) from None
        if _is_there(root, name):
            raise DataError(f"{name}, prepared in {prepared}, cannot be opened: {_reason(error)}", anew) from None
        raise SettingError(("data", "name"), "unsuitable", f"TFDS cannot build '{name}': {_reason(error)}") from None


def _is_there(root: Path, name: str) -> bool:
    """Whether what a name asks for has been prepared, its config and version too, so that it is that which cannot be opened."""
    of, _, version = name.partition(":")
    below = [*(root / of).glob("*"), *(root / of).glob("*/*")]
    return (root / of).is_dir() and (not version or any(fnmatch(path.name, version) for path in below))


def _only_files(prepared: Path, anew: str) -> None:
    """Raises DataError if something below a folder is neither a file nor a folder: TFDS would wait for it."""
    for path in prepared.rglob("*"):
        if path.exists() and not path.is_dir():
            try:
                check_own(path)
            except DataError as error:
                raise DataError(error.message, anew) from None


def _reason(error: Exception) -> str:
    """The first line of an error, without TFDS' account of the call before it."""
    text = re.sub(r'Failed to construct dataset "[^"]*", builder_kwargs "\{.*?\}": ?', "", str(error), flags=re.DOTALL)
    return (text.strip('" \n') or type(error).__name__).splitlines()[0].split(" Here are ")[0]


def _flat(features: Any, above: tuple[str, ...] = ()) -> Iterator[Feature]:
    """Every feature of an example that is there once: not what is in sequences."""
    if not isinstance(features, tfds.features.FeaturesDict):
        return
    for key, kind in features.items():
        if isinstance(kind, tfds.features.FeaturesDict):
            yield from _flat(kind, (*above, key))
        else:
            yield Feature((*above, key), kind)


def _class_names(label: Feature, classes: int) -> tuple[str, ...]:
    """What a label calls its classes; by their numbers where it has no names."""
    kind: Any = label.kind
    return tuple(kind.names) if isinstance(kind, tfds.features.ClassLabel) else tuple(map(str, range(classes)))


def _classes(label: Feature) -> int | None:
    """How many classes a label declares; None for whole numbers that only the examples bound."""
    kind: Any = label.kind
    if isinstance(kind, tfds.features.ClassLabel):
        return kind.num_classes
    return 2 if np.dtype(kind.np_dtype) == np.bool_ else None


def _can_label(feature: Feature) -> bool:
    """Whether it is a class, a truth value or a whole number."""
    kind: Any = feature.kind
    if isinstance(kind, tfds.features.ClassLabel):
        return kind.num_classes is not None
    return isinstance(kind, tfds.features.Tensor) and kind.shape == () and np.dtype(cast(Any, kind).np_dtype).kind in "iub"


def _labels(info: Any) -> list[str]:
    return [feature.name for feature in _flat(info.features) if _can_label(feature)]


def _features(data: Data, info: Any) -> tuple[Feature, Feature | None]:
    """The image and the label among a data set's features. Raises SettingError if there is not one image, or not the label that
    is asked for."""
    features = {feature.name: feature for feature in _flat(info.features)}
    images = [name for name, feature in features.items() if isinstance(feature.kind, tfds.features.Image)]
    image, label = [key if isinstance(key, str) else None for key in (*(info.supervised_keys or ()), None, None)][:2]
    if image not in images:
        if len(images) != 1:
            count = f"{len(images) or 'no'} images in each example"
            message = f"'{data.name}' holds {count}: {', '.join(features) or type(info.features).__name__}"
            raise SettingError(("data", "name"), "unsuitable", message, help="choose a data set with one image in each example")
        image = images[0]
    kept = np.dtype(features[image].kind.np_dtype)
    if kept != np.uint8:  # whose files are no pictures: floats are kept as the four channels of a PNG
        message = f"'{image}' of '{data.name}' is {kept}, and images of TFDS are read in 8 bit"
        raise SettingError(("data", "name"), "unsuitable", message, help="save its images as an .npz file, for data.name: npz")
    if data.label is not None:
        return features[image], _asked_label(data, features)
    for name in (label, "label"):
        if name in features and isinstance(features[name].kind, tfds.features.ClassLabel) and _can_label(features[name]):
            return features[image], features[name]
    return features[image], None


def _asked_label(data: Data, features: Mapping[str, Feature]) -> Feature:
    assert data.label is not None
    usable = [name for name, feature in features.items() if _can_label(feature)]
    if data.label in usable:
        return features[data.label]
    which = f"it can be {some(usable, _SHOWN)}" if usable else "it has nothing that can be a label: leave data.label out"
    if data.label in features:
        kind = type(features[data.label].kind).__name__
        message = f"'{data.label}' of '{data.name}' is a {kind}, no class"
        raise SettingError(("data", "label"), "unsuitable", message, help=which)
    message = f"'{data.name}' has no '{data.label}'"
    nested = next((f"did you mean '{name}'?" for name in usable if name.lower().endswith(f"/{data.label.lower()}")), "")
    raise SettingError(("data", "label"), "unknown-label", message, nested or did_you_mean(data.label, usable), which)


def _prepare(data: Data, root: Path, say: Say, version: str | None) -> None:
    """Prepares into a temporary folder that is moved into place when it is whole, and removed when it is not."""
    prefix = f".{data.name.replace('/', '_')}.tmp-"
    for stale in root.glob(f"{prefix}*"):  # of a process that was killed; this one holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    say(f"preparing {data.name} (once)")
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
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
        open_to_readers(made)
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
            _without_network(name),
        )
    if isinstance(error, ImportError) or "tensorflow" in str(error).lower() or isinstance(error, (AttributeError, TypeError)):
        return _needs_tensorflow(name, error)
    return DataError(f"{name} cannot be prepared: {type(error).__name__}: {line}")


def _needs_tensorflow(name: str, error: Exception) -> DataError:
    text = str(error).strip().splitlines()
    return DataError(
        f"{name} cannot be prepared without more packages: {text[0] if text else error!r}",
        f"install TensorFlow beside aecli for this data set: pip install {_EXTRA}",
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
