"""What a trained model shows: one function per mode, each asking for the ability that it needs."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from aecli import images
from aecli.catalog import variants_that
from aecli.core import ABILITIES, Model, abilities
from aecli.data.rows import ArrayRows, Rows
from aecli.errors import UsageError, did_you_mean
from aecli.evaluate.batches import batches
from aecli.files import write_atomic
from aecli.keys import Stream, stream
from aecli.restored import Trained


class Shown(NamedTuple):
    """`arrays` go into the npz as they are; images among them are uint8, rounded."""

    picture: Image.Image
    arrays: dict[str, Any]


class Mode(NamedTuple):
    ability: str
    show: Callable[[Trained, Callable[[], Rows], int, int], Shown]
    """Takes the model, what opens the held-out images if they are needed, how many, and the seed."""
    help: str


def prior(trained: Trained, held_out: Callable[[], Rows], n: int, seed: int) -> Shown:
    """n draws from the model's distribution."""
    drawn = images.to_uint8(_sample(trained.model, trained.state, stream(jax.random.key(seed), Stream.SAMPLE), n))
    columns = _columns(n)
    return Shown(images.grid([drawn[i : i + columns] for i in range(0, n, columns)]), {"image": drawn})


def _columns(n: int) -> int:
    """A grid without gaps where n has a fitting divisor, a square one otherwise."""
    side = ceil(sqrt(n))
    return next((columns for columns in range(side, 2 * side) if n % columns == 0), side)


def reconstruct(trained: Trained, held_out: Callable[[], Rows], n: int, seed: int) -> Shown:
    """n held-out images above their reconstructions."""
    rows = held_out()
    chosen = np.sort(np.random.Generator(np.random.Philox(seed)).permutation(len(rows))[:n])
    taken, labels = rows.take(chosen)
    few = ArrayRows(taken, labels)
    original, made = [], []
    binarize = trained.experiment.data.binarize
    for batch, _, real in batches(few, binarize, jax.random.key(seed), trained.place):
        original.append(np.asarray(batch.image)[:real])
        made.append(np.asarray(_reconstruct(trained.model, trained.state, batch.image))[:real])
    x, y = images.to_uint8(np.concatenate(original)), images.to_uint8(np.concatenate(made))
    columns = min(len(x), 12)
    lines: list[Any] = []
    for i in range(0, len(x), columns):
        lines += [x[i : i + columns], y[i : i + columns]]
    picture = images.grid(lines, ["original", "reconstruction"] * (len(lines) // 2))
    return Shown(picture, {"image": x, "reconstruction": y, "index": chosen})


MODES: Mapping[str, Mode] = {
    "prior": Mode("samples", prior, "draws from the model's distribution"),
    "reconstruct": Mode("reconstructs", reconstruct, "test images and what is left of them after the code"),
}


def modes_of(model: Model) -> tuple[str, ...]:
    """The modes that a model can serve."""
    able = abilities(model)
    return tuple(name for name, mode in MODES.items() if mode.ability in able)


def check_mode(model: Model, name: str) -> Mode:
    """Raises UsageError for a mode that there is not, or that the model has not the ability for, naming what would work."""
    if name not in MODES:
        raise UsageError(f"there is no mode '{name}'", did_you_mean(name, MODES) or "modes: " + ", ".join(MODES))
    mode = MODES[name]
    if not isinstance(model, ABILITIES[mode.ability]):
        can = modes_of(model)
        raise UsageError(
            f"variant '{model.variant}' cannot do --mode {name}: it has not the ability '{mode.ability}'",
            (f"it can do --mode {' and --mode '.join(can)}; " if can else "")
            + f"variants that can: {', '.join(variants_that(mode.ability))}",
        )
    return mode


def write(folder: Path, stem: str, shown: Shown) -> tuple[Path, Path]:
    """Writes `stem`.png and `stem`.npz; returns their paths."""
    folder.mkdir(exist_ok=True)
    picture, arrays = folder / f"{stem}.png", folder / f"{stem}.npz"
    images.save(picture, shown.picture)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **shown.arrays)
    write_atomic(arrays, buffer.getvalue())
    return picture, arrays


@partial(jax.jit, static_argnames=("model", "n"))
def _sample(model: Any, state: Any, key: jax.Array, n: int) -> jax.Array:
    return model.sample(state, key, n)


@partial(jax.jit, static_argnames=("model",))
def _reconstruct(model: Any, state: Any, image: jax.Array) -> jax.Array:
    return model.reconstruct(state, image)
