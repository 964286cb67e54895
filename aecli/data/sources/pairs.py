"""`name: pairs`: a folder `image` of what is to be made, and a folder `given` that holds, under the same names, what each is made
of.

Both stand at the top, or in each of the folders of splits. Labels and splits are told by `image` as by a whole folder of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import Data
from aecli.data.sources.base import Images, Labels
from aecli.data.sources.decode import Look
from aecli.data.sources.files import ImageFiles
from aecli.data.sources.folder import FolderSource, walk_images
from aecli.data.sources.lister import Folder, counts, split_of, text_of
from aecli.data.sources.told import form_of, some
from aecli.errors import DataError

IMAGE, GIVEN = "image", "given"
"""The folders, called as in a `Batch`."""
_LAYOUT = f"put what is to be made into a folder '{IMAGE}' and what it is made of, under the same names, into '{GIVEN}' beside it"


class PairSource:
    """Rows are [H, W, 2 C]: the image and behind it, in the channels, what is given. The order is that of a folder of the images
    alone."""

    def __init__(self, data: Data) -> None:
        """Raises DataError if one of the folders is missing or empty, a file is in one of them alone, or images differ in form
        from what is given."""
        assert data.path is not None
        root = Path(data.path)
        halves = _halves(walk_images(root))
        paths = {side: _by_name(half, side) for side, half in halves.items()}
        _check_names(halves, paths)
        self._image = FolderSource(data, tree=halves[IMAGE])
        name_of = {path: name for name, path in paths[IMAGE].items()}
        files = {split: [paths[GIVEN][name_of[path]] for path in listed] for split, listed in self._image.files.items()}
        self._given = ImageFiles(files, root, str(halves[GIVEN].path), Look.of(data))
        origin = self._image.origin
        if origin.shape != self._given.shape:
            image = f"{self._image.files['train'][0]} is {form_of(origin.shape)}"
            given = f"{files['train'][0]}, what is given, {form_of(self._given.shape)}"
            raise DataError(f"{image}, and {given}", _alike(origin.shape, self._given.shape))
        about = f"{origin.about}; each is given the one of its name in '{GIVEN}'"
        self.origin = origin._replace(about=about, paired=True)

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        images, labels = self._image.read(split, index)
        return np.concatenate([images, self._given.read(split, index)], axis=-1), labels

    def converted(self) -> tuple[str, ...]:
        return (*self._image.converted(), *(f"of '{GIVEN}' {fact}" for fact in self._given.converted()))

    def labels(self, split: str) -> Labels:
        return self._image.labels(split)


def _halves(tree: Folder) -> dict[str, Folder]:
    """The two trees, of which each has the folders of splits and labels that the whole has. Raises DataError if one is missing
    or empty, or something lies beside them."""
    if _has_halves(tree):
        return _both(tree)
    folders = [folder for folder in tree.folders if folder or _has_halves(folder) or split_of(folder.name)]
    if not any(map(_has_halves, folders)):
        raise DataError(f"{tree.path} holds no folders '{IMAGE}' and '{GIVEN}'" + _only(tree), _LAYOUT)
    _check_beside(tree, [folder.name for folder in folders])
    parts = [(folder.name, _both(folder)) for folder in folders]

    def joined(side: str) -> Folder:
        left_out = sum((part[side].left_out for _, part in parts), Counter[str]())
        return Folder(tree.path / "*" / side, side, [], [part[side]._replace(name=name) for name, part in parts], left_out)

    return {side: joined(side) for side in (IMAGE, GIVEN)}


def _has_halves(folder: Folder) -> bool:
    return any(inner.name in (IMAGE, GIVEN) for inner in folder.folders)


def _both(folder: Folder) -> dict[str, Folder]:
    halves = {inner.name: inner for inner in folder.folders if inner.name in (IMAGE, GIVEN)}
    for side in (IMAGE, GIVEN):
        if side not in halves:
            raise DataError(f"{folder.path} holds no folder '{side}'" + _only(folder), _LAYOUT)
    for half in halves.values():
        if not half:
            left_out = f" (left out: {counts(half.left_out)})" if half.left_out else ""
            raise DataError(f"{half.path} holds no images{left_out}", "put images there: both folders hold the same names")
    _check_beside(folder, [IMAGE, GIVEN])
    return halves


def _only(folder: Folder) -> str:
    names = [inner.name for inner in folder.folders]
    return f", only {some(names)}" if names else ""


def _check_beside(folder: Folder, known: Sequence[str]) -> None:
    """Raises DataError if images lie at the top of a folder, or in others than the `known` ones."""
    others = [path.name for path in folder.images] + [inner.name for inner in folder.folders if inner and inner.name not in known]
    if others:
        raise DataError(f"{folder.path} holds images beside the folders {some(known)}: {some(others)}", "move them away")


def _by_name(half: Folder, side: str) -> dict[str, Path]:
    """The images of one side by what they are called there, without the ending of their files."""
    found: dict[str, Path] = {}
    for name, path in _named(half, ""):
        if name in found:
            what = f"{found[name]} and {path} have one name in '{side}'"
            raise DataError(what, "pairs are told by names without their endings: remove one of them")
        found[name] = path
    return found


def _named(folder: Folder, above: str) -> Iterator[tuple[str, Path]]:
    yield from ((above + text_of(path.stem), path) for path in folder.images)
    for inner in folder.folders:
        yield from _named(inner, f"{above}{inner.name}/")


def _check_names(halves: Mapping[str, Folder], paths: Mapping[str, Mapping[str, Path]]) -> None:
    alone: list[str] = []
    for side, other in ((IMAGE, GIVEN), (GIVEN, IMAGE)):
        names = [name for name in paths[side] if name not in paths[other]]
        if names:
            alone.append(f"{len(names):,} of {len(paths[side]):,} in {halves[side].path} are not in '{other}' ({some(names, 3)})")
    if alone:
        raise DataError(
            "; ".join(alone), "give both files of a pair one name, in sub-folders of one name, or remove one that is alone"
        )


def _alike(*shapes: tuple[int, int, int]) -> str:
    fixes = ["data.size: [height, width] to resize both"] * (len({shape[:2] for shape in shapes}) > 1)
    fixes += ["data.channels: 3 for colour or 1 for gray of both"] * (len({shape[2] for shape in shapes}) > 1)
    return f"set {' and '.join(fixes)}"
