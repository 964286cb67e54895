"""MADE: fully connected layers whose masks make every output depend on earlier inputs alone.

Germain et al. 2015, "MADE: masked autoencoder for distribution estimation", equations 8 to 10, with the direct connection of
section 3 and the natural order of the pixels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aecli.nets.causal import Layout
from aecli.nets.dropout import Dropout, drop, each


class Made(nnx.Module):
    """Layers of `hidden` masked units. The parameters of the values start at 0.

    A hidden unit of degree d sees the first d values; degrees are spread evenly, so a layer is in order too.
    """

    def __init__(self, layout: Layout, hidden: tuple[int, ...], *, rngs: nnx.Rngs) -> None:
        self.layout, self.hidden = layout, hidden
        given, made = self._units * layout.inputs, self._units * layout.outputs
        start = nnx.initializers.glorot_uniform()
        self.kernels = nnx.List([nnx.Param(start(rngs.params(), pair)) for pair in pairwise((given, *hidden))])
        self.biases = nnx.List([nnx.Param(jnp.zeros((width,))) for width in hidden])
        self.out = nnx.Param(jnp.zeros((hidden[-1], made)))
        self.direct = nnx.Param(jnp.zeros((given, made)))
        self.shift = nnx.Param(jnp.zeros((made,)))
        if layout.classes:
            self.condition = nnx.Linear(layout.classes, sum(hidden), use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array, label: jax.Array, *, dropout: Dropout | None = None) -> jax.Array:
        layout, x = self.layout, self._flat(x)
        out = self._last_hidden(x, label, dropout) @ _masked(self.out[...], self._of_hidden(-1), self._of_outputs())
        out += x @ _masked(self.direct[...], self._of_inputs(), self._of_outputs())
        return (out + self.shift[...][None]).reshape(-1, layout.rows, layout.columns, layout.values, layout.outputs)

    def features(self, x: jax.Array, label: jax.Array) -> jax.Array:
        """The last hidden layer, as a single site: [B, 1, 1, F]."""
        return self._last_hidden(self._flat(x), label)[:, None, None]

    def begin(self, label: jax.Array) -> jax.Array:
        """The cache: the first hidden layer before its nonlinearity, of the values known so far, [B, hidden[0]]."""
        return jnp.zeros((label.shape[0], self.hidden[0]), self.shift[...].dtype)

    def step(self, first: jax.Array, x: jax.Array, label: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        inputs, outputs, x = self.layout.inputs, self.layout.outputs, self._flat(x)
        # What the value before this one adds to the first layer; before the first one, nothing.
        before = jnp.maximum(position - 1, 0) * inputs
        rows = jax.lax.dynamic_slice_in_dim(self.kernels[0][...], before, inputs, 0)
        rows = jnp.where((position > 0) & (jnp.asarray(self._of_hidden(0)) >= position)[None], rows, 0)
        first += jax.lax.dynamic_slice_in_dim(x, before, inputs, 1) @ rows
        seen_hidden = jnp.asarray(self._of_hidden(-1)) <= position
        seen_inputs = jnp.asarray(self._of_inputs()) <= position
        start = position * outputs
        hidden = self._hidden(first, label) * seen_hidden[None]
        out = hidden @ jax.lax.dynamic_slice_in_dim(self.out[...], start, outputs, 1)
        out += (x * seen_inputs[None]) @ jax.lax.dynamic_slice_in_dim(self.direct[...], start, outputs, 1)
        return out + jax.lax.dynamic_slice_in_dim(self.shift[...], start, outputs, 0)[None], first

    def _flat(self, x: jax.Array) -> jax.Array:
        return x.reshape(x.shape[0], -1).astype(self.shift[...].dtype)

    def _last_hidden(self, x: jax.Array, label: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        """[B, hidden[-1]]."""
        return self._hidden(x @ _masked(self.kernels[0][...], self._of_inputs(), self._of_hidden(0)), label, dropout)

    def _hidden(self, first: jax.Array, label: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        """The last hidden layer, from the first before its bias and nonlinearity."""
        given: list[Any] = [0.0] * len(self.hidden)
        if self.layout.classes:
            ends = np.cumsum(self.hidden)[:-1].tolist()
            given = list(jnp.split(self.condition(label.astype(first.dtype)), ends, axis=-1))
        dropped = each(dropout, len(self.hidden))
        x = drop(nnx.relu(first + self.biases[0][...][None] + given[0]), dropped[0])
        for i in range(1, len(self.hidden)):
            kernel = _masked(self.kernels[i][...], self._of_hidden(i - 1), self._of_hidden(i))
            new = drop(nnx.relu(x @ kernel + self.biases[i][...][None] + given[i]), dropped[i])
            # Equal widths have equal degrees, so a unit may be given again what it saw.
            x = new + x if self.hidden[i] == self.hidden[i - 1] else new
        return x

    @property
    def _units(self) -> int:
        return self.layout.sites * self.layout.values

    def _of_inputs(self) -> np.ndarray[Any, Any]:
        """The degree of an input is the number of values up to its own: 1, 2, ..."""
        return np.repeat(np.arange(1, self._units + 1), self.layout.inputs)

    def _of_hidden(self, layer: int) -> np.ndarray[Any, Any]:
        width = self.hidden[layer]
        return 1 + np.arange(width) * max(1, self._units - 1) // width

    def _of_outputs(self) -> np.ndarray[Any, Any]:
        """An output sees what came before its value: degrees 0, 1, ..."""
        return np.repeat(np.arange(self._units), self.layout.outputs)


def _masked(kernel: jax.Array, below: np.ndarray[Any, Any], above: np.ndarray[Any, Any]) -> jax.Array:
    """A kernel [i, o] whose units connect only upwards in degree. The mask is computed, not stored: it would be as large."""
    return jnp.where(jnp.asarray(below)[:, None] <= jnp.asarray(above)[None], kernel, 0)
