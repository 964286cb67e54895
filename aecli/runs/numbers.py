"""The numbers of a run: `eval/<split>.json`, and the values of each image in `eval/<split>-values.npz`. Without jax.

Beside them `.<split>.seal.json` holds the SHA-256 of what was written and of config and data that it is of: numbers that somebody
has edited, that a disk has, or that are another run's, are not kept among new ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aecli.runs.records import Number, validated
from aecli.system.files import to_json, write_atomic
from aecli.system.reading import Unreadable, open_regular, parse_json, read_json, read_regular, set_aside


class Stored(NamedTuple):
    """`numbers` by name, none if there are none that can be believed; `values` by `evaluator/name`. `wrong` says why those that
    are there are not believed."""

    numbers: Mapping[str, Number] = {}
    values: Mapping[str, Any] = {}
    wrong: str | None = None


def read(folder: Path, split: str, identity: str | None, values: bool = False) -> Stored:
    """What is kept of a split, its `values` only if they are asked for. `identity` is that of `RunFile`. Numbers
    without a seal are believed, if they have the form of numbers, of runs that have none either: older versions wrote both."""
    try:
        content = read_regular(_json(folder, split))
        seals = _seals(folder, split)
        if not seals and identity is not None:
            return Stored(wrong="their seal is gone")
        if seals and _hash(identity, content) not in seals:
            return Stored(wrong="they are not what aecli wrote of this run")
        stored = parse_json(content)
        if not isinstance(stored, dict):
            raise Unreadable("it is no JSON object")
        numbers = {str(name): validated(Number, number) for name, number in stored.items()}
        return Stored(numbers, _values(folder, split, identity, seals) if values else {})
    except FileNotFoundError:
        return Stored()
    except Unreadable as error:
        return Stored(wrong=str(error))


def write(folder: Path, split: str, identity: str | None, numbers: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Replaces what is kept of a split. The seal is written first and knows the old files too: whenever the process is killed,
    what is there is believed."""
    from aecli.system.arrays import pack_arrays

    content, packed = to_json(numbers), pack_arrays(values)
    seals = [_hash(identity, content), _hash(identity, packed)]
    for path in (_json(folder, split), _npz(folder, split)):
        with contextlib.suppress(OSError, Unreadable):
            seals.append(_hash_file(identity, path))
    write_atomic(_seal(folder, split), to_json(list(dict.fromkeys(seals))))
    write_atomic(_npz(folder, split), packed)
    write_atomic(_json(folder, split), content)


def put_aside(folder: Path, split: str) -> list[str]:
    """Renames what is not believed, so that it is not lost; the new names."""
    every = (_json(folder, split), _npz(folder, split), _seal(folder, split))
    return [set_aside(path).name for path in every if os.path.lexists(path)]


def _values(folder: Path, split: str, identity: str | None, seals: list[str]) -> dict[str, Any]:
    from aecli.system.arrays import read_arrays  # numpy, which whoever lists the numbers of many runs does without

    path = _npz(folder, split)
    try:
        if seals and _hash_file(identity, path) not in seals:
            raise Unreadable(f"{path.name} is not what aecli wrote of this run")
        return {name: value for name, value in read_arrays(path).items() if value.dtype.kind in "biuf"}
    except FileNotFoundError:
        return {}


def _seals(folder: Path, split: str) -> list[str]:
    try:
        kept = read_json(_seal(folder, split))
    except FileNotFoundError:
        return []
    if not isinstance(kept, list):
        raise Unreadable(f"{_seal(folder, split).name} is no list")
    return [str(each) for each in kept]


def _hash(identity: str | None, data: bytes) -> str:
    return hashlib.sha256(f"{identity}\n".encode(errors="surrogatepass") + data).hexdigest()


def _hash_file(identity: str | None, path: Path) -> str:
    """The same of what a file holds, however large it is."""
    digest = hashlib.sha256(f"{identity}\n".encode(errors="surrogatepass"))
    with os.fdopen(open_regular(path), "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def _json(folder: Path, split: str) -> Path:
    return folder / f"{split}.json"


def _npz(folder: Path, split: str) -> Path:
    return folder / f"{split}-values.npz"


def _seal(folder: Path, split: str) -> Path:
    return folder / f".{split}.seal.json"
