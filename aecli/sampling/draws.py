"""Modes that draw new images."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.data.rows import unit
from aecli.errors import UsageError
from aecli.measures.distances import k_nearest
from aecli.sampling import pictures
from aecli.sampling.given import COLUMNS, Drawn, Given, in_lines

NEAREST = 3
"""Training images below each draw."""


def prior(given: Given) -> Drawn:
    """n draws; where there are classes a column a class, as far as the picture goes."""
    label = _in_turn(given)
    drawn = _draw(given, label)
    columns = min(given.n, len(given.classes))
    heads = [given.class_names[number] for number in given.classes[:columns]] if columns else None
    return Drawn(in_lines(drawn, columns or None, heads), {given.trained.spec.kind: drawn, **_labels(given, label)})


def by_class(given: Given) -> Drawn:
    """n draws of each class, a line a class. Raises UsageError if codes were fitted that no class is known of."""
    if not given.classes:
        raise UsageError("none of the train images has a label: there is no class to draw", "leave --mode out")
    label = jnp.repeat(jnp.asarray(given.classes), given.n)
    drawn = _draw(given, label)
    lines = [drawn[i : i + given.n] for i in range(0, len(drawn), given.n)]
    names = [given.class_names[number] for number in given.classes]
    return Drawn(pictures.grid(lines, names), {"image": drawn, **_labels(given, label)})


def _in_turn(given: Given) -> jax.Array:
    """The class of each of n draws, one after another; 0 where there are none."""
    return jnp.asarray(np.resize(given.classes or (0,), given.n), jnp.int32)


def _labels(given: Given, label: jax.Array) -> dict[str, Any]:
    """What an npz says of the classes, if there are any: each image's, and what they are called."""
    return {"label": np.asarray(label), "class_names": np.array(given.class_names)} if given.classes else {}


def neighbours(given: Given) -> Drawn:
    """n draws, and below each the train images nearest to it by squared distance: copies would show."""
    label = _in_turn(given)
    drawn = _draw(given, label)
    train = given.dataset.train
    k = min(NEAREST, len(train))
    pieces = (train.part(start, min(start + 4096, len(train))).all()[0] for start in range(0, len(train), 4096))
    index, distance = k_nearest(_flat(drawn), map(_flat, pieces), k)
    closest = [train.take(index[:, rank])[0] for rank in range(k)]
    lines: list[Any] = []
    names: list[str] = []
    for start in range(0, given.n, COLUMNS):
        part = slice(start, start + COLUMNS)
        lines += [drawn[part], *(images_[part] for images_ in closest)]
        names += ["draw", *(f"nearest {rank + 1}" for rank in range(k))]
    arrays = {"image": drawn, "nearest": np.stack(closest, axis=1), "index": index, "distance": distance}
    return Drawn(pictures.grid(lines, names), arrays)


def _flat(images: Any) -> Any:
    """Rows [n, H, W, C] -> float32 [n, D] in [0, 1]."""
    return unit(images).reshape(len(images), -1)


def _draw(given: Given, label: jax.Array) -> Any:
    if given.fitted is None:
        return given.kept(jitted.sample(given.model, given.state, given.key, label, jnp.float32(given.temperature)))
    code = given.fitted.draw(given.key, label, given.temperature)
    return given.kept(jitted.decode(given.model, given.state, code, label))
