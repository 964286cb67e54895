"""Pictures of a run as parts of a page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from aecli.system.reading import GONE, Unreadable, read_regular

_NAME = re.compile(r"\A(?P<asked>[a-z0-9._-]+?)-step(?P<step>\d{1,15})-seed(?P<seed>\d{1,20})-n(?P<n>\d{1,6})\Z")
"""How `sample` names its files."""
MOST_BYTES = 2**26
"""Of a file that is looked at."""
MOST_PIXELS = 2**26
PLAIN_BYTES = 150_000
"""Up to so many a picture is taken as it is; of a larger one what WebP leaves of it, where that is less."""
WIDEST = 1600
"""Pixels of the longer side of such a one."""


class Picture(NamedTuple):
    """`asked` is the mode with what was asked for beside it, as the file's name has it; `uri` holds the picture itself, `reduced`
    whether that is less than the file."""

    file: Path
    asked: str
    step: int
    seed: int
    uri: str
    width: int
    height: int
    reduced: bool

    @property
    def mode(self) -> str:
        return mode_of(self.asked)


class Found(NamedTuple):
    """The newest picture of each kind, and what is wrong with the files that could not be read."""

    pictures: tuple[Picture, ...]
    wrong: tuple[str, ...]


def mode_of(asked: str) -> str:
    return asked.split("-")[0]


def newest(folder: Path) -> dict[str, tuple[int, int, Path]]:
    """Of each kind of picture in `samples/` the step, the seed and the file of the newest. Other files than those of `sample` are
    left out."""
    found: dict[str, tuple[int, int, Path]] = {}
    for path in sorted(folder.glob("*.png")):
        if (match := _NAME.match(path.stem)) is not None:
            key = (int(match["step"]), -int(match["seed"]), path)
            found[match["asked"]] = max(found.get(match["asked"], key), key)
    return {asked: (step, -seed, path) for asked, (step, seed, path) in found.items()}


def pictures(folder: Path, order: Sequence[str]) -> Found:
    """The newest of each kind, those of modes in this order first."""
    found: list[Picture] = []
    wrong: list[str] = []
    for asked, (step, seed, path) in newest(folder).items():
        try:
            found.append(_embedded(path, asked, step, seed))
        except GONE:
            continue
        except (Unreadable, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            why = "it is no whole PNG" if isinstance(error, UnidentifiedImageError) else str(error)
            wrong.append(f"{path.name} is no picture that can be read: {why}")
    known = list(order)
    found.sort(key=lambda each: (known.index(each.mode) if each.mode in known else len(known), each.asked))
    return Found(tuple(found), tuple(wrong))


def _embedded(path: Path, asked: str, step: int, seed: int) -> Picture:
    content, kind, reduced = read_regular(path, MOST_BYTES), "png", False
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise Unreadable(f"it is {width} by {height} pixels")
        image.load()
        if len(content) > PLAIN_BYTES:
            buffer = io.BytesIO()
            small = image.convert("RGB")
            small.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
            small.save(buffer, "WEBP", quality=88, method=4)
            if len(buffer.getvalue()) < len(content):
                content, kind, reduced = buffer.getvalue(), "webp", True
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(path, asked, step, seed, uri, width, height, reduced)
