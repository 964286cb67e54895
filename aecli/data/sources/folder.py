"""`name: folder`: image files, labels from sub-folders, splits from folders that are called so or cut from the whole.

What is understood is told in a line; where two readings are possible it is an error until the config says which.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import Data
from aecli.data.sources.base import Images, Labels, Origin, fixed_shuffle
from aecli.data.sources.decode import FORMATS, Look
from aecli.data.sources.files import ImageFiles
from aecli.data.sources.lister import SUFFIXES, Folder, counts, maybe_split, natural, split_of, walk
from aecli.data.sources.told import about, lacking, some
from aecli.errors import DataError


class _File(NamedTuple):
    path: Path
    label: str | None


class FolderSource:
    """The files in a fixed shuffled order, since neighbours on disk tend to have one label; or the `whole` folder, or a single
    file, in natural order, of which nothing is held out."""

    def __init__(self, data: Data, whole: bool = False, tree: Folder | None = None) -> None:
        """`tree` is what is read of the folder, by default all of it. Raises DataError if that can be understood in two ways, or
        a part of it that is needed is empty."""
        assert data.path is not None
        root = Path(data.path)
        if whole and root.is_file() and root.suffix.lower() in SUFFIXES:
            image, root = root, root.parent
            tree = Folder(root, root.name, [image], [], Counter())
        if tree is None:
            tree = walk_images(root)
        if not tree:
            raise DataError(
                f"{tree.path} holds no {', '.join(FORMATS)} files" + _but(tree.left_out), f"images end in {', '.join(SUFFIXES)}"
            )
        facts: list[str] = []
        files = _files(data, tree, facts)
        shuffled = {split: [listed[i] for i in fixed_shuffle(len(listed))] for split, listed in files.items()}
        if whole:
            shuffled = files
        elif "test" not in shuffled:
            everything = shuffled["train"]
            cut = len(everything) - max(1, round(data.test * len(everything)))
            if cut == 0:
                raise DataError(
                    f"{tree.path} holds one image; none is left to train on when it is held out as the test split",
                    "add images, or a folder 'test' beside a folder 'train'",
                )
            shuffled |= {"train": everything[:cut], "test": everything[cut:]}
            if "validation" in shuffled:
                facts.append(f"there is no test folder, so that {len(everything) - cut:,} of train are held out as test")
        self.files = {split: [path for path, _ in listed] for split, listed in shuffled.items()}
        names = sorted({file.label for listed in files.values() for file in listed if file.label is not None}, key=natural)
        number = {name: i for i, name in enumerate(names)}
        self._labels = {
            split: np.array([-1 if label is None else number[label] for _, label in listed], np.int32)
            for split, listed in shuffled.items()
        }
        have = {split: set(labels.tolist()) for split, labels in self._labels.items()}
        facts += lacking(have.pop("train"), have, names)
        if tree.left_out:
            facts.append(f"left out: {counts(tree.left_out)}")
        self._images = ImageFiles(self.files, root, str(tree.path), Look.of(data))
        sizes = {split: len(listed) for split, listed in self.files.items()}
        self.origin = Origin(
            self._images.shape, len(names), sizes, "", tuple(names), about(sizes, names, self._images.shape, facts)
        )

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        """Raises DataError that names every file of the whole source that cannot be read or differs in size, if one does."""
        return self._images.read(split, index), self._labels[split][index]

    def converted(self) -> tuple[str, ...]:
        """What was done to the files that have been read so far, to be asked when all of them have been: then it raises DataError
        if their values cannot be meant, such as 0 and 1 alone in 8 bit."""
        return self._images.converted()

    def labels(self, split: str) -> Labels:
        return self._labels[split]

    def names(self, split: str) -> list[str]:
        """What the files of a split are called in the folder."""
        return self._images.names(split)


def walk_images(root: Path) -> Folder:
    """Everything below `data.path`. Raises DataError if that is no folder."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"{root} {what}", "set data.path to a folder of image files, or data.name: npz to read an .npz or .npy file"
        )
    return walk(root)


def _files(data: Data, tree: Folder, facts: list[str]) -> dict[str, list[_File]]:
    """The files of each split in natural order."""
    parts = _splits(data, tree)
    if len(parts) == 1 and data.splits == "folders":
        _hidden_splits(tree)
    if data.labels == "none":
        facts.append("folders are no labels (data.labels: none)")
        return {split: [_File(path, None) for path, _ in part.every()] for split, part in parts.items()}
    labelled = {split: any(part.folders) for split, part in parts.items()}
    if len(set(labelled.values())) > 1:
        without = next(split for split, has in labelled.items() if not has)
        raise DataError(
            f"{parts[without].path} holds images in no sub-folder, so without labels, while other splits have sub-folders",
            "put its images into sub-folders too, or set data.labels: none to read all of them without labels",
        )
    if not any(labelled.values()):
        if data.labels == "folders":
            raise DataError(f"{tree.path} has no sub-folders with images to be labels", "leave data.labels out")
        return {split: [_File(path, None) for path in part.images] for split, part in parts.items()}
    return {split: _labelled(data, part, facts) for split, part in parts.items()}


def _splits(data: Data, tree: Folder) -> dict[str, Folder]:
    """The folder of each split; the whole tree is train where no folder is called like one."""
    splits = {folder.name: split for folder in tree.folders if (split := split_of(folder.name)) is not None}
    named = [folder for folder in tree.folders if folder.name in splits]
    if data.splits == "none":
        return {"train": tree}
    maybe = {folder.name: split for folder in tree.folders if folder and (split := maybe_split(folder.name)) is not None}
    unclear = [name for name in maybe if name not in splits]
    if unclear and len({*maybe.values(), *splits.values()}) > 1:
        raise DataError(
            f"{tree.path}: {some([*maybe])} may be splits, and not all of them are called so: {some(unclear)}",
            "rename the folders 'train', 'val' and 'test', or set data.splits: none if they are labels",
        )
    if not named:
        return {"train": tree}
    parts: dict[str, Folder] = {}
    for folder in named:
        split = splits[folder.name]
        if split in parts:
            raise DataError(f"{parts[split].path} and {folder.path} are both the {split} split", "move one of them away")
        parts[split] = folder
    words = ", ".join(folder.name for folder in named)
    others = [folder.name for folder in tree.folders if folder and folder not in named]
    if others:
        raise DataError(
            f"{tree.path}: beside {words}, which name splits, there are folders with images: {some(others)}",
            f"move {'it' if len(others) == 1 else 'them'} away, or set data.splits: none if {words} are labels like the others",
        )
    if tree.images and data.labels != "folders":
        raise DataError(
            f"{_strays(tree)} beside the folders of splits ({words})",
            f"move {_it(tree)} away, or set data.labels: folders to leave out what is in no folder",
        )
    for split, folder in parts.items():
        if not folder:
            raise DataError(
                f"{folder.path}, the {split} split, holds no images" + _but(folder.left_out),
                "put images there, or remove the folder" + (" so that a part of train is held out" if split != "train" else ""),
            )
    if "train" not in parts:
        raise DataError(
            f"{tree.path} holds {words} and no folder 'train'",
            f"name the folder of the train split 'train', or set data.splits: none if {words} are labels",
        )
    order = [split for split in ("train", "validation", "test") if split in parts]
    return {split: parts[split] for split in order}


def _hidden_splits(tree: Folder) -> None:
    """Raises DataError if splits stand a level below the top, where they would be mixed."""
    for folder in tree.folders:
        found = {maybe_split(inner.name) for inner in folder.folders if inner} - {None}
        if "train" in found and len(found) > 1:
            alone = sum(map(bool, tree.folders)) == 1
            fix = f"set data.path: {folder.path}" if alone else "put folders train and test at the top, the labels inside of them"
            inner = ", ".join(inner.name for inner in folder.folders)
            raise DataError(f"{folder.path} holds the splits ({inner}), which would be mixed", f"{fix}; or set data.splits: none")


def _labelled(data: Data, part: Folder, facts: list[str]) -> list[_File]:
    """The files of a split whose labels are its first sub-folders. Raises DataError where the labels are not plain."""
    chosen = data.labels == "folders"
    if part.images:
        if not chosen:
            raise DataError(
                f"{_strays(part)} at the top of {part.path}, whose sub-folders are labels",
                f"move {_it(part)} away, or set data.labels: folders to leave out what is in no sub-folder, or none for no"
                " labels",
            )
        facts.append(f"{len(part.images):,} in no sub-folder of {part.path.name} left out")
    empty = [folder for folder in part.folders if not folder and folder.left_out.total() > folder.left_out["hidden"]]
    if empty and not chosen:
        raise DataError(
            f"{empty[0].path} holds no image that can be read" + _but(empty[0].left_out) + ", and its label would vanish",
            "convert its files or move the folder away; data.labels: folders goes on without it",
        )
    vanished = [folder.name for folder in part.folders if not folder]
    if vanished:
        facts.append(f"folders without images in {part.path.name}: {some(vanished)}")
    kept = [folder for folder in part.folders if folder]
    named = Counter(folder.name for folder in kept)
    alike = [ascii(folder.path.name) for folder in kept if named[folder.name] > 1]
    if alike:
        raise DataError(f"{part.path}: {' and '.join(alike[:2])} would be one label, since their names read alike", "rename them")
    depths = {depth for folder in kept for _, depth in folder.every()}
    if depths != {0} and not chosen:
        if 0 in depths:
            deep = next(path for folder in kept for path, depth in folder.every() if depth)
            shallow = next(path for folder in kept for path, depth in folder.every() if not depth)
            raise DataError(
                f"{part.path}: images lie at several depths, such as {shallow} and {deep}",
                "set data.labels: folders if the first sub-folder is the label, or none for no labels",
            )
        if len(kept) == 1:
            inner = [folder.name for folder in kept[0].folders if folder]
            raise DataError(
                f"{part.path}: all images lie below one sub-folder, {kept[0].name}, in {some(inner)}",
                f"set data.path: {kept[0].path}, or data.labels: folders if {kept[0].name} is the only label",
            )
        facts.append(f"labels are the first folders of {part.path.name}, the images lie deeper")
    return [_File(path, folder.name) for folder in kept for path, _ in folder.every()]


def _strays(folder: Folder) -> str:
    n = len(folder.images)
    return f"{folder.images[0]} lies" if n == 1 else f"{n:,} images, {some([p.name for p in folder.images], 3)}, lie"


def _it(folder: Folder) -> str:
    return "it" if len(folder.images) == 1 else "them"


def _but(left_out: Counter[str]) -> str:
    return f" (left out: {counts(left_out)})" if left_out else ""
