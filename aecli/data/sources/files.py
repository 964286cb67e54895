"""Image files of several splits, read as images of one form: what is done to them is noted, all that is wrong is told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aecli.data.sources.base import Images
from aecli.data.sources.decode import DEEP, RANGE, Decoded, Look, NotScaled, decode, heard, says_gray
from aecli.data.sources.lister import natural, text_of
from aecli.data.sources.scale import LEVELS, checked
from aecli.data.sources.told import SHOWN, form_of
from aecli.errors import DataError, printable


class ImageFiles:
    """`shape` is that of the first image of train, gray if any of the files is and this one could be."""

    def __init__(self, files: Mapping[str, Sequence[Path]], root: Path, called: str, look: Look) -> None:
        """The `files` of each split, below the folder `root`; `called` is what messages call all of them. Raises DataError if the
        first cannot be read."""
        self._files, self._root, self._called, self._look = files, root, called, look
        self._notes: dict[str, set[Path]] = {}
        self._warned: dict[Path, str] = {}
        self._dark: set[Path] = set()
        self._extremes: dict[int, tuple[float, float]] = {}
        self._gray = False
        with heard():
            first = self._try(files["train"][0])
        if isinstance(first, DataError):
            raise self._everything_wrong()
        if first.could_be_gray and self._has_gray():
            first = first.as_gray()
        height, width, channels = first.image.shape
        self.shape = height, width, channels
        self._gray = channels == 1

    def read(self, split: str, index: NDArray[np.int64]) -> Images:
        """[n, H, W, C]. Raises DataError that names every file of all splits that cannot be read or differs in size, if one
        does."""
        found = self._decode([self._files[split][i] for i in index])
        if any(isinstance(one, DataError) or one.image.shape != self.shape for one in found):
            raise self._everything_wrong()
        images = [one.image for one in found if isinstance(one, Decoded)]
        return np.stack(images) if images else np.empty((0, *self.shape), np.uint8)

    def converted(self) -> tuple[str, ...]:
        """What was done to the files that have been read so far, to be asked when all of them have been: then it raises DataError
        if their values cannot be meant, such as 0 and 1 alone in 8 bit."""
        for white, (low, high) in sorted(self._extremes.items()):
            deep = white > 255
            if self._look.range is None:
                checked(f"{self._called}: {'16' if deep else '8'}-bit pixel data", "uint16" if deep else "uint8", low, high, None)
        facts: list[str] = []
        for note, paths in self._notes.items():
            reach = f", the largest value is {self._extremes[65535][1]:.0f} of 65535" if note == DEEP else ""
            facts.append(f"{note} {len(paths):,}{reach}")
        if self._warned:
            path, text = min(self._warned.items())
            facts.append(f"Pillow warns of {len(self._warned):,}, such as {self._inside(path)}: {text}")
        if self._dark:
            facts.append(f"all but black, below an eighth of white: {len(self._dark):,}, such as {self._inside(min(self._dark))}")
        return tuple(facts)

    def names(self, split: str) -> list[str]:
        """What the files of a split are called in the folder."""
        return [self._inside(path) for path in self._files[split]]

    def _inside(self, path: Path) -> str:
        """As it is called in the folder, wherever that is: what is told is kept with the decoded images."""
        return printable(text_of(str(path.relative_to(self._root))))

    def _decode(self, paths: Sequence[Path]) -> list[Decoded | DataError]:
        with heard(), ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(self._try, paths))
        for path, one in zip(paths, found, strict=True):
            if isinstance(one, DataError):
                continue
            for note in one.notes:
                self._notes.setdefault(note, set()).add(path)
            if one.warnings:
                self._warned[path] = one.warnings[0]
            if RANGE not in one.notes:
                if one.low < one.high < one.white / LEVELS:
                    self._dark.add(path)
                low, high = self._extremes.get(one.white, (one.low, one.high))
                self._extremes[one.white] = min(low, one.low), max(high, one.high)
        return found

    def _try(self, path: Path) -> Decoded | DataError:
        try:
            one = decode(path, str(path), self._look)
            return one.as_gray() if self._gray and one.could_be_gray else one
        except DataError as error:
            return error

    def _has_gray(self) -> bool:
        """Whether a file is gray by its form. Only headers are read, until one says so: what is gray without such a form follows
        the others, and is of colour where there are no others."""
        for path in (path for paths in self._files.values() for path in paths):
            if says_gray(path):
                one = self._try(path)  # a coloured background may show through
                if isinstance(one, Decoded) and one.image.shape[2] == 1:
                    return True
        return False

    def _everything_wrong(self) -> DataError:
        """Names all files that cannot be read, and which sizes the others have, if several."""
        bad: list[DataError] = []
        shapes: dict[tuple[int, ...], list[Path]] = {}
        everything = sorted((path for paths in self._files.values() for path in paths), key=lambda path: natural(str(path)))
        for start in range(0, len(everything), 256):
            part = everything[start : start + 256]
            for path, one in zip(part, self._decode(part), strict=True):
                if isinstance(one, DataError):
                    bad.append(one)
                else:
                    shapes.setdefault(one.image.shape, []).append(path)
        wrong = [_unreadable(bad)] if bad else []
        wrong += [_mixed(shapes)] if len(shapes) > 1 else []
        helps = dict.fromkeys(error.help for error in wrong if error.help)
        return DataError("\n".join(error.message for error in wrong), "; ".join(helps))


def _unreadable(bad: Sequence[DataError]) -> DataError:
    alone = [error for error in bad if not isinstance(error, NotScaled)]
    told = [*NotScaled.of_all([error for error in bad if isinstance(error, NotScaled)]), *alone]
    if len(told) == 1:
        return told[0]
    shown = "".join(f"\n  {error.message}" for error in told[:20])
    more = f"\n  and {len(told) - 20:,} more" if len(told) > 20 else ""
    helps = dict.fromkeys(error.help for error in told if error.help)
    return DataError(f"{len(bad):,} files cannot be read:{shown}{more}", "; ".join(helps))


def _mixed(shapes: Mapping[tuple[int, ...], Sequence[Path]]) -> DataError:
    ranked = sorted(shapes.items(), key=lambda item: -len(item[1]))
    shown = "".join(f"\n  {len(paths):,} of {form_of(shape)}, such as {paths[0]}" for shape, paths in ranked[:SHOWN])
    more = f"\n  and {len(ranked) - SHOWN:,} more forms" if len(ranked) > SHOWN else ""
    mixed = {
        "size": ("set data.size: [height, width] to resize", len({shape[:2] for shape in shapes})),
        "colour": ("set data.channels: 1 to make all gray, or 3 for colour", len({shape[2] for shape in shapes})),
    }
    what = [name for name, (_, n) in mixed.items() if n > 1]
    return DataError(f"images differ in {' and '.join(what)}:{shown}{more}", "; ".join(mixed[name][0] for name in what))
