"""Convolutions, transposed convolutions, and the encoder and decoder made of them.

XLA's convolutions are right on a GPU or TPU; on a CPU they are up to six times slower than PyTorch's, worst of all transposed
ones, gradients, and any of them inside a loop. There the same sums are written as one matrix product: a convolution as a
product of shifted slices, a transposed one as a product whose patches are added where they overlap. The parameters are the
same on every backend, and the numbers agree to float tolerance.
"""

from __future__ import annotations

import itertools
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.rows import multiply_rows
from aecli.nets.windows import convolve_windows


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: int, *, as_matmul: bool | None = None) -> jax.Array:
    """Cross-correlation. x [B, H, W, C], kernel [k, m, C, O] -> [B, (H + 2 padding - k) // stride + 1, ..., O].
    `as_matmul` None chooses by backend."""
    if not (_on_cpu() if as_matmul is None else as_matmul):
        pad = [(padding, padding)] * 2
        return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    k, m, channels, out = kernel.shape
    if padding:
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    batch, height, width, _ = x.shape
    rows, cols = (height - k) // stride + 1, (width - m) // stride + 1
    slices = [
        x[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (cols - 1) + 1 : stride]
        for i in range(k)
        for j in range(m)
    ]
    patches = jnp.concatenate(slices, axis=-1)
    y = multiply_rows(patches.reshape(-1, k * m * channels), kernel.reshape(-1, out))
    return y.reshape(batch, rows, cols, out)


def convolve_transposed(
    x: jax.Array, kernel: jax.Array, stride: int, padding: int, *, as_matmul: bool | None = None
) -> jax.Array:
    """The adjoint of `convolve` in x (PyTorch's ConvTranspose2d): y[stride i + a - padding] += x[i] kernel[a].
    x [B, H, W, C], kernel [k, k, C, O] -> [B, (H - 1) stride + k - 2 padding, ..., O]. `as_matmul` None chooses by backend."""
    k, _, channels, out = kernel.shape
    if not (_on_cpu() if as_matmul is None else as_matmul):
        pad = [(k - 1 - padding, k - 1 - padding)] * 2
        return jax.lax.conv_general_dilated(
            x, kernel[::-1, ::-1], (1, 1), pad, lhs_dilation=(stride, stride), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    # Of each block of outputs the windows touch 4 (C + O) numbers, the patches C + k^2 O.
    if k == 2 * stride and padding < stride and 4 * (channels + out) < channels + k * k * out:
        return convolve_windows(x, kernel, stride, padding)
    batch, height, width, _ = x.shape
    weights = kernel.transpose(2, 0, 1, 3).reshape(channels, k * k * out)
    patches = multiply_rows(x.reshape(-1, channels), weights).reshape(batch, height, width, k, k * out)
    y = _overlap_add(patches, 1, stride, padding)  # [B, rows, W, k * O]
    y = y.reshape(batch, y.shape[1], width, k, out)
    return _overlap_add(y, 2, stride, padding)


def _overlap_add(patches: jax.Array, axis: int, stride: int, padding: int) -> jax.Array:
    """Adds patches of k = shape[3] entries, placed `stride` apart along `axis`, and cuts `padding` from both ends:
    [B, ., ., k, O] -> [B, ., ., O]."""
    n, k = patches.shape[axis], patches.shape[3]
    groups = -(-k // stride)
    patches = jnp.pad(patches, [(0, 0)] * 3 + [(0, groups * stride - k), (0, 0)])
    total = None
    for g in range(groups):  # the g-th stride-long piece of patch i lands in block i + g
        widths = [(0, 0)] * 5
        widths[axis] = (g, groups - 1 - g)
        piece = jnp.pad(patches[:, :, :, g * stride : (g + 1) * stride], widths)
        total = piece if total is None else total + piece
    assert total is not None
    blocks = jnp.moveaxis(total, 3, axis + 1)
    shape = list(blocks.shape)
    shape[axis : axis + 2] = [shape[axis] * stride]
    flat = blocks.reshape(shape)
    return jax.lax.slice_in_dim(flat, padding, (n - 1) * stride + k - padding, axis=axis)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


class Conv(nnx.Module):
    """A convolution with bias."""

    def __init__(self, channels: int, out: int, size: int, stride: int, padding: int, *, rngs: nnx.Rngs) -> None:
        self.stride, self.padding = stride, padding
        self.kernel = nnx.Param(nnx.initializers.lecun_normal()(rngs.params(), (size, size, channels, out)))
        self.bias = nnx.Param(jnp.zeros((1, 1, 1, out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...]
        return convolve(x.astype(kernel.dtype), kernel, self.stride, self.padding) + self.bias[...]


class ConvTranspose(nnx.Module):
    """A transposed convolution with bias."""

    def __init__(self, channels: int, out: int, size: int, stride: int, padding: int, *, rngs: nnx.Rngs) -> None:
        self.stride, self.padding = stride, padding
        # Each output sums over (size / stride)^2 entries of the kernel, not size^2.
        scale = nnx.initializers.variance_scaling(float(stride * stride), "fan_in", "truncated_normal")
        self.kernel = nnx.Param(scale(rngs.params(), (size, size, channels, out)))
        self.bias = nnx.Param(jnp.zeros((1, 1, 1, out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...]
        return convolve_transposed(x.astype(kernel.dtype), kernel, self.stride, self.padding) + self.bias[...]


class ConvEncoder(nnx.Module):
    """3x3 convolutions of stride 2 with ReLU, one per entry of `hidden`, then an affine map: [B, H, W, C] -> [B, out]."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...], out: int, *, rngs: nnx.Rngs) -> None:
        widths = (shape[2], *hidden)
        self.convs = nnx.List([Conv(i, o, 3, 2, 1, rngs=rngs) for i, o in zip(widths, hidden, strict=False)])
        self.out = nnx.Linear(prod(bottom(shape, len(hidden))) * hidden[-1], out, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        x = image
        for conv in self.convs:
            x = nnx.relu(conv(x))
        return self.out(x.reshape(x.shape[0], -1))


class ConvDecoder(nnx.Module):
    """The mirror of `ConvEncoder`: an affine map, then ReLU and a 4x4 transposed convolution of stride 2 per entry of
    `hidden`, cropped at the centre: [B, latent] -> [B, H, W, C]."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...], latent: int, *, rngs: nnx.Rngs) -> None:
        self.shape = shape
        self.bottom = (*bottom(shape, len(hidden)), hidden[-1])
        self.input = nnx.Linear(latent, prod(self.bottom), rngs=rngs)
        widths = (*reversed(hidden), shape[2])
        self.convs = nnx.List([ConvTranspose(i, o, 4, 2, 1, rngs=rngs) for i, o in itertools.pairwise(widths)])

    def __call__(self, code: jax.Array) -> jax.Array:
        x = self.input(code.astype(self.input.kernel[...].dtype)).reshape(-1, *self.bottom)
        for conv in self.convs:
            x = conv(nnx.relu(x))
        return crop(x, self.shape)


def crop(x: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """The centre of [B, H, W, C], as large as `shape`."""
    height, width, _ = shape
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def bottom(shape: tuple[int, int, int], depth: int) -> tuple[int, int]:
    """Height and width after `depth` halvings, each rounded up."""
    return -(-shape[0] // 2**depth), -(-shape[1] // 2**depth)
