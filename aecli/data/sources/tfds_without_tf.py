"""Lets tensorflow-datasets prepare image data sets where TensorFlow is not installed.

Preparing needs three calls of TensorFlow: opening a file, bytes to text, and writing a PNG. This lends stand-ins to the
modules that make them. It does nothing where TensorFlow is installed. The places are those of tensorflow-datasets 4.9.10,
and the suite prepares a data set through each of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import types
from collections.abc import Generator
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image


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
    buffer = io.BytesIO()
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    # Of such small images the fastest level takes half the time and a fifth more room.
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
