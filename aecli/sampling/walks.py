"""Modes that walk through the code: between images, along one latent, and unit by unit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.data.eval_batches import per_image
from aecli.data.rows import choose
from aecli.errors import UsageError
from aecli.sampling import pictures
from aecli.sampling.given import Drawn, Given

STEPS = 10
QUANTILES = (0.01, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)
MOST_SHOWN = 10_000
"""Train images whose codes stand for the aggregate posterior."""
TOP = 9
PATHS = ("linear", "spherical")


def interpolate(given: Given) -> Drawn:
    """n pairs of test images, and between them the images of codes on the line, or on the great circle, from one code to the
    other (Shoemake 1985; its radius changes evenly too)."""
    if given.request.path not in PATHS:
        raise UsageError(f"--path {given.request.path}: there are {' and '.join(PATHS)}")
    image, code, label = _encoded(given, 2 * given.n)
    n = len(image) // 2
    if n == 0:
        raise UsageError("a walk needs two test images, and there is one")
    first, second = code[:n], code[n : 2 * n]
    t = np.linspace(0, 1, STEPS)[:, None, None]
    walk = _linear(first, second, t) if given.request.path == "linear" else _spherical(first, second, t)
    made = [
        pictures.to_uint8(jitted.decode(given.model, given.state, jnp.asarray(step, jnp.float32), label[:n])) for step in walk
    ]
    made = np.stack(made, axis=1)
    ends = pictures.to_uint8(image)
    lines = [np.concatenate([ends[i : i + 1], made[i], ends[n + i : n + i + 1]]) for i in range(n)]
    heads = ["image", *(f"{t:.2f}" for t in np.linspace(0, 1, STEPS)), "image"]
    picture = pictures.grid(lines, heads=heads)
    return Drawn(picture, {"first": ends[:n], "second": ends[n : 2 * n], "image": made, "code": walk.astype(np.float32)})


def _linear(first: Any, second: Any, t: Any) -> Any:
    return (1 - t) * first + t * second


def _spherical(first: Any, second: Any, t: Any) -> Any:
    """[n, d] twice and [T, 1, 1] -> [T, n, d]."""
    a, b = (np.linalg.norm(x, axis=1, keepdims=True).clip(1e-12) for x in (first, second))
    angle = np.arccos(np.clip((first / a * second / b).sum(1, keepdims=True), -1, 1))
    sine = np.sin(angle)
    near = sine < 1e-4
    sine = np.where(near, 1.0, sine)
    on_sphere = np.sin((1 - t) * angle) / sine * (first / a) + np.sin(t * angle) / sine * (second / b)
    return np.where(near[None], _linear(first, second, t), _linear(a, b, t) * on_sphere)


def traverse(given: Given) -> Drawn:
    """One test image, and of its code each of the n latents that vary most set to quantiles of the aggregate posterior."""
    image, code, label = _encoded(given, 1)
    some = given.batches(choose(given.dataset.train, MOST_SHOWN, given.seed))
    every = per_image(some, lambda batch, _: jitted.encode(given.model, given.state, batch)).astype(np.float64)
    order = np.argsort(-every.var(0), kind="stable")[: given.n]
    values = np.quantile(every[:, order], QUANTILES, axis=0)  # [Q, n]
    walk = np.repeat(np.repeat(code[None], len(order), 0), len(QUANTILES), 1).astype(np.float32)  # [n, Q, d]
    for row, latent in enumerate(order):
        walk[row, :, latent] = values[:, row]
    flat = jnp.asarray(walk.reshape(-1, walk.shape[-1]))
    made = pictures.to_uint8(jitted.decode(given.model, given.state, flat, jnp.repeat(label[:1], len(flat))))
    made = made.reshape(len(order), len(QUANTILES), *made.shape[1:])
    original = pictures.to_uint8(image)
    lines = [np.concatenate([original, row]) for row in made]
    heads = ["image", *(f"{q:.0%}" for q in QUANTILES)]
    picture = pictures.grid(lines, [f"z{latent}, sd {every[:, latent].std():.2f}" for latent in order], heads)
    return Drawn(picture, {"image": made, "original": original, "latent": order, "value": values.T})


def codes(given: Given) -> Drawn:
    """What each of the n units that are most often active draws: what it adds to the image of an empty code (gray is nothing),
    and the test images that it is most active on, as many as there are; what is left of its line is white."""
    model, state = given.model, given.state
    code, fired, image = per_image(
        given.batches(choose(given.dataset.test, MOST_SHOWN, given.seed)),
        lambda batch, _: (
            jitted.encode(model, state, batch),
            jitted.active(model, state, batch),
            pictures.to_uint8(batch.image),
        ),
    )
    density = fired.mean(0)
    order = np.argsort(-density, kind="stable")[: given.n]
    height = np.where(fired, np.abs(code), 0.0).max(0)[order]
    empty = np.zeros((1, code.shape[1]), np.float32)
    one = np.zeros((len(order), code.shape[1]), np.float32)
    one[np.arange(len(order)), order] = height
    label = jnp.full(len(order) + 1, -1)
    decoded = np.asarray(jitted.decode(given.model, given.state, jnp.asarray(np.concatenate([empty, one])), label))
    added = decoded[1:] - decoded[:1]
    strongest = np.abs(added).reshape(len(order), -1).max(1).clip(1e-6)[:, None, None, None]
    drawn = pictures.to_uint8(0.5 + 0.5 * added / strongest)
    top = np.argsort(-np.where(fired, np.abs(code), -1.0)[:, order], axis=0, kind="stable")[:TOP].T  # [n, TOP]
    shown = image[top]
    shown[~fired[top, order[:, None]]] = 255
    lines = [np.concatenate([drawn[i : i + 1], shown[i]]) for i in range(len(order))]
    names = [f"unit {unit}, {density[unit]:.1%}" for unit in order]
    picture = pictures.grid(lines, names, ["draws", *(f"top {rank + 1}" for rank in range(top.shape[1]))])
    arrays = {
        "unit": order,
        "density": density[order],
        "drawn": added,
        "top": shown,
        "activation": np.where(fired, code, 0.0)[top, order[:, None]],
    }
    return Drawn(picture, arrays)


def _encoded(given: Given, n: int) -> tuple[Any, Any, jax.Array]:
    """Test images [n, H, W, C], their codes [n, d] float64 and their labels."""
    image, code, label = per_image(
        given.some(n), lambda batch, _: (batch.image, jitted.encode(given.model, given.state, batch), batch.label)
    )
    return image, code.astype(np.float64), jnp.asarray(label)
