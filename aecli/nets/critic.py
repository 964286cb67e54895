"""The network that tells real images from made ones."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import jax
import jax.numpy as jnp
from flax import nnx

from aecli.nets.conv import Conv


class Critic(nnx.Module):
    """4x4 convolutions of stride 2 with leaky ReLU, one per entry of `hidden`, and a linear map: [B, H, W, C] in [0, 1] and
    one-hot labels [B, classes] -> logits [B]. Labels enter by a product with the features (Miyato & Koyama 2018, "cGANs with
    projection discriminator", equation 3)."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...], classes: int, *, rngs: nnx.Rngs) -> None:
        self.classes = classes
        self.convs = nnx.List([Conv(i, o, 4, 2, 1, rngs=rngs) for i, o in pairwise((shape[2], *hidden))])
        features = prod(floor_bottom(shape, len(hidden))) * hidden[-1]
        self.last = nnx.Linear(features, 1, rngs=rngs)
        if classes:
            self.project = nnx.Linear(classes, features, use_bias=False, rngs=rngs)

    def __call__(self, image: jax.Array, label: jax.Array) -> jax.Array:
        x = 2.0 * image - 1.0
        for conv in self.convs:
            x = nnx.leaky_relu(conv(x), 0.2)
        x = x.reshape(x.shape[0], -1)
        logit = self.last(x)[:, 0]
        if self.classes:
            logit += (x * self.project(label.astype(x.dtype))).sum(axis=1)
        return logit.astype(jnp.float32)


def floor_bottom(shape: tuple[int, int, int], depth: int) -> tuple[int, int]:
    """Height and width after `depth` convolutions of size 4, stride 2 and padding 1: halved, rounded down."""
    return shape[0] // 2**depth, shape[1] // 2**depth
