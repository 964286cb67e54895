"""Which sources of images there are, and which of them serves a name."""

from __future__ import annotations

from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data.sources.base import Say, Source
from aecli.system.folders import cache_root


def open_source(data: Data, say: Say) -> Source:
    if data.name == "folder":
        from aecli.data.sources.folder import FolderSource

        return FolderSource(data)
    if data.name == "npz":
        from aecli.data.sources.npz import NpzSource

        return NpzSource(data)
    from aecli.data.sources.tfds import TfdsSource

    root = cache_root() / "tfds"
    root.mkdir(parents=True, exist_ok=True)
    return TfdsSource(data, root, say)


def check_name(name: str) -> None:
    """Raises SettingError for the name of a data set that there is not."""
    if name not in ("folder", "npz"):
        from aecli.data.sources import tfds

        tfds.check_name(name)


def peek(data: Data) -> Spec | None:
    """What the images look like, as far as that is known without preparing anything. Raises SettingError for a name that
    does not exist, DataError for own files that cannot be read."""
    if data.name in ("folder", "npz"):
        source = open_source(data, lambda line: None)
        return Spec(*source.origin.shape, source.origin.classes)
    from aecli.data.sources.tfds import declared

    shape, classes = declared(data.name, cache_root() / "tfds")
    height, width = data.size or shape[:2]
    channels = data.channels or shape[2]
    return None if None in (height, width, channels) else Spec(height, width, channels, classes)
