"""What lies in a folder of images as people have them: natural order, links followed, what the system put there skipped."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aecli.errors import DataError, printable

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of folders, and of parts of the names of arrays, that say which split something is, in any case."""
_OF_A_SPLIT = ("set", "split", "data", "images", "image", "imgs", "img")
_SPLIT, _OF = "|".join(sorted(SPLITS, key=len, reverse=True)), "|".join(_OF_A_SPLIT)
_FOLDER = re.compile(rf"(?P<first>{_SPLIT})(?:[_\-. ]?(?:{_OF}))?|(?:{_OF})[_\-. ](?P<last>{_SPLIT})")
_OF_SYSTEMS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"}
_DEEPEST = 64


class Folder(NamedTuple):
    """`images` and `folders` in natural order; `left_out` counts what is neither, by what it is, here and below. `name` is the
    folder's in NFC, so that one written on a Mac is one written elsewhere."""

    path: Path
    name: str
    images: list[Path]
    folders: list[Folder]
    left_out: Counter[str]

    def every(self) -> Iterator[tuple[Path, int]]:
        """The images here and below, and how many folders lie between."""
        yield from ((path, 0) for path in self.images)
        for folder in self.folders:
            yield from ((path, depth + 1) for path, depth in folder.every())

    def __bool__(self) -> bool:
        """Whether there is an image, here or below."""
        return bool(self.images) or any(self.folders)


def split_of(name: str) -> str | None:
    """Which split a folder of such a name is: `train`, `train_images`, `testset`, `images-val`, in any case; None if none."""
    found = _FOLDER.fullmatch(name.casefold())
    return None if found is None else SPLITS[found["first"] or found["last"]]


def maybe_split(name: str) -> str | None:
    """Which split a folder may be that has the word for it among others, such as `train2017` or `trainA`; None if it has none."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).casefold())
    return next((SPLITS[word] for word in words if word in SPLITS), split_of(name))


def natural(name: str) -> tuple[tuple[str | int, ...], str]:
    """The key of natural order: numbers count as such, and case does not matter."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name


def walk(root: Path) -> Folder:
    """Everything below a folder. Raises DataError if folders are nested too deep to be meant, OSError if one cannot be read."""
    return _walk(root, root.name, ())


def _walk(path: Path, name: str, above: tuple[tuple[int, int], ...]) -> Folder:
    status = path.stat()
    above = (*above, (status.st_dev, status.st_ino))
    if len(above) > _DEEPEST:
        raise DataError(f"{path}: folders are nested more than {_DEEPEST} deep", "set data.path to the folder of the images")
    images: list[Path] = []
    folders: list[Folder] = []
    left_out: Counter[str] = Counter()
    with os.scandir(path) as entries:
        listed = sorted(entries, key=lambda entry: natural(entry.name))
    for entry in listed:
        here = Path(entry.path)
        if entry.name.startswith(".") or entry.name.casefold() in _OF_SYSTEMS:
            left_out["hidden"] += 1
            continue
        try:
            found = entry.stat()  # of what a link leads to
        except OSError:
            left_out["broken link" if entry.is_symlink() else "unreadable"] += 1
            continue
        if stat.S_ISDIR(found.st_mode):
            if (found.st_dev, found.st_ino) in above:
                left_out["link that leads back"] += 1
                continue
            folders.append(_walk(here, text_of(entry.name), above))
            left_out += folders[-1].left_out
        elif not stat.S_ISREG(found.st_mode):
            left_out["pipe or device"] += 1
        elif here.suffix.lower() in SUFFIXES:
            images.append(here)
        else:
            left_out[text_of(here.suffix.lower()) or "without an ending"] += 1
    return Folder(path, name, images, folders, left_out)


def text_of(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8 as `\\xff`, what cannot be printed as a mark,
    and composed letters in one form."""
    return printable(unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace")))


def counts(left_out: Counter[str]) -> str:
    """`2 .txt, 1 hidden`."""
    ranked = left_out.most_common()
    shown = [f"{n:,} {what}" for what, n in ranked[:6]]
    more = sum(n for _, n in ranked[6:])
    return ", ".join(shown + ([f"{more:,} of other kinds"] if more else []))
