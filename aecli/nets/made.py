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


class MaskedMlp(nnx.Module):
    """`units` in order, each with `inputs` numbers, to `outputs` numbers for each that depend on the units before it:
    [B, units * inputs] -> [B, units, outputs]. The outputs start at 0. `direct`: inputs connect to outputs as well.

    A hidden unit of degree d sees the first d units; degrees are spread evenly, so a layer is in order too.
    """

    def __init__(
        self, units: int, inputs: int, outputs: int, hidden: tuple[int, ...], classes: int, direct: bool = True, *, rngs: nnx.Rngs
    ) -> None:
        self.units, self.inputs, self.outputs, self.hidden, self.classes = units, inputs, outputs, hidden, classes
        start = nnx.initializers.glorot_uniform()
        self.kernels = nnx.List([nnx.Param(start(rngs.params(), pair)) for pair in pairwise((units * inputs, *hidden))])
        self.biases = nnx.List([nnx.Param(jnp.zeros((width,))) for width in hidden])
        self.out = nnx.Param(jnp.zeros((hidden[-1], units * outputs)))
        self.has_direct = direct
        if direct:
            self.direct = nnx.Param(jnp.zeros((units * inputs, units * outputs)))
        self.shift = nnx.Param(jnp.zeros((units * outputs,)))
        if classes:
            self.condition = nnx.Linear(classes, sum(hidden), use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        x = x.astype(self.shift[...].dtype)
        out = self.last_hidden(x, label) @ _masked(self.out[...], self._of_hidden(-1), self._of_outputs())
        if self.has_direct:
            out += x @ _masked(self.direct[...], self._of_inputs(), self._of_outputs())
        return (out + self.shift[...][None]).reshape(-1, self.units, self.outputs)

    def last_hidden(self, x: jax.Array, label: jax.Array) -> jax.Array:
        """[B, hidden[-1]]."""
        x = x.astype(self.shift[...].dtype)
        return self._hidden(x @ _masked(self.kernels[0][...], self._of_inputs(), self._of_hidden(0)), label)

    def begin(self, n: int) -> jax.Array:
        """The cache: the first hidden layer before its nonlinearity, of the units known so far, [B, hidden[0]]."""
        return jnp.zeros((n, self.hidden[0]), self.shift[...].dtype)

    def step(self, first: jax.Array, x: jax.Array, label: jax.Array, unit: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The outputs [B, outputs] of one unit whose predecessors are in x, and the cache."""
        x = x.astype(self.shift[...].dtype)
        # What the unit before this one adds to the first layer; before the first one, nothing.
        before = jnp.maximum(unit - 1, 0) * self.inputs
        rows = jax.lax.dynamic_slice_in_dim(self.kernels[0][...], before, self.inputs, 0)
        rows = jnp.where((unit > 0) & (jnp.asarray(self._of_hidden(0)) >= unit)[None], rows, 0)
        first += jax.lax.dynamic_slice_in_dim(x, before, self.inputs, 1) @ rows
        hidden = self._hidden(first, label)
        seen_hidden = jnp.asarray(self._of_hidden(-1)) <= unit
        seen_inputs = jnp.asarray(self._of_inputs()) <= unit
        start = unit * self.outputs
        out = (hidden * seen_hidden[None]) @ jax.lax.dynamic_slice_in_dim(self.out[...], start, self.outputs, 1)
        if self.has_direct:
            out += (x * seen_inputs[None]) @ jax.lax.dynamic_slice_in_dim(self.direct[...], start, self.outputs, 1)
        out += jax.lax.dynamic_slice_in_dim(self.shift[...], start, self.outputs, 0)[None]
        return out, first

    def _hidden(self, first: jax.Array, label: jax.Array) -> jax.Array:
        """The last hidden layer, from the first before its bias and nonlinearity."""
        given: list[Any] = [0.0] * len(self.hidden)
        if self.classes:
            ends = np.cumsum(self.hidden)[:-1].tolist()
            given = list(jnp.split(self.condition(label.astype(first.dtype)), ends, axis=-1))
        x = nnx.relu(first + self.biases[0][...][None] + given[0])
        for i in range(1, len(self.hidden)):
            kernel = _masked(self.kernels[i][...], self._of_hidden(i - 1), self._of_hidden(i))
            new = nnx.relu(x @ kernel + self.biases[i][...][None] + given[i])
            # Equal widths have equal degrees, so a unit may be given again what it saw.
            x = new + x if self.hidden[i] == self.hidden[i - 1] else new
        return x

    def _of_inputs(self) -> np.ndarray[Any, Any]:
        """The degree of an input is the number of units up to its own: 1, 2, ..."""
        return np.repeat(np.arange(1, self.units + 1), self.inputs)

    def _of_hidden(self, layer: int) -> np.ndarray[Any, Any]:
        width = self.hidden[layer]
        return 1 + np.arange(width) * max(1, self.units - 1) // width

    def _of_outputs(self) -> np.ndarray[Any, Any]:
        """An output sees what came before its unit: degrees 0, 1, ..."""
        return np.repeat(np.arange(self.units), self.outputs)


class Made(nnx.Module):
    """A masked network that gives the parameters of every value themselves."""

    def __init__(self, layout: Layout, hidden: tuple[int, ...], *, rngs: nnx.Rngs) -> None:
        self.layout = layout
        units = layout.sites * layout.values
        self.mlp = MaskedMlp(units, layout.inputs, layout.outputs, hidden, layout.classes, rngs=rngs)

    def __call__(self, x: jax.Array, label: jax.Array) -> jax.Array:
        layout = self.layout
        out = self.mlp(x.reshape(len(x), -1), label)
        return out.reshape(-1, layout.rows, layout.columns, layout.values, layout.outputs)

    def features(self, x: jax.Array, label: jax.Array) -> jax.Array:
        """The last hidden layer, as a single site: [B, 1, 1, F]."""
        return self.mlp.last_hidden(x.reshape(len(x), -1), label)[:, None, None]

    def begin(self, label: jax.Array) -> jax.Array:
        return self.mlp.begin(len(label))

    def step(self, cache: jax.Array, x: jax.Array, label: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self.mlp.step(cache, x.reshape(len(x), -1), label, position)


def _masked(kernel: jax.Array, below: np.ndarray[Any, Any], above: np.ndarray[Any, Any]) -> jax.Array:
    """A kernel [i, o] whose units connect only upwards in degree. The mask is computed, not stored: it would be as large."""
    return jnp.where(jnp.asarray(below)[:, None] <= jnp.asarray(above)[None], kernel, 0)
