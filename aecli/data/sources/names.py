"""Which split and which role an array has, by the name that it bears in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aecli.data.sources.lister import SPLITS
from aecli.data.sources.told import some
from aecli.errors import DataError

LABELS = ("label", "labels", "y", "target", "targets")


class Roles(NamedTuple):
    """`names`: (kind, split) -> the name of the array that is it. `unused`: the names of the others."""

    names: dict[tuple[str, str], str]
    unused: list[str]


def roles(path: object, names: Sequence[str], kinds: Mapping[str, Iterable[str]]) -> Roles:
    """The arrays of a file that are of some kind and split, such as `x_train`, `train_images` or `label`; `kinds` names the words
    for each kind. Raises DataError if two arrays are the same."""
    kind_of = {word: kind for kind, words in kinds.items() for word in words}
    split_words, kind_words = ("|".join(sorted(words, key=len, reverse=True)) for words in (SPLITS, kind_of))
    pattern = re.compile(
        rf"(?:(?P<before>{split_words})[_\-. ]?)?(?P<kind>{kind_words})(?:[_\-. ]?(?P<after>{split_words}))?", re.IGNORECASE
    )
    found = Roles({}, [])
    for name in names:
        match = pattern.fullmatch(name)
        if match is None or (match["before"] and match["after"]):
            found.unused.append(name)
            continue
        role = (kind_of[match["kind"].lower()], SPLITS[(match["before"] or match["after"] or "train").lower()])
        if role in found.names:
            both = f"'{found.names[role]}' and '{name}' are both {role[0]}s of the {role[1]} split"
            raise DataError(f"{path}: {both}", f"save the file with one of them: {some(names)}")
        found.names[role] = name
    return found
