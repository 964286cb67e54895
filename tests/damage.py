"""Damages of a run folder, one at a time: what disks, editors and strangers do to files. Each has a name, and changes a copy."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aecli.runs import commits

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\ud800\r"
"""Moves the cursor, names the window, turns the order of letters around, and is no UTF-8."""
_DEEP, _OVERFLOWING = "@deep@", "@overflowing@"


def _huge(value: Any) -> Any:
    return 10**400 if isinstance(value, int | float) else "x" * 100_000 if isinstance(value, str) else [1] * 10_000


class Damage(NamedTuple):
    """`file` is relative to the run; `do` changes it."""

    name: str
    file: str
    do: Callable[[Path], None]


VALUES: dict[str, Callable[[Any], Any]] = {
    "null": lambda value: None,
    "of another type": lambda value: [value] if not isinstance(value, list) else "text",
    "huge": lambda value: _huge(value),
    "negative": lambda value: -value - 1 if isinstance(value, int | float) and not isinstance(value, bool) else -1,
    "NaN": lambda value: float("nan"),
    "overflowing": lambda value: _OVERFLOWING,
    "200,000 deep": lambda value: _DEEP,
    "hostile text": lambda value: HOSTILE,
}


def of_fields(run: Path, name: str, reseal: bool = False) -> Iterator[Damage]:
    """Every field of a JSON file, however deep, absent and with every value of VALUES. `reseal` makes a commit file's checksum
    fit again, as somebody would who means it."""
    content = json.loads((run / name).read_bytes())
    for path in _paths(content):
        if reseal and path == ("seal",):
            continue
        where = ".".join(map(str, path))

        def absent(file: Path, path: tuple[Any, ...] = path) -> None:
            _rewrite(file, path, None, reseal)

        yield Damage(f"{where} absent", name, absent)
        for what, change in VALUES.items():

            def do(file: Path, path: tuple[Any, ...] = path, change: Callable[[Any], Any] = change) -> None:
                _rewrite(file, path, change, reseal)

            yield Damage(f"{where} {what}", name, do)


def of_files(run: Path, seed: int = 0) -> Iterator[Damage]:
    """Every file of a run emptied, cut at 10 places, with 20 single bits turned over, gone, and with something else there."""
    chance = random.Random(seed)
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name, size = str(path.relative_to(run)), path.stat().st_size
        yield Damage("emptied", name, lambda file: file.write_bytes(b""))
        yield Damage("gone", name, lambda file: file.unlink())
        yield Damage("a folder", name, _folder)
        yield Damage("a link", name, _link)
        yield Damage("a FIFO", name, _fifo)
        if not size:
            continue
        for at in (chance.randrange(size) for _ in range(10)):
            yield Damage(f"cut at {at}", name, lambda file, at=at: file.write_bytes(file.read_bytes()[:at]))
        for bit in (chance.randrange(8 * size) for _ in range(20)):
            yield Damage(f"bit {bit}", name, lambda file, bit=bit: flip(file, bit))


def of_folders(run: Path) -> Iterator[Damage]:
    """Every folder of a run gone, and with something else in its place."""
    for path in sorted(path for path in run.rglob("*") if path.is_dir()):
        name = str(path.relative_to(run))
        yield Damage("gone", name, shutil.rmtree)
        yield Damage("a file", name, _file)
        yield Damage("a link", name, _link)


def of_bits(run: Path, name: str, n: int, seed: int = 0) -> Iterator[Damage]:
    """`n` single bits of a file."""
    chance, size = random.Random(seed), 8 * (run / name).stat().st_size
    for _ in range(n):
        bit = chance.randrange(size)
        yield Damage(f"bit {bit}", name, lambda file, bit=bit: flip(file, bit))


def flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if path:
        yield path
    for key, each in inner:
        yield from _paths(each, (*path, key))


def _rewrite(file: Path, path: tuple[Any, ...], change: Callable[[Any], Any] | None, reseal: bool) -> None:
    content = json.loads(file.read_bytes())
    inside = content
    for key in path[:-1]:
        inside = inside[key]
    if change is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = change(inside[path[-1]])
    if reseal:
        content = commits.sealed(content)
    text = json.dumps(content)
    file.write_text(text.replace(f'"{_DEEP}"', "[" * 200_000 + "]" * 200_000).replace(f'"{_OVERFLOWING}"', "1e999"))


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"x")


def _link(path: Path) -> None:
    """To what was there, which lies outside of all runs now."""
    place = elsewhere(path)
    place.mkdir()
    shutil.move(path, place / path.name)
    os.symlink(place / path.name, path)


def elsewhere(path: Path) -> Path:
    """Where a link in a run leads, beside the folder `runs` that the run lies in."""
    return next(folder for folder in path.parents if folder.name == "runs").parent / "elsewhere"
