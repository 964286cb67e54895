"""Which sources of images there are, and which of them serves a name: the one place that knows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aecli.config.schema import OWN_FILES, Data
from aecli.core.model import Spec
from aecli.data.sources import factors, fashion
from aecli.data.sources.base import Say, Source
from aecli.data.sources.folder import FolderSource
from aecli.data.sources.npz import NpzSource
from aecli.system.folders import cache_root

OPENERS: Mapping[str, Callable[[Data], Source]] = {"folder": FolderSource, "npz": NpzSource}
"""What opens the user's own files, by name; every other name is asked of tensorflow_datasets, which takes seconds to import."""


def open_source(data: Data, say: Say) -> Source:
    """Raises SettingError if the name is unknown, DataError if the data cannot be had or read."""
    if data.name in OPENERS:
        return OPENERS[data.name](data)
    from aecli.data.sources.tfds import TfdsSource

    root = cache_root() / "tfds"
    root.mkdir(parents=True, exist_ok=True)
    return TfdsSource(data, root, say, version_of(data.name))


def version_of(name: str, rules: int = max(factors.VERSIONS)) -> str | None:
    """The version of a built-in set that such rules of reading mean; None if it has but one."""
    return factors.VERSIONS[rules] if name == "shapes" else None


def check_name(name: str) -> None:
    """Raises SettingError if there is no data set of this name."""
    if name not in OPENERS:
        from aecli.data.sources import tfds

        tfds.check_name(name)


def peek(data: Data) -> Spec | None:
    """What the images look like, as far as that is known without preparing anything; None if it is not. Raises SettingError if
    the name is unknown, DataError if own files cannot be read."""
    if data.name in OPENERS:
        source = OPENERS[data.name](data)
        return Spec(*source.origin.shape, source.origin.classes)
    from aecli.data.sources.tfds import declared

    shape, classes = declared(data.name, cache_root() / "tfds")
    height, width = data.size or shape[:2]
    channels = data.channels or shape[2]
    return None if None in (height, width, channels) else Spec(height, width, channels, classes)


def listing() -> dict[str, str]:
    """The names that need no network or no preparing, and what each holds."""
    found = "; files of Debian's package found" if fashion.has_files(fashion.DEBIAN) else ""
    return {
        "digits": "8x8 gray, 1,500 train and 297 test, 10 classes; embedded",
        "shapes": "32x32 gray, 4,608 train and 512 test, 3 classes; drawn on the spot, known factors",
        "fashion_mnist": "28x28 gray, 60,000 train and 10,000 test, 10 classes" + found,
        **OWN_FILES,
    }
