"""What every origin of images offers: random access to decoded examples of its splits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aecli.config.schema import Data
from aecli.core.model import Kind, Spec
from aecli.errors import DataError

Images = NDArray[Any]
"""uint8, or float32: images in [0, 1] that are not rounded to 8 bit, or vectors."""
Labels = NDArray[np.int32]
Say = Callable[[str], None]
"""Takes a line about something slow that begins, or about what was understood."""


def base_of(name: str) -> str:
    """The name of a data set without its configuration and its version: `photos` of `photos:1.0.0`."""
    return name.split("/")[0].split(":")[0]


class Origin(NamedTuple):
    """`shape` is (height, width, channels); `classes` 0 where there are no labels; `sizes` the examples of `train` and `test`,
    and of `validation` if the data has one of its own; `identity` is what older runs on a stream of such data name it by, empty
    where there are none. `names` are the classes', in the order of their labels. `about` says what was understood of own
    files, and is empty for other data. `dtype` is the type that `read` gives, whose rows are of the form `spec.row_shape`.
    `paired`: see `Spec`."""

    shape: tuple[int, int, int]
    classes: int
    sizes: Mapping[str, int]
    identity: str
    names: tuple[str, ...] = ()
    about: str = ""
    dtype: str = "uint8"
    kind: Kind = "image"
    paired: bool = False

    @property
    def spec(self) -> Spec:
        return Spec(*self.shape, self.classes, self.kind, self.paired)


class Source(Protocol):
    @property
    def origin(self) -> Origin: ...

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        """The examples at `index` of a split, [n, *spec.row_shape], and int32 [n], -1 where there is no label. Raises
        DataError."""
        ...

    def converted(self) -> tuple[str, ...]:
        """What was done to examples while they were read, for a person. To be asked once when every example has been: then it
        raises DataError if their values cannot be meant."""
        ...


class Layout(NamedTuple):
    """The form that decoded images are brought into: `size` and `channels` of the config, None for as they are. What is in a
    user's own files is looked at more closely, by `decode.py`."""

    size: tuple[int, int] | None
    channels: int | None

    @classmethod
    def of(cls, data: Data) -> Layout:
        return cls(data.size, data.channels)

    def arrange(self, image: Image.Image, name: str) -> Images:
        """A PIL image -> uint8 [H, W, C]. Raises DataError for pixels that are not 8 bit, naming the image."""
        modes = {1: "L", 3: "RGB"}
        gray = image.mode in ("1", "L", "LA")
        if not gray and image.mode not in ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "La", "RGBa"):
            raise DataError(f"{name}: pixels of mode {image.mode} are not 8 bit", "convert it to 8-bit gray or RGB")
        image = image.convert(modes[self.channels or (1 if gray else 3)])
        if self.size is not None and image.size != (self.size[1], self.size[0]):
            image = image.resize((self.size[1], self.size[0]), Image.Resampling.LANCZOS)
        array = np.asarray(image, np.uint8)
        return array[..., None] if array.ndim == 2 else array

    def arrange_array(self, image: Any, name: str) -> Images:
        """As `arrange`, for a uint8 array [H, W, C]."""
        if self.size is None and self.channels in (None, image.shape[-1]):
            return image
        return self.arrange(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), name)


def stack(images: list[Images], names: Callable[[int], str]) -> Images:
    """[H, W, C] each -> [n, H, W, C]. Raises DataError if one differs from the first."""
    for i, image in enumerate(images):
        if image.shape != images[0].shape:
            raise DataError(
                f"images differ in size: {names(0)} is {_size(images[0])}, {names(i)} is {_size(image)}",
                "set data.size: [height, width] to resize, and data.channels: 1 or 3 for gray or colour",
            )
    return np.stack(images)


def _size(image: Images) -> str:
    height, width, channels = image.shape
    return f"{height}x{width}x{channels}"


def fixed_shuffle(n: int) -> NDArray[np.int64]:
    """One order of n examples for ever, for sources whose own order may be by label: held-out parts are cut from its end."""
    return np.random.Generator(np.random.Philox(key=[0x5EED, n])).permutation(n)
