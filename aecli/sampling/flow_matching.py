"""Flow matching: a velocity field that carries noise to codes along straight lines, fitted after training.

Lipman et al. 2023, "Flow matching for generative modeling", section 4, with the straight paths of Liu et al. 2023, "Flow straight
and fast": x(t) = (1 - t) noise + t code, and a network v(x, t, class) that is fitted to code - noise by least squares.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from aecli.core.keys import Stream, stream

Arrays: TypeAlias = dict[str, Any]
Params: TypeAlias = dict[str, jax.Array]


class FlowRecipe(NamedTuple):
    """How a field is trained: by Adam on so many `steps` of a `batch`, its `rate` falling along a cosine, in `blocks` of residual
    layers of one `width`. `average` is the decay of the mean of the weights, which is what is kept."""

    width: int = 256
    blocks: int = 3
    steps: int = 4000
    batch: int = 256
    rate: float = 2e-3
    average: float = 0.999
    epochs: int = 200

    def of(self, n: int) -> FlowRecipe:
        """For n codes: none is seen more than `epochs` times, so that few are not learnt by heart."""
        return self._replace(steps=max(1, min(self.steps, self.epochs * n // self.batch)))

    def optimizer(self) -> optax.GradientTransformation:
        rate = optax.warmup_cosine_decay_schedule(0, self.rate, min(100, self.steps // 2), self.steps)
        return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


RECIPE = FlowRecipe()
DRAW_STEPS = 10
AT_ONCE = 250
"""Training steps in a call; between two of them a signal is heard."""
FREQUENCIES = 16
"""Cosines and sines of the time that the field is given."""
SMALLEST_SCALE = 1e-3
"""Of a whitened direction, beside the largest: a latent that never changes has no scale of its own."""


def fit(codes: Any, label: Any, classes: int, seed: int, recipe: FlowRecipe) -> Arrays:
    """From codes [n, latent] and labels [n] int32, -1 where there is none; of 0 `classes` if labels are not to be heeded."""
    recipe = recipe.of(len(codes))
    mean, whiten, color = _whitening(codes)
    white = jnp.asarray((codes - mean[None]) @ whiten, jnp.float32)
    root = stream(jax.random.key(seed), Stream.FIT)
    params = _init(jax.random.fold_in(root, recipe.steps), codes.shape[1], classes, recipe)
    state = params, jax.tree.map(jnp.copy, params), recipe.optimizer().init(params)
    for start in range(0, recipe.steps, AT_ONCE):
        numbers = jnp.arange(start, min(start + AT_ONCE, recipe.steps))
        state = jax.block_until_ready(_train(recipe, state, white, jnp.asarray(label), root, numbers))
    return {name: np.asarray(x, np.float32) for name, x in {"mean": mean, "color": color, **state[1]}.items()}


def draw(arrays: Arrays, key: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    """A code of each class of `label` [n], [n, latent]; `temperature` scales the noise that a code begins as."""
    return _draw({name: jnp.asarray(x) for name, x in arrays.items()}, key, label, jnp.float32(temperature), DRAW_STEPS)


def _whitening(codes: Any) -> tuple[Any, Any, Any]:
    """The mean, and the matrices that lead to principal components of variance 1 and back."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(codes, rowvar=False)))
    scale = np.sqrt(np.maximum(values, 0))
    scale = np.maximum(scale, max(SMALLEST_SCALE * scale.max(), 1e-6))
    return codes.mean(0), vectors / scale[None], (vectors * scale[None]).T


def _init(key: jax.Array, size: int, classes: int, recipe: FlowRecipe) -> Params:
    """The last layer is 0, so that the first flow is that of one Gaussian."""
    keys = iter(jax.random.split(key, 2 * recipe.blocks + 2))

    def normal(inputs: int, outputs: int) -> jax.Array:
        return jax.random.normal(next(keys), (inputs, outputs)) / np.sqrt(inputs)

    width = recipe.width
    params = {
        "in": normal(size, width),
        "time": normal(2 * FREQUENCIES, width),
        "class": jnp.zeros((classes, width)),
        "out": jnp.zeros((width, size)),
        "out_bias": jnp.zeros(size),
    }
    for block in range(recipe.blocks):
        params |= {f"up{block}": normal(width, width), f"up_bias{block}": jnp.zeros(width), f"down{block}": normal(width, width)}
    return params


def _velocity(params: Params, x: jax.Array, t: jax.Array, label: jax.Array) -> jax.Array:
    """[n, latent], [n] and [n] -> [n, latent]: that between two standard Gaussians, in closed form, and what the network adds."""
    t = t[:, None]
    angle = np.pi * t * jnp.arange(1, FREQUENCIES + 1)[None]
    known = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1) @ params["time"]
    known = known + jax.nn.one_hot(label, len(params["class"])) @ params["class"]
    hidden = x @ params["in"] + known
    for block in range(sum(name.startswith("down") for name in params)):
        inner = jax.nn.silu(_normed(hidden) @ params[f"up{block}"] + params[f"up_bias{block}"][None] + known)
        hidden = hidden + inner @ params[f"down{block}"]
    return x * (2 * t - 1) / (t**2 + (1 - t) ** 2) + _normed(hidden) @ params["out"] + params["out_bias"][None]


def _normed(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt((x**2).mean(axis=1, keepdims=True) + 1e-6)


@partial(jax.jit, static_argnames=("recipe",), donate_argnums=(1,))
def _train(recipe: FlowRecipe, state: Any, codes: jax.Array, label: jax.Array, root: jax.Array, numbers: jax.Array) -> Any:
    """Weights, their mean and moments after the steps of these numbers."""
    optimizer, n = recipe.optimizer(), recipe.batch

    def step(state: Any, number: jax.Array) -> tuple[Any, None]:
        params, mean, moments = state
        choosing, drawing, timing = jax.random.split(jax.random.fold_in(root, number), 3)
        chosen = jax.random.randint(choosing, (n,), 0, len(codes))
        code, noise = codes[chosen], jax.random.normal(drawing, (n, codes.shape[1]))
        t = (jnp.arange(n) + jax.random.uniform(timing)) / n  # evenly, which leaves the gradient less noise

        def loss(params: Params) -> jax.Array:
            x = (1 - t[:, None]) * noise + t[:, None] * code
            return ((_velocity(params, x, t, label[chosen]) - (code - noise)) ** 2).mean()

        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        params = optax.apply_updates(params, updates)
        decay = jnp.minimum(recipe.average, (1 + number) / (10 + number))
        mean = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, mean, params)
        return (params, mean, moments), None

    return jax.lax.scan(step, state, numbers)[0]


@partial(jax.jit, static_argnames=("steps",))
def _draw(arrays: Params, key: jax.Array, label: jax.Array, temperature: jax.Array, steps: int) -> jax.Array:
    """By Heun's method in steps of one length."""
    h = 1 / steps

    def step(x: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        t = jnp.full(len(x), number * h)
        before = _velocity(arrays, x, t, label)
        after = _velocity(arrays, x + h * before, t + h, label)
        return x + h / 2 * (before + after), None

    noise = temperature * jax.random.normal(key, (len(label), len(arrays["mean"])))
    white = jax.lax.scan(step, noise, jnp.arange(steps))[0]
    return arrays["mean"][None] + white @ arrays["color"]
