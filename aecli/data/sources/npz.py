"""`name: npz`: arrays of images in an .npz or .npy file, by the names that Keras, MedMNIST and most people give them.

What is understood is told in a line; where type, values and shape leave two readings it is an error until the config says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import Data
from aecli.data.sources.arrays import Classes, classes_of, finite_extremes, labels_in, layout_of
from aecli.data.sources.base import Images, Labels, Layout, Origin, fixed_shuffle, stack
from aecli.data.sources.names import LABELS, Roles, roles
from aecli.data.sources.npy import DAMAGED, MAGIC, StoredArray, names_of
from aecli.data.sources.scale import LEVELS, Scale, checked, number
from aecli.data.sources.told import about, lacking, some
from aecli.errors import DataError
from aecli.system.own import open_own
from aecli.system.reading import of_the_system

_KINDS = {"image": ("image", "images", "img", "imgs", "x", "data"), "label": LABELS}
_HELP = "np.savez(path, image=images, label=labels) and, if there are such, test_image and test_label, val_image and val_label"


class NpzSource:
    def __init__(self, data: Data, whole: bool = False) -> None:
        """Of a `whole` file nothing is held out. Raises DataError if there are no images, or what is there can be understood in
        two ways."""
        assert data.path is not None
        self._path, self._layout = Path(data.path), Layout.of(data)
        arrays, unused, facts = _load(self._path, data)
        images = {split: array for (kind, split), (_, array) in arrays.items() if kind == "image"}
        names = {split: name for (kind, split), (name, _) in arrays.items() if kind == "image"}
        facts += [f"arrays left out: {some(unused)}"] if unused else []
        for split, array in images.items():
            fact = layout_of(array, f"{self._path}: '{names[split]}'", data.layout)
            facts += [f"'{names[split]}' is {fact}"] if fact else []
        scale, fact = self._scale_of(images, names, data)
        self._to = scale.to_bytes if data.dtype == "uint8" else scale.to_floats
        facts += [fact] if fact else []
        classes = self._classes(arrays, images, data, facts)
        self._rows: dict[str, tuple[StoredArray, Labels, NDArray[np.int64]]] = {
            split: (array, classes.labels[split], np.arange(len(array))) for split, array in images.items()
        }
        if "test" not in self._rows and not whole:
            self._cut(data.test, facts)
        self._names = {split: names.get(split, names["train"]) for split in self._rows}
        self._rows = {split: self._rows[split] for split in ("train", "validation", "test") if split in self._rows}
        have = {split: set(labels[chosen].tolist()) for split, (_, labels, chosen) in self._rows.items()}
        facts += lacking(have.pop("train"), have, classes.names)
        shapes = {split: self._one(split, 0).shape for split in self._rows if split in images}
        if len(set(shapes.values())) > 1:
            raise DataError(
                f"{self._path}: images differ in size: "
                + ", ".join(f"'{self._names[split]}' {'x'.join(map(str, shape))}" for split, shape in shapes.items()),
                "set data.size: [height, width] to resize, and data.channels: 1 or 3 for gray or colour",
            )
        sizes = {split: len(chosen) for split, (_, _, chosen) in self._rows.items()}
        height, width, channels = shapes["train"]
        shape = (height, width, channels)
        told = about(sizes, classes.names, shape, facts)
        self.origin = Origin(shape, len(classes.names), sizes, "", classes.names, told, data.dtype)

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        array, labels, kept = self._rows[split]
        chosen = self._to(array[kept[index]])
        if self._layout != Layout(None, None):
            name = self._names[split]
            found = [self._layout.arrange_array(image, f"{name}[{i}]") for i, image in zip(index, chosen, strict=True)]
            chosen = stack(found, lambda i: f"{name}[{index[i]}]")
        return chosen, labels[kept[index]]

    def labels(self, split: str) -> Labels:
        _, labels, kept = self._rows[split]
        return labels[kept]

    def converted(self) -> tuple[str, ...]:
        return ()  # all is known, and told, when the file is opened

    def _one(self, split: str, i: int) -> Images:
        return self.read(split, np.array([i]))[0][0]

    def _scale_of(self, images: Mapping[str, StoredArray], names: Mapping[str, str], data: Data) -> tuple[Scale, str]:
        """The one scale of the images of all splits, and what is to be told of it."""
        types = {str(array.dtype.name) for array in images.values()}
        quoted = " and ".join(f"'{name}'" for name in names.values())
        if len(types) > 1:
            raise DataError(f"{self._path}: {quoted} are of different types: {', '.join(sorted(types))}", "save all in one type")
        dtype = types.pop()
        found = {split: finite_extremes(array, f"{self._path}: '{names[split]}'") for split, array in images.items()}
        low, high = min(low for low, _ in found.values()), max(high for _, high in found.values())
        shapes = " and ".join(str(list(array.shape)) for array in images.values())
        try:
            scale, fact = checked(f"{self._path}: {quoted} {shapes}", dtype, low, high, data.range, data.dtype == "float32")
        except DataError:
            if data.range is None and high > 0 and min(top for _, top in found.values()) < high / LEVELS:
                reach = ", ".join(f"'{names[split]}' from {number(a)} to {number(b)}" for split, (a, b) in found.items())
                fix = "save all splits in one range of values"  # no data.range suits them all
                raise DataError(f"{self._path}: splits are in different ranges: {reach}", fix) from None
            raise
        for split, extremes in found.items():  # one split of 0 to 255 must not hide another of 0 and 1
            if extremes[1] < scale.white / LEVELS:
                self._alone(f"{self._path}: '{names[split]}' {list(images[split].shape)}", dtype, extremes, data, high)
        return scale, fact

    def _alone(self, what: str, dtype: str, extremes: tuple[float, float], data: Data, highest: float) -> None:
        """Raises DataError if the values of one split could not be meant if it was the only one."""
        try:
            checked(what, dtype, *extremes, data.range, data.dtype == "float32")
        except DataError as error:
            fix = "save all splits in one range of values, or set data.range: [black, white] if they are in one"
            raise DataError(f"{error.message}, while other splits reach {number(highest)}", fix) from None

    def _classes(
        self,
        arrays: Mapping[tuple[str, str], tuple[str, StoredArray]],
        images: Mapping[str, StoredArray],
        data: Data,
        facts: list[str],
    ) -> Classes:
        labels = {split: named for (kind, split), named in arrays.items() if kind == "label"}
        for split in labels.keys() - images.keys():
            raise DataError(f"{self._path} holds labels '{labels[split][0]}' and no images of the {split} split", _HELP)
        sizes = {split: len(array) for split, array in images.items()}
        if labels and data.labels == "none":
            facts.append(f"labels left out (data.labels: none): {some([name for name, _ in labels.values()])}")
        if not labels or data.labels == "none":
            return Classes((), {split: np.full(n, -1, np.int32) for split, n in sizes.items()}, "")
        for split in images.keys() - labels.keys():
            name = arrays["image", split][0]
            raise DataError(
                f"{self._path}: the images '{name}' have no labels, while there are '{next(iter(labels.values()))[0]}'",
                f"add labels of the {split} split, or set data.labels: none to read all without labels",
            )
        read = {
            split: (name, labels_in(array, f"{self._path}: '{name}'", sizes[split]))
            for split, (name, array) in ((split, labels[split]) for split in images)
        }
        classes = classes_of(read, sizes, str(self._path))
        facts += [classes.fact] if classes.fact else []
        return classes

    def _cut(self, fraction: float, facts: list[str]) -> None:
        """Holds a part of train out as the test split."""
        array, labels, _ = self._rows["train"]
        order = fixed_shuffle(len(array))
        cut = len(array) - max(1, round(fraction * len(array)))
        if cut == 0:
            raise DataError(
                f"{self._path} holds one image; none is left to train on when it is held out as the test split",
                "add images, or an array test_image",
            )
        kept = np.sort(order[:cut])
        self._rows |= {"train": (array, labels, kept), "test": (array, labels, order[cut:])}
        if "validation" in self._rows:
            facts.append(f"there are no test images, so that {len(array) - cut:,} of train are held out as test")


def _load(path: Path, data: Data) -> tuple[dict[tuple[str, str], tuple[str, StoredArray]], list[str], list[str]]:
    """The arrays that are images or labels of a split, as (kind, split) -> (name, array), the names of the others, and what is to
    be told of it."""
    try:
        with open_own(path) as file:
            start = file.read(len(MAGIC))
        if start == MAGIC:
            return {("image", "train"): (path.name, StoredArray(path))}, [], []
        found, facts = _roles(path, names_of(path)), list[str]()
        if data.labels != "none":
            fix = "save the file with one of them, or set data.labels: none to read the images without labels"
            found, facts = found.with_some_labels(path, fix)
        return {role: (name, StoredArray(path, name)) for role, name in found.names.items()}, found.unused, facts
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "set data.path to an .npz file with an array 'image', or to an .npy") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a file", "set data.name: folder to read a folder of image files") from None
    except DAMAGED as error:
        if of_the_system(error):
            raise
        raise DataError(f"{path}: no readable .npz or .npy file: {error}", "save or copy it again") from None


def _roles(path: Path, names: list[str]) -> Roles:
    found = roles(path, names, _KINDS)
    if found.unused == names == ["arr_0"]:  # np.savez(path, images)
        return Roles({("image", "train"): "arr_0"}, [])
    if ("image", "train") not in found.names:
        raise DataError(f"{path} holds no array 'image', only {some(names) or 'nothing'}", _HELP)
    return found
