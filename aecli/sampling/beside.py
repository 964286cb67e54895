"""Modes that show test images beside what the model makes of them, or of a part of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.keys import Stream, stream
from aecli.core.model import Batch
from aecli.data.eval_batches import per_image
from aecli.data.sources.decode import COMPOSITED, Look, decode, heard
from aecli.distributions.corruptions import Corruption, corrupt_batch, default_set, label
from aecli.errors import DataError, UsageError
from aecli.sampling import pictures
from aecli.sampling.given import COLUMNS, Drawn, Given, above_each_other
from aecli.system.progress import warn

REGIONS = ("upper", "left", "block")
DRAWS = 8
"""Of each image that is given."""


def reconstruct(given: Given) -> Drawn:
    """n test images, what the model is shown of them if it is not all, and their reconstructions."""
    own = given.model.corruptions
    image, shown, made = (given.kept(part) for part in _restored(given, own))
    what = given.trained.spec.kind
    if own:
        return above_each_other([what, "corrupted", "reconstruction"], [image, shown, made])
    return above_each_other([what, "reconstruction"], [image, made])


def denoise(given: Given) -> Drawn:
    """n test images, corrupted in each way of the config, or in a default set of ways, and restored."""
    own = given.model.corruptions
    n = min(given.n, COLUMNS)
    lines: list[Any] = []
    names: list[str] = []
    arrays: dict[str, Any] = {}
    for corruptions in [own] if own else default_set(given.trained.spec):
        image, shown, made = (pictures.to_uint8(part)[:n] for part in _restored(given, corruptions))
        if not lines:
            lines, names, arrays = [image], ["image"], {"image": image}
        lines += [shown, made]
        names += [label(corruptions), "restored"]
        arrays |= {f"{label(corruptions)}": shown, f"restored from {label(corruptions)}": made}
    return Drawn(pictures.grid(lines, names), arrays)


def complete(given: Given) -> Drawn:
    """n test images, the region of them that is given, and what the model draws in the rest."""
    known = known_region(given.request.region, given.trained.spec.height, given.trained.spec.width)

    def completed(batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        mask = jnp.broadcast_to(jnp.asarray(known)[None, :, :, None], batch.image.shape)
        seen = batch._replace(hidden=~mask[..., :1])
        made = jitted.complete(given.model, given.state, key, seen, mask, jnp.float32(given.temperature))
        return batch.image, jnp.where(mask, batch.image, 0.5), made

    columns = [given.kept(part) for part in per_image(given.some(), completed)]
    shown = above_each_other(["image", "given", "completion"], columns)
    return shown._replace(arrays={**shown.arrays, "known": known})


def translate(given: Given) -> Drawn:
    """n test images, each in a line: the image, what the model is given of it, and draws of what it may have been."""

    def translated(batch: Batch, key: jax.Array) -> tuple[Any, Any, Any]:
        keys = [stream(key, Stream.SAMPLE, number) for number in range(DRAWS)]
        drawn = [jitted.translate(given.model, given.state, key, batch, jnp.float32(given.temperature)) for key in keys]
        return batch.image, batch.given, jnp.stack(drawn, axis=1)

    image, shown, drawn = (pictures.to_uint8(part) for part in per_image(given.some(), translated))
    lines = [np.concatenate([image[i : i + 1], shown[i : i + 1], drawn[i]]) for i in range(len(image))]
    heads = ["image", "given", *(f"draw {number + 1}" for number in range(DRAWS))]
    arrays = {"image": image, "given": shown, "draws": drawn, "corruption": np.array(label(given.model.given_corruptions))}
    return Drawn(pictures.grid(lines, heads=heads), arrays)


def known_region(region: str, height: int, width: int) -> Any:
    """Which pixels are given, [H, W] bool: the upper or left half, all but a block in the middle, or the white pixels of a mask
    file. Raises UsageError for another name, and for a file that is no mask of such images."""
    known = np.ones((height, width), bool)
    if region == "upper":
        known[height // 2 :] = False
    elif region == "left":
        known[:, width // 2 :] = False
    elif region == "block":
        known[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    else:
        return _mask(Path(region), height, width)
    return known


def _mask(path: Path, height: int, width: int) -> Any:
    allowed = f"{', '.join(REGIONS)}, or a mask file: white is given, black is drawn"
    if not path.exists():
        raise UsageError(f"--region {path}: there is no such region and no such file", allowed)
    try:
        with heard():
            read = decode(path, str(path), Look(None, 1, (255, 255, 255), None))
    except DataError as error:
        raise UsageError(f"--region {error.message}", allowed) from None
    if COMPOSITED in read.notes:
        raise UsageError(f"--region {path}: a mask has white and black and nothing transparent", allowed)
    if 0 < read.high < read.white / 2:
        message = f"--region {path}: the largest value is {read.high:g} of {read.white}, so that nothing of it is white"
        raise UsageError(message, f"multiply it by {read.white / read.high:g}; {allowed}")
    gray = read.image[..., 0]
    mask = gray >= 128
    if (between := int(((gray > 0) & (gray < 255)).sum())) > 0:
        warn(f"--region {path}: {between:,} pixels are neither black nor white; from 128 on they count as given")
    if mask.shape != (height, width):
        raise UsageError(f"--region {path}: a mask of {mask.shape[0]}x{mask.shape[1]} pixels for images of {height}x{width}")
    if mask.all():
        raise UsageError(f"--region {path}: every pixel is given, none is left to draw", allowed)
    if not mask.any():
        message = f"--region {path}: every pixel is black, so that nothing is given that could be completed"
        raise UsageError(message, f"make what is given white; without --mode complete whole images are drawn; {allowed}")
    return mask


def _restored(given: Given, corruptions: tuple[Corruption, ...]) -> tuple[Any, Any, Any]:
    """Images, what is shown of them, and what is made of that."""
    return per_image(given.some(), lambda batch, key: _reconstruct(given.model, given.state, corruptions, batch, key))


@partial(jax.jit, static_argnames=("model", "corruptions"))
def _reconstruct(
    model: Any, state: Any, corruptions: tuple[Corruption, ...], batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    shown = corrupt_batch(corruptions, batch, key)
    return batch.image, shown.image, model.reconstruct(state, shown)
