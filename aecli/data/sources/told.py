"""The one line that says what was understood of a user's own data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aecli.errors import printable

SHOWN = 10
"""Names of classes and of files that one line holds at most."""


def some(names: Sequence[str], most: int = SHOWN, longest: int = 40) -> str:
    """`cat, dog, cow`; of many the first ones and how many there are more, of long ones the beginning."""
    listed = ", ".join(printable(name if len(name) <= longest else name[: longest - 1] + "…") for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most:,} more"


def form_of(shape: tuple[int, ...]) -> str:
    """`28x28 gray`."""
    height, width, channels = shape
    return f"{height}x{width} {'gray' if channels == 1 else 'colour'}"


def about(
    sizes: Mapping[str, int],
    names: Sequence[str],
    shape: tuple[int, int, int],
    facts: Iterable[str] = (),
    kind: str = "image",
) -> str:
    """`3,000 images of 3 classes (cat, dog, cow), 28x28 gray; 2,700 train, 300 test`, and further facts."""
    form = f"{shape[1]:,} numbers each" if kind == "vector" else form_of(shape)
    of = f"of {len(names)} class{'es' * (len(names) != 1)} ({some(names)})" if names else "without labels"
    parts = [
        f"{sum(sizes.values()):,} {kind}s {of}, {form}",
        *([", ".join(f"{n:,} {split}" for split, n in sizes.items())] if len(sizes) > 1 else []),
        *facts,
    ]
    return "; ".join(parts)


def lacking(train: set[int], others: Mapping[str, set[int]], names: Sequence[str]) -> list[str]:
    """Which classes another split has that train lacks, a fact for each such split."""
    missing = {split: [names[label] for label in sorted(have - train) if label >= 0] for split, have in others.items()}
    return [f"classes of {split} that train lacks: {some(found)}" for split, found in missing.items() if found]
