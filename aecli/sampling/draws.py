"""Modes that draw new images."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.sampling import pictures
from aecli.sampling.request import COLUMNS, Ask, Shown, in_lines
from aecli.sampling.samplers import Draw

NEAREST = 3
"""Training images below each draw."""


def prior(ask: Ask) -> Shown:
    """n draws; of a conditional model a column a class, as far as the picture goes."""
    label = jnp.arange(ask.n) % max(1, ask.classes)
    return _shown(ask, label, _draw(ask, label))


def from_latent(ask: Ask, draw: Draw) -> Shown:
    """n codes of a fitted sampler, decoded."""
    label = jnp.arange(ask.n) % max(1, ask.classes)
    code = draw(ask.key, ask.n, ask.temperature)
    return _shown(ask, label, pictures.to_uint8(jitted.decode(ask.model, ask.state, code, label)))


def _shown(ask: Ask, label: jax.Array, drawn: Any) -> Shown:
    arrays = {"image": drawn, **({"label": np.asarray(label)} if ask.classes else {})}
    return Shown(in_lines(drawn, min(ask.n, ask.classes) or None), arrays)


def by_class(ask: Ask) -> Shown:
    """n draws of each class, a line a class."""
    label = jnp.repeat(jnp.arange(ask.classes), ask.n)
    drawn = _draw(ask, label)
    lines = [drawn[i : i + ask.n] for i in range(0, len(drawn), ask.n)]
    picture = pictures.grid(lines, [f"class {number}" for number in range(ask.classes)])
    return Shown(picture, {"image": drawn, "label": np.asarray(label)})


def neighbours(ask: Ask) -> Shown:
    """n draws, and below each the train images nearest to it by squared distance: copies would show."""
    label = jnp.arange(ask.n) % max(1, ask.classes)
    drawn = _draw(ask, label)
    train = ask.dataset.train
    near: Any = np.empty((ask.n, 0))
    index: Any = np.empty((ask.n, 0), np.int64)
    flat = drawn.reshape(ask.n, -1).astype(np.float32) / 255
    k = min(NEAREST, len(train))
    for start in range(0, len(train), 4096):
        rows = np.arange(start, min(start + 4096, len(train)))
        known = train.take(rows)[0].reshape(len(rows), -1).astype(np.float32) / 255
        square = (flat**2).sum(1)[:, None] + (known**2).sum(1)[None] - 2 * flat @ known.T
        near, index = np.hstack([near, square]), np.hstack([index, np.broadcast_to(rows, square.shape)])
        order = np.argsort(near, axis=1, kind="stable")[:, :k]
        near, index = np.take_along_axis(near, order, 1), np.take_along_axis(index, order, 1)
    distance = np.sqrt(np.clip(near, 0, None))
    closest = [train.take(index[:, rank])[0] for rank in range(k)]
    lines: list[Any] = []
    names: list[str] = []
    for start in range(0, ask.n, COLUMNS):
        part = slice(start, start + COLUMNS)
        lines += [drawn[part], *(images_[part] for images_ in closest)]
        names += ["draw", *(f"nearest {rank + 1}" for rank in range(k))]
    arrays = {"image": drawn, "nearest": np.stack(closest, axis=1), "index": index, "distance": distance}
    return Shown(pictures.grid(lines, names), arrays)


def _draw(ask: Ask, label: jax.Array) -> Any:
    return pictures.to_uint8(_sample(ask.model, ask.state, ask.key, label, jnp.float32(ask.temperature)))


@partial(jax.jit, static_argnames=("model",))
def _sample(model: Any, state: Any, key: jax.Array, label: jax.Array, temperature: jax.Array) -> jax.Array:
    return model.sample(state, key, label, temperature)
