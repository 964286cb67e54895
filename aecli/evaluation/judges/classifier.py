"""A small classifier, whose last hidden layer gives the features that images are compared by.

The weights for Fashion-MNIST and the embedded digits come with the package (`make_weights.py` makes them); for other
labelled data they are trained by the same recipe when they are first needed. Distances in these features are no Inception
distances, and are not to be compared with them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from functools import partial
from importlib import resources
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from aecli.core.flop import products
from aecli.core.model import Batch, Spec
from aecli.data.dataset import Dataset
from aecli.data.rows import Rows
from aecli.data.train_batches import to_unit
from aecli.errors import DataError
from aecli.system.arrays import read_arrays

FEATURES = 64
CHANNELS = (32, 64, 64, 64, 64)
EPOCHS, LEAST_STEPS, MOST_STEPS, BATCH, RATE, DROPOUT = 10, 2000, 10_000, 128, 2e-3, 0.3
PIECE = 500
CALL_VALUES = 2**23
"""Values of the images that one call of several steps is given."""
SHIPPED: Mapping[str, tuple[str, str]] = {
    "bac123b3fceae1680ece9ef0f3d86c348bb0b44a41ca0dfc5a9b7c86efe7ac9d": (
        "fashion_mnist.npz",
        "c1b6e6ffd3f160f403ddd95dd40ada9b99b4a1602d0a7748205917e84a29faea",
    ),
    "78fc8f278c3c9b80952cf33862d299583f848335cd31e04d56ff0d50129b9931": (
        "digits.npz",
        "c4132a66acd43df45e1858c3c57b7d66ed607f7e4d093986960cbf8498d45940",
    ),
}
"""Fingerprint of the data -> the file of its weights, and the file's SHA-256."""

Params = dict[str, Any]


class Classifier(NamedTuple):
    """`hash` names the exact weights; `accuracy` is that on the test split."""

    params: Params
    hash: str
    accuracy: float

    piece = PIECE
    """Images at once."""

    def features(self, image: Any) -> Any:
        """[n, H, W, C] in [0, 1] -> [n, 64] float32."""
        parts = [image[i : i + PIECE] for i in range(0, len(image), PIECE)]
        return np.concatenate([np.asarray(_features(self.params, jnp.asarray(part, jnp.float32))) for part in parts])


def init(key: jax.Array, spec: Spec) -> Params:
    """3x3 convolutions that halve the image until it is at most 8 pixels wide, and two affine layers."""
    params: Params = {}
    height, width, channels = spec.shape
    layers = 0
    while max(height, width) > 8 and layers < len(CHANNELS):
        height, width = -(-height // 2), -(-width // 2)
        params[f"conv{layers}"] = _affine(jax.random.fold_in(key, layers), 9 * channels, CHANNELS[layers])
        channels, layers = CHANNELS[layers], layers + 1
    params["hidden"] = _affine(jax.random.fold_in(key, 10), height * width * channels, FEATURES)
    params["classes"] = _affine(jax.random.fold_in(key, 11), FEATURES, spec.classes)
    return params


def _affine(key: jax.Array, inputs: int, outputs: int) -> dict[str, jax.Array]:
    return {"kernel": nnx.initializers.he_normal()(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def _apply(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + jnp.broadcast_to(layer["bias"], (*x.shape[:-1], layer["bias"].size))


def _halve(x: jax.Array) -> jax.Array:
    """The 3x3 neighbourhoods of every second pixel, [B, H, W, C] -> [B, H / 2, W / 2, 9 C]: products of matrices are much faster
    on a CPU than convolutions."""
    h, w = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    padded = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)))
    return jnp.concatenate([padded[:, i : i + 2 * h : 2, j : j + 2 * w : 2] for i in range(3) for j in range(3)], axis=-1)


def _hidden(params: Params, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
    x = image - 0.5
    for layer in range(len(CHANNELS)):
        if f"conv{layer}" in params:
            x = nnx.relu(_apply(params[f"conv{layer}"], _halve(x)))
    x = x.reshape(len(x), -1)
    if key is not None:
        x = jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, x.shape), x / (1 - DROPOUT), 0.0)
    return nnx.relu(_apply(params["hidden"], x))


_features = jax.jit(_hidden)


@jax.jit
def _logits(params: Params, image: jax.Array) -> jax.Array:
    return _apply(params["classes"], _hidden(params, image))


def steps_for(n: int) -> int:
    """How many steps a classifier of n images is trained for."""
    per_epoch = n // min(BATCH, n)
    return min(max(EPOCHS, -(-LEAST_STEPS // per_epoch)) * per_epoch, MOST_STEPS)


def train(dataset: Dataset, poll: Any = lambda: None, tell: Any = lambda done, total: None) -> Params:
    """Adam with a cosine schedule on the gray or colour train images that have a label, in an order that is always the same."""
    rows, spec = dataset.train, dataset.spec
    labelled = np.flatnonzero(rows.labels >= 0)
    size = min(BATCH, len(labelled))
    per_epoch, total = len(labelled) // size, steps_for(len(labelled))
    params = init(jax.random.key(0), spec)
    moments = _optimizer(total).init(params)
    step = jax.jit(partial(_step, total), donate_argnums=(0, 1))
    rng = np.random.Generator(np.random.Philox(0))
    orders = (labelled[rng.permutation(len(labelled))] for _ in range(-(-total // per_epoch)))
    chosen = (order[i * size : (i + 1) * size] for order in orders for i in range(per_epoch))
    for done, index in enumerate(itertools.islice(chosen, total)):
        poll()
        tell(done, total)
        image, label = rows.take(np.sort(index))
        params, moments = step(params, moments, image, label, jax.random.key(done))
    return jax.tree.map(lambda x: np.asarray(x, np.float16), params)


def _optimizer(total: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(RATE, total))


def _step(total: int, params: Params, moments: Any, image: jax.Array, label: jax.Array, key: jax.Array) -> tuple[Params, Any]:
    """One of `total` steps on a batch: the parameters and the moments after it."""

    def loss(params: Params) -> jax.Array:
        logits = _apply(params["classes"], _hidden(params, to_unit(image), key))
        return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

    updates, moments_ = _optimizer(total).update(jax.grad(loss)(params), moments)
    return optax.apply_updates(params, updates), moments_  # pyright: ignore[reportReturnType]


def fit(image: Any, label: Any, spec: Spec, seed: int, total: int, poll: Any, tell: Any) -> Params:
    """A classifier by the same recipe of images [n, H, W, C] float32 in memory and their labels [n], in float32. It takes `total`
    steps of BATCH images whatever n is: one shuffled pass follows another, also within a batch. The first parameters, the order
    and the dropout are of the seed."""
    first, dropout = jax.random.split(jax.random.key(seed))
    rng = np.random.Generator(np.random.Philox(seed))
    passes = -(-total * BATCH // len(label))
    order = np.concatenate([rng.permutation(len(label)) for _ in range(passes)])[: total * BATCH].reshape(total, BATCH)
    params = init(first, spec)
    moments = _optimizer(total).init(params)
    at_once = max(1, min(total, CALL_VALUES // (BATCH * spec.size)))
    for start in range(0, total, at_once):
        poll()
        tell(start, total)
        index = order[start : start + at_once]
        count, filled = len(index), np.resize(index, (at_once, BATCH))  # one shape, so that it is compiled once
        params, moments = _steps(total, params, moments, image[filled], label[filled], dropout, start, count)
    return params


@partial(jax.jit, static_argnames=("total",), donate_argnums=(1, 2))
def _steps(
    total: int, params: Params, moments: Any, image: jax.Array, label: jax.Array, key: jax.Array, start: Any, count: Any
) -> tuple[Params, Any]:
    """The first `count` steps on batches [m, B, H, W, C]; `start` were made before."""

    def body(at: Any, learner: tuple[Params, Any]) -> tuple[Params, Any]:
        return _step(total, *learner, image[at], label[at], jax.random.fold_in(key, start + at))

    return jax.lax.fori_loop(0, count, body, (params, moments))


def step_flop(spec: Spec) -> float:
    """The operations of a step on BATCH images."""
    params = jax.eval_shape(partial(init, spec=spec), jax.random.key(0))
    batch = Batch.abstract(BATCH, spec)
    moments = jax.eval_shape(_optimizer(1).init, params)
    return products(jax.make_jaxpr(partial(_step, 1))(params, moments, batch.image, batch.label, jax.random.key(0)))


def classes(params: Params, image: Any) -> Any:
    """[n, H, W, C] in [0, 1], as a network can take at once -> the class that is read off each, [n]."""
    return np.asarray(_logits(params, image)).argmax(1)


def accuracy(params: Params, rows: Rows) -> float:
    """The share of the rows with a label whose class is read; NaN if there are none."""
    right = labelled = 0
    for start in range(0, len(rows), PIECE):
        image, label = rows.take(np.arange(start, min(start + PIECE, len(rows))))
        right += int((classes(_float32(params), image / np.float32(255)) == label).sum())
        labelled += int((label >= 0).sum())
    return right / labelled if labelled else float("nan")


def _float32(params: Params) -> Params:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


def pack(params: Params, accuracy: float) -> dict[str, Any]:
    """As arrays of a file, in the half precision that `train` gives."""
    return {f"{layer}/{name}": x for layer, part in params.items() for name, x in part.items()} | {
        "accuracy": np.float64(accuracy)
    }


def unpack(arrays: Mapping[str, Any]) -> Classifier:
    params: Params = {}
    digest = hashlib.sha256()
    for path in sorted(name for name in arrays if "/" in name):
        layer, name = path.split("/")
        params.setdefault(layer, {})[name] = arrays[path]
        digest.update(path.encode() + np.ascontiguousarray(arrays[path]).tobytes())
    return Classifier(_float32(params), digest.hexdigest(), float(arrays["accuracy"]))


def shipped(fingerprint: str) -> Classifier | None:
    """The weights that come with the package for such data. Raises DataError if their file is damaged."""
    if fingerprint not in SHIPPED:
        return None
    name, expected = SHIPPED[fingerprint]
    file = resources.files("aecli.evaluation.judges") / "weights" / name
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise DataError(f"the weights {name} of the package are damaged: their checksum is wrong", "install aecli again")
    with resources.as_file(file) as path:
        return unpack(read_arrays(path.resolve()))
