"""A transposed convolution whose kernel is twice its stride, as products of matrices.

Along an axis the outputs fall into blocks of `stride`: one block between each input and the next, one before the first and one
after the last. A block depends on the two inputs beside it and on nothing else, so that the whole is one product of windows of
2 x 2 inputs with a matrix of 2 x 2 x C rows and stride x stride x O columns, and no sum over places where patches overlap. The
blocks at the border see one input, and part of each is cut off: they are products of their own, without the zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp

from aecli.nets.rows import kernel_gradient


class Segment(NamedTuple):
    """Neighbouring blocks along an axis that see the same of their two `inputs` and keep the same of their `outputs`."""

    first: int
    blocks: int
    inputs: range
    outputs: range


def segments(size: int, stride: int, padding: int) -> list[Segment]:
    """The windows over `size` inputs. `padding` outputs are cut off at both ends, fewer than `stride`."""
    inner = [Segment(1, size - 1, range(2), range(stride))] if size > 1 else []
    before = Segment(0, 1, range(1, 2), range(padding, stride))
    return [before, *inner, Segment(size, 1, range(1), range(stride - padding))]


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_windows(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """`convolve_transposed` for a kernel of 2 `stride` and a `padding` less than `stride`.
    x [B, H, W, C], kernel [2 stride, 2 stride, C, O] -> [B, (H + 1) stride - 2 padding, (W + 1) stride - 2 padding, O].

    The gradient is written out: the one that JAX derives adds up arrays padded with zeros, which takes longer than the products.
    """
    return _forward(x, kernel, stride, padding)[0]


def _forward(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> tuple[jax.Array, tuple[list[jax.Array], jax.Array]]:
    batch, height, width, _ = x.shape
    out, taps = kernel.shape[-1], _taps(kernel, stride)
    windows: list[jax.Array] = []
    bands: list[jax.Array] = []
    for rows in segments(height, stride, padding):
        band: list[jax.Array] = []
        for columns in segments(width, stride, padding):
            seen = [x[:, _shift(rows, i), _shift(columns, j)] for i in rows.inputs for j in columns.inputs]
            window = jnp.concatenate(seen, axis=-1).reshape(batch * rows.blocks * columns.blocks, -1)
            windows.append(window)
            blocks = window @ _matrix(taps, rows, columns)
            blocks = blocks.reshape(batch, rows.blocks, columns.blocks, len(rows.outputs), len(columns.outputs), out)
            band.append(blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows.blocks * len(rows.outputs), -1, out))
        bands.append(jnp.concatenate(band, axis=2))
    return jnp.concatenate(bands, axis=1), (windows, kernel)


def _backward(stride: int, padding: int, kept: tuple[list[jax.Array], jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    windows, kernel = kept
    channels, out = kernel.shape[2:]
    batch, taps = dy.shape[0], _taps(kernel, stride)
    height, width = ((n + 2 * padding) // stride - 1 for n in dy.shape[1:3])
    of_taps: dict[tuple[int, ...], jax.Array] = {}
    of_inputs: dict[tuple[int, int], list[list[jax.Array]]] = {}
    pieces = iter(windows)
    top = 0
    for rows in segments(height, stride, padding):
        left, tall = 0, rows.blocks * len(rows.outputs)
        bands: dict[tuple[int, int], list[jax.Array]] = {}
        for columns in segments(width, stride, padding):
            window = next(pieces)
            wide = columns.blocks * len(columns.outputs)
            blocks = dy[:, top : top + tall, left : left + wide]
            blocks = blocks.reshape(batch, rows.blocks, len(rows.outputs), columns.blocks, len(columns.outputs), out)
            blocks = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(window.shape[0], -1)
            left += wide
            shape = (len(rows.inputs), len(columns.inputs), channels, len(rows.outputs), len(columns.outputs), out)
            gradient = kernel_gradient(window, blocks).reshape(shape)
            for i, j, u, v in product(rows.inputs, columns.inputs, rows.outputs, columns.outputs):
                at = (i - rows.inputs[0], j - columns.inputs[0], slice(None), u - rows.outputs[0], v - columns.outputs[0])
                of_taps[i, u, j, v] = of_taps.get((i, u, j, v), 0) + gradient[at]
            seen = (blocks @ _matrix(taps, rows, columns).T).reshape(batch, rows.blocks, columns.blocks, *shape[:3])
            for i, j in product(rows.inputs, columns.inputs):
                bands.setdefault((i, j), []).append(seen[:, :, :, i - rows.inputs[0], j - columns.inputs[0]])
        top += tall
        for place, band in bands.items():
            of_inputs.setdefault(place, []).append(band)
    # Every input is the first of one block's two and the second of another's.
    dx = sum((_joined(bands) for bands in of_inputs.values()), start=jnp.zeros((), dy.dtype))
    unused = jnp.zeros((channels, out), dy.dtype)  # by a single input, whose outputs are cut off
    ordered = [of_taps.get(tap, unused) for tap in product(range(2), range(stride), range(2), range(stride))]
    return dx, _kernel(jnp.stack(ordered).reshape(2, stride, 2, stride, channels, out), stride)


convolve_windows.defvjp(_forward, _backward)


def _shift(segment: Segment, i: int) -> slice:
    """The inputs that the blocks see as their i-th."""
    return slice(segment.first - 1 + i, segment.first - 1 + i + segment.blocks)


def _taps(kernel: jax.Array, stride: int) -> jax.Array:
    """[2 stride, 2 stride, C, O] -> [input, output, input, output, C, O], the weight of each input of a block for each output."""
    return kernel.reshape(2, stride, 2, stride, *kernel.shape[2:])[::-1, :, ::-1]


def _kernel(taps: jax.Array, stride: int) -> jax.Array:
    """The inverse of `_taps`."""
    return taps[::-1, :, ::-1].reshape(2 * stride, 2 * stride, *taps.shape[4:])


def _matrix(taps: jax.Array, rows: Segment, columns: Segment) -> jax.Array:
    """What a window is multiplied with: [inputs x inputs x C, outputs x outputs x O]."""
    kept = taps[_range(rows.inputs), _range(rows.outputs), _range(columns.inputs), _range(columns.outputs)]
    kept = kept.transpose(0, 2, 4, 1, 3, 5)
    return kept.reshape(kept.shape[0] * kept.shape[1] * kept.shape[2], -1)


def _range(numbers: range) -> slice:
    return slice(numbers.start, numbers.stop)


def _joined(bands: Iterable[Iterable[jax.Array]]) -> jax.Array:
    """Pieces of [B, h, w, C], in the order of rows and columns, as one."""
    return jnp.concatenate([jnp.concatenate(list(band), axis=2) for band in bands], axis=1)
