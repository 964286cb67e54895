"""One image file as a person would see it: upright, on a background, in 8 bit; with a note of whatever was done to it."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageColor, ImageOps, UnidentifiedImageError

from aecli.config.schema import Data
from aecli.data.sources.base import Images
from aecli.data.sources.scale import Scale, checked, number
from aecli.errors import DataError
from aecli.system.own import open_own
from aecli.system.reading import of_the_system

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF")
"""What a file may be, whatever it is called; Pillow reads others, some of them by starting programs."""
MAX_PIXELS = 50_000_000
"""More in one file is taken for a decompression bomb."""
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_GRAY = ("1", "L", "LA", "La")
_KNOW_NO_GRAY = ("WEBP", "GIF")
"""Formats that gray images are kept in as colours; palettes are another such form, whatever the format."""

ROTATED = "EXIF rotated"
COMPOSITED = "transparency put on data.background in"
DEEP = "16-bit gray, scaled to 8 bit:"
HIGH_BYTE = "of 16 bits a channel, of which the upper 8 are read:"
FRAMES = "of several frames or pages, of which the first is read:"
PROFILE = "converted from a colour profile to sRGB:"
BAD_PROFILE = "with a colour profile that cannot be used, taken as sRGB:"
BAD_EXIF = "with EXIF data that cannot be read, taken as upright:"
RANGE = "data.range applied to"
AS_GRAY = "gray kept in a form of colours (WebP, GIF, a palette), read as gray:"


class Look(NamedTuple):
    """The form that files are brought into: `size` (height, width) and `channels`, None for as they are; `background`, what is
    behind transparent pixels; `range`, the values that become black and white, None for what the type says."""

    size: tuple[int, int] | None
    channels: int | None
    background: tuple[int, int, int]
    range: tuple[float, float] | None

    @classmethod
    def of(cls, data: Data) -> Look:
        return cls(data.size, data.channels, rgb(data.background), data.range)


class NotScaled(DataError):
    """The values of a file, of some type and between two extremes, do not say what is black and white, or leave `data.range`."""

    def __init__(self, name: str, dtype: str, low: float, high: float, left: tuple[float, float] | None) -> None:
        found = f"{name}: values of {dtype} from {number(low)} to {number(high)}"
        if left is None:
            what, fix = "and only 8 and 16 bit say by themselves what is white", "[black, white], one for all files"
        else:
            what = f"which leave data.range: [{number(left[0])}, {number(left[1])}]"
            fix = f"[{number(min(low, left[0]))}, {number(max(high, left[1]))}]"
        super().__init__(f"{found}, {what}", f"set data.range: {fix}")
        self.name, self.dtype, self.low, self.high, self.left = name, dtype, low, high, left

    @classmethod
    def of_all(cls, errors: Sequence[NotScaled]) -> list[NotScaled]:
        """One for the files of each type, with the first of them and the extremes of all."""
        by_type: dict[str, list[NotScaled]] = {}
        for error in errors:
            by_type.setdefault(error.dtype, []).append(error)
        return [
            cls(
                f"{len(alike):,} files, such as {alike[0].name}" if len(alike) > 1 else alike[0].name,
                dtype,
                min(error.low for error in alike),
                max(error.high for error in alike),
                alike[0].left,
            )
            for dtype, alike in by_type.items()
        ]


class Decoded(NamedTuple):
    """`image` uint8 [H, W, C]. `low` and `high` are the extremes of the values of the file, of whose type `white` is the largest.
    `notes` name what was done, `warnings` what Pillow had to say. `could_be_gray`: it is of colour only because its form knows no
    gray; no two channels differ by more than 1, as those of a lossy WebP do."""

    image: Images
    low: float
    high: float
    white: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    could_be_gray: bool = False

    def as_gray(self) -> Decoded:
        """The same of one channel: where red and blue are equal and green is off by 1, green is what Pillow makes of it."""
        return self._replace(image=self.image[..., 1:2], notes=(*self.notes, AS_GRAY), could_be_gray=False)


def rgb(colour: int | str | tuple[int, int, int]) -> tuple[int, int, int]:
    """A gray level, a name such as `white` or `#204080`, or the three levels. Raises ValueError for what is no colour."""
    if isinstance(colour, str):
        red, green, blue = ImageColor.getrgb(colour)[:3]
        return red, green, blue
    return (colour, colour, colour) if isinstance(colour, int) else colour


_thread = threading.local()


@contextmanager
def heard() -> Generator[None]:
    """While it lasts, warnings in `decode`, in whichever thread, go into what it returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        usual = warnings.showwarning

        def hear(message: Any, category: Any, *where: Any, **more: Any) -> None:
            said: list[str] | None = getattr(_thread, "said", None)
            if said is None:
                usual(message, category, *where, **more)
            else:
                said.append(" ".join(str(message).split()))

        warnings.showwarning = hear
        yield


def decode(source: Path | bytes, name: str, look: Look) -> Decoded:
    """Reads a file, or its bytes. Raises DataError, naming it, if it is damaged, too large, or has values whose meaning is not
    plain. Call it inside of `heard`."""
    said: list[str] = []
    _thread.said = said
    try:
        # Opened here: by a path, Pillow may map the file, which turns a TIFF wrongly and ends the process if the file shrinks.
        with (
            io.BytesIO(source) if isinstance(source, bytes) else open_own(source) as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{name}: {image.width}x{image.height} pixels are more than any sane data set holds")
            decoded = _arrange(image, name, look)
    except DataError:
        raise
    except Exception as error:  # of damaged bytes Pillow raises nearly everything, failed assertions of its own among it
        if of_the_system(error):
            raise
        text = _not_identified(source) if isinstance(error, UnidentifiedImageError) else str(error) or repr(error)
        raise DataError(f"{name}: no readable image: {text}", "remove or replace the file") from None
    finally:
        _thread.said = None
    return decoded._replace(warnings=tuple(dict.fromkeys(said)))


def says_gray(path: Path) -> bool:
    """Whether the header of a file promises gray; False if it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with open_own(path) as file, Image.open(file, formats=FORMATS) as image:
                return image.mode in (*_GRAY, *_DEEP)
        except Exception:  # see `decode`
            return False


def _not_identified(source: Path | bytes) -> str:
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    return f"it is not of a kind that is read ({', '.join(FORMATS)})" if size else "the file is empty"


def _arrange(image: Image.Image, name: str, look: Look) -> Decoded:
    notes: list[str] = []
    if getattr(image, "is_animated", False):
        notes.append(FRAMES)
    packed = [str(tile[3]) for tile in getattr(image, "tile", ())]
    if any(";16" in form for form in packed) and image.mode not in _DEEP:
        notes.append(HIGH_BYTE)
    if image.format == "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
        notes.append(ROTATED)  # by `load`, which leaves no word of it
    image.load()
    upright = _upright(image, notes)
    if any(form.startswith("LA;16") for form in packed):
        upright = upright.convert("LA")  # Pillow makes colour of gray with 16 bits and transparency
    if upright.mode in _DEEP:
        flat, low, high, white = _from_deep(upright, name, look, notes)
    else:
        flat = _opaque(_in_srgb(upright, notes), look, notes)
        values = np.asarray(flat)
        low, high, white = int(values.min()), int(values.max()), 255
        if look.range is not None:
            scale = _asked(name, "uint8", low, high, look.range)
            flat = Image.fromarray(scale.to_bytes(values))
            notes.append(RANGE)
    loose = look.channels is None and flat.mode == "RGB" and (image.format in _KNOW_NO_GRAY or image.mode in ("P", "PA"))
    could_be_gray = loose and _all_but_gray(np.asarray(flat))
    if look.channels is not None:
        flat = flat.convert({1: "L", 3: "RGB"}[look.channels])
    if look.size is not None and flat.size != (look.size[1], look.size[0]):
        flat = flat.resize((look.size[1], look.size[0]), Image.Resampling.LANCZOS)
    array = np.asarray(flat, np.uint8)
    array = array[..., None] if array.ndim == 2 else array
    return Decoded(array, low, high, white, tuple(notes), could_be_gray=could_be_gray)


def _all_but_gray(colours: Images) -> bool:
    red, green, blue = (colours[..., i].astype(np.int16) for i in range(3))
    return bool((red == blue).all() and (np.abs(red - green) <= 1).all())


def _upright(image: Image.Image, notes: list[str]) -> Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
        upright = ImageOps.exif_transpose(image) if turned else image
    except Exception:  # see `decode`
        notes.append(BAD_EXIF)
        return image
    if turned:
        notes.append(ROTATED)
    return upright


def _in_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """The image in the colours that a screen shows. Pillow's documents: "Convert ... to sRGB with ImageCms.profileToProfile"."""
    if image.mode == "LAB":  # which has no profile of its own
        notes.append(PROFILE)
        return _transform(None, "LAB", "RGB").apply(image)
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return image
    key = _Profile(profile)
    try:
        if _is_srgb(key):
            return image
        gray = image.mode in _GRAY
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        into = {"1": "L", "LA": "L", "La": "L", "CMYK": "CMYK", "YCbCr": "YCbCr"}.get(image.mode, "L" if gray else "RGB")
        colours = image.convert(into) if into != image.mode else image
        made = _transform(key, into, "RGB").apply(colours).convert("L" if gray else "RGB")
        if alpha is not None:
            made.putalpha(alpha)
        notes.append(PROFILE)
        return made
    except Exception:  # see `decode`
        notes.append(BAD_PROFILE)
        return image


class _Profile:
    """The bytes of a profile, hashed once."""

    def __init__(self, data: bytes) -> None:
        self.data, self.digest = data, hashlib.sha256(data).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Profile) and other.digest == self.digest


@lru_cache(32)
def _is_srgb(profile: _Profile) -> bool:
    return "srgb" in ImageCms.getProfileDescription(io.BytesIO(profile.data)).lower()


@lru_cache(32)
def _transform(profile: _Profile | None, mode: str, into: str) -> Any:
    source = ImageCms.createProfile("LAB") if profile is None else io.BytesIO(profile.data)
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, into)


def _opaque(image: Image.Image, look: Look, notes: list[str]) -> Image.Image:
    """The image in mode L or RGB, whatever of it is transparent on the background."""
    gray = image.mode in _GRAY
    if image.has_transparency_data:
        whole = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        layer = (image.convert(whole) if whole else image).convert("RGBA")
        if np.asarray(layer)[..., 3].min() < 255:
            notes.append(COMPOSITED)
            layer = Image.alpha_composite(Image.new("RGBA", layer.size, (*look.background, 255)), layer)
            gray = gray and len(set(look.background)) == 1
        image = layer.convert("RGB")
    return image.convert("L" if gray else "RGB")


def _asked(name: str, dtype: str, low: float, high: float, asked: tuple[float, float]) -> Scale:
    """The scale of `data.range`. Raises NotScaled for values beyond it."""
    try:
        return checked(name, dtype, low, high, asked)[0]
    except DataError:
        raise NotScaled(name, dtype, low, high, asked) from None


def _from_deep(image: Image.Image, name: str, look: Look, notes: list[str]) -> tuple[Image.Image, float, float, int]:
    """Gray of more than 8 bits -> the image in mode L, the extremes of the file, and the largest value of its type."""
    values = np.asarray(image)
    dtype = {"F": "float32", "I": "int32"}.get(image.mode, "uint16")
    if dtype == "float32" and not np.isfinite(values).all():
        raise DataError(f"{name}: its floats are not all finite", "mend or remove the file")
    low, high = float(values.min()), float(values.max())
    if look.range is not None:
        scale = _asked(name, dtype, low, high, look.range)
        notes.append(RANGE)
    elif dtype != "float32" and low >= 0 and high <= 65535:  # whether it is too dark only all files can tell
        scale = Scale(0, 65535)
        notes.append(DEEP)
    else:
        raise NotScaled(name, dtype, low, high, None)
    flat = Image.fromarray(scale.to_bytes(values))
    key = image.info.get("transparency")
    if isinstance(key, int) and (clear := values == key).any():
        notes.append(COMPOSITED)
        layer = flat.convert("RGB")
        layer.paste(look.background, mask=Image.fromarray(clear))
        flat = layer.convert("L") if len(set(look.background)) == 1 else layer
    return flat, low, high, 65535
