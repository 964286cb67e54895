"""Which split and which role an array has, by the name that it bears in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from aecli.data.sources.lister import SPLITS
from aecli.data.sources.told import some
from aecli.errors import DataError

LABELS = ("label", "labels", "y", "target", "targets")
_SPLIT = "|".join(sorted(SPLITS, key=len, reverse=True))


_SOME_LABELS = re.compile(
    rf"(?:(?P<before>{_SPLIT})[_\-. ])?(?P<of>.+?)[_\-. ]?(?:labels?|targets?)(?:[_\-. ](?P<after>{_SPLIT}))?", re.IGNORECASE
)
"""Labels of some kind, such as `fine_labels` or `train_coarse_label`."""
_ABOUT = {"num", "n", "no", "nr", "max", "has", "with", "number_of"}
"""What stands before `labels` in a name that tells of them: `num_labels`, `has_label`."""


class Roles(NamedTuple):
    """`names`: (kind, split) -> the name of the array that is it. `unused`: the names of the others."""

    names: dict[tuple[str, str], str]
    unused: list[str]

    def with_some_labels(self, path: object, fix: str) -> tuple[Roles, list[str]]:
        """The same, with `some_labels` where no array is called as labels are, and what is to be told of it."""
        if any(kind == "label" for kind, _ in self.names):
            return self, []
        others = some_labels(path, self.unused, fix)
        unused = [name for name in self.unused if name not in others.values()]
        told = [f"labels are {some(list(others.values()))}"] if others else []
        return Roles({**self.names, **{("label", split): name for split, name in others.items()}}, unused), told


def roles(path: object, names: Sequence[str], kinds: Mapping[str, Iterable[str]]) -> Roles:
    """The arrays of a file that are of some kind and split, such as `x_train`, `train_images` or `label`; `kinds` names the words
    for each kind. Raises DataError if two arrays are the same."""
    kind_of = {word: kind for kind, words in kinds.items() for word in words}
    words = "|".join(sorted(kind_of, key=len, reverse=True))
    pattern = re.compile(rf"(?:(?P<before>{_SPLIT})[_\-. ]?)?(?P<kind>{words})(?:[_\-. ]?(?P<after>{_SPLIT}))?", re.IGNORECASE)
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


def some_labels(path: object, names: Iterable[str], fix: str) -> dict[str, str]:
    """By split, the arrays or columns among `names` that are labels of one kind, such as `fine_labels` and `test_fine_labels`.
    Raises DataError, with the `fix`, if there are several kinds."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in names:
        match = _SOME_LABELS.fullmatch(name)
        if match is None or (match["before"] and match["after"]) or match["of"].lower().rstrip("_-. ") in _ABOUT:
            continue
        split = SPLITS[(match["before"] or match["after"] or "train").lower()]
        first.setdefault(match["of"].lower(), name)
        if len(first) > 1 or split in found:
            several = list(dict.fromkeys([*first.values(), *found.values(), name]))
            raise DataError(f"{path}: each of {some(several)} may be the labels", fix)
        found[split] = name
    return found
