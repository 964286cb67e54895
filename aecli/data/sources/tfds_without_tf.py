"""Lets tensorflow-datasets prepare image data sets where TensorFlow is not installed.

Preparing needs three calls of TensorFlow: opening a file, bytes to text, and writing a PNG. This lends stand-ins to the
modules that make them. It does nothing where TensorFlow is installed. The places are those of tensorflow-datasets 4.9.10,
and the suite prepares a data set through each of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import struct
import sys
import types
import zlib
from collections.abc import Generator
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray


@contextlib.contextmanager
def without_tensorflow(builder: Any) -> Generator[None]:
    """While it lasts, `builder.download_and_prepare` needs no TensorFlow, if it is like the MNIST and CIFAR builders."""
    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    from etils import epath
    from tensorflow_datasets.core.download import extractor
    from tensorflow_datasets.core.features import image_feature

    def open_file(path: Any, mode: str = "r") -> Any:
        return epath.Path(path).open(mode)

    def as_text(text: Any) -> str:
        return text.decode() if isinstance(text, bytes) else str(text)

    stand_in = types.SimpleNamespace(
        io=types.SimpleNamespace(gfile=types.SimpleNamespace(GFile=open_file)),
        compat=types.SimpleNamespace(as_text=as_text),
    )
    names = {cls.__module__ for cls in type(builder).__mro__ if cls.__module__.startswith("tensorflow_datasets.")}
    with contextlib.ExitStack() as stack:
        for module in [extractor, *(sys.modules[name] for name in sorted(names))]:
            if "tf" in vars(module):
                stack.enter_context(mock.patch.object(module, "tf", stand_in))
        encoder = vars(image_feature)["_ImageEncoder"]
        stack.enter_context(mock.patch.object(encoder, "_encode_image", _encode_png))
        yield


def _encode_png(self: Any, image: Any) -> bytes:
    """uint8 [H, W, C] -> PNG. Any other encoding or type raises TypeError: it would need TensorFlow."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or self.encoding_format not in (None, "png"):
        raise TypeError(f"encoding {array.dtype} images as {self.encoding_format} needs TensorFlow")
    return png(array)


_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Of PNG, by the number of channels: gray, gray with alpha, RGB, RGBA."""


def png(array: NDArray[np.uint8]) -> bytes:
    """[H, W, C] -> PNG (RFC 2083), no row filtered. For images this small Pillow takes three times as long, most of it to set up
    its encoder; the fastest level takes half the time of the usual one and a fifth more room."""
    height, width, channels = array.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # a row begins with its filter: none
    rows[:, 1:] = array.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
