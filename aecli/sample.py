"""What a trained model shows: one function per mode, each asking for the ability that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from aecli import images, latents
from aecli.catalog import variants_that
from aecli.core import ABILITIES, Batch, Model, abilities
from aecli.data.rows import Rows, choose
from aecli.errors import UsageError, did_you_mean
from aecli.evaluate.batches import batches
from aecli.files import write_arrays
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
    key = stream(jax.random.key(seed), Stream.SAMPLE)
    return _draws(trained, n, lambda label: _sample(trained.model, trained.state, key, label))


def from_latent(trained: Trained, draw: Callable[[jax.Array, int], jax.Array], n: int, seed: int) -> Shown:
    """n codes of a fitted sampler, decoded."""
    code = draw(stream(jax.random.key(seed), Stream.SAMPLE), n)
    return _draws(trained, n, lambda label: _decode(trained.model, trained.state, code, label))


def _draws(trained: Trained, n: int, draw: Callable[[jax.Array], jax.Array]) -> Shown:
    """Images for n labels: of a conditional model a column a class, as far as the picture goes."""
    classes = trained.spec.classes if getattr(trained.model, "conditional", False) else 0
    label = jnp.arange(n) % max(1, classes)
    drawn = images.to_uint8(draw(label))
    columns = min(n, classes) or _columns(n)
    arrays = {"image": drawn, **({"label": np.asarray(label)} if classes else {})}
    return Shown(images.grid([drawn[i : i + columns] for i in range(0, n, columns)]), arrays)


def _columns(n: int) -> int:
    """A grid without gaps where n has a fitting divisor, a square one otherwise."""
    side = ceil(sqrt(n))
    return next((columns for columns in range(side, 2 * side) if n % columns == 0), side)


def reconstruct(trained: Trained, held_out: Callable[[], Rows], n: int, seed: int) -> Shown:
    """n held-out images, what the model is shown of them if it is not all, and their reconstructions."""
    parts: list[Any] = []
    for batch, key, real in _some(trained, held_out(), n, seed):
        parts.append([np.asarray(x)[:real] for x in _reconstruct(trained.model, trained.state, batch, key)])
    names = ["image", "corrupted", "reconstruction"] if len(parts[0]) == 3 else ["image", "reconstruction"]
    return _above_each_other(names, parts)


def complete(trained: Trained, held_out: Callable[[], Rows], n: int, seed: int) -> Shown:
    """The upper half of n held-out images, and what the model draws below it."""
    parts: list[Any] = []
    for batch, key, real in _some(trained, held_out(), n, seed):
        height = batch.image.shape[1]
        known = jnp.broadcast_to((jnp.arange(height) < height // 2)[None, :, None, None], batch.image.shape)
        made = _complete(trained.model, trained.state, key, batch, known)
        given = jnp.where(known, batch.image, 0.5)
        parts.append([np.asarray(x)[:real] for x in (batch.image, given, made)])
    return _above_each_other(["image", "given", "completion"], parts)


def _some(trained: Trained, rows: Rows, n: int, seed: int) -> Any:
    """Batches of n images chosen by the seed."""
    return batches(choose(rows, n, seed), trained.experiment.data.binarize, jax.random.key(seed), trained.place)


def _above_each_other(names: list[str], parts: list[Any]) -> Shown:
    """Batches of images of each name, in lines of at most 12."""
    arrays = [images.to_uint8(np.concatenate(part)) for part in zip(*parts, strict=True)]
    lines: list[Any] = []
    columns = min(len(arrays[0]), 12)
    for i in range(0, len(arrays[0]), columns):
        lines += [array[i : i + columns] for array in arrays]
    picture = images.grid(lines, names * (len(lines) // len(names)))
    return Shown(picture, dict(zip(names, arrays, strict=True)))


MODES: Mapping[str, Mode] = {
    "prior": Mode("samples", prior, "draws from the model's distribution"),
    "reconstruct": Mode("reconstructs", reconstruct, "test images and what is left of them after the code"),
    "complete": Mode("completes", complete, "the upper half of test images, and what the model draws below it"),
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
        can, latent = modes_of(model), latents.fits(model)
        raise UsageError(
            f"variant '{model.variant}' cannot do --mode {name}: it has not the ability '{mode.ability}'",
            "; ".join(
                [f"it can do --mode {' and --mode '.join(can)}"] * bool(can)
                + [f"its codes can be drawn with --sampler {' or '.join(latent)}"] * (name == "prior" and bool(latent))
                + [f"variants that can: {', '.join(variants_that(mode.ability))}"]
            ),
        )
    return mode


def write(folder: Path, stem: str, shown: Shown) -> tuple[Path, Path]:
    """Writes `stem`.png and `stem`.npz; returns their paths."""
    folder.mkdir(exist_ok=True)
    picture, arrays = folder / f"{stem}.png", folder / f"{stem}.npz"
    images.save(picture, shown.picture)
    write_arrays(arrays, shown.arrays)
    return picture, arrays


@partial(jax.jit, static_argnames=("model",))
def _sample(model: Any, state: Any, key: jax.Array, label: jax.Array) -> jax.Array:
    return model.sample(state, key, label)


@partial(jax.jit, static_argnames=("model",))
def _decode(model: Any, state: Any, code: jax.Array, label: jax.Array) -> jax.Array:
    return model.decode(state, code, label)


@partial(jax.jit, static_argnames=("model",))
def _reconstruct(model: Any, state: Any, batch: Batch, key: jax.Array) -> list[jax.Array]:
    """The image, what the model is shown if that is another, and the reconstruction."""
    shown = model.corrupt(batch.image, key)
    made = model.reconstruct(state, batch._replace(image=shown))
    return [batch.image, made] if shown is batch.image else [batch.image, shown, made]


@partial(jax.jit, static_argnames=("model",))
def _complete(model: Any, state: Any, key: jax.Array, batch: Batch, known: jax.Array) -> jax.Array:
    return model.complete(state, key, batch, known)
