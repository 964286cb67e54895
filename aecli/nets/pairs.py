"""Encoder and decoder by name: what `net` means in the blocks of the models that have both."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from aecli.nets.conv import ConvDecoder, ConvEncoder
from aecli.nets.mlp import GatedDecoder, GatedEncoder, MlpDecoder, MlpEncoder
from aecli.nets.residual import ResidualDecoder, ResidualEncoder

Net = Literal["linear", "mlp", "gated", "conv", "resnet"]


class Pair(NamedTuple):
    """`encoder(shape, hidden, out, rngs=)` maps [B, H, W, C] -> [B, out], `decoder(shape, hidden, latent, rngs=)` maps
    [B, latent] -> [B, H, W, C]. `hidden` is what a config that gives none gets."""

    encoder: Any
    decoder: Any
    hidden: tuple[int, ...]


PAIRS: dict[Net, Pair] = {
    "linear": Pair(MlpEncoder, MlpDecoder, ()),
    "mlp": Pair(MlpEncoder, MlpDecoder, (400,)),
    "gated": Pair(GatedEncoder, GatedDecoder, (300, 300)),
    "conv": Pair(ConvEncoder, ConvDecoder, (32, 64, 128, 128)),
    "resnet": Pair(ResidualEncoder, ResidualDecoder, (32, 64)),
}


def resolve_hidden(net: Net, hidden: tuple[int, ...] | None) -> tuple[int, ...]:
    """The widths that a block's `hidden` stands for. Raises ValueError where they contradict `net`."""
    if hidden is None:
        return PAIRS[net].hidden
    if net == "linear" and hidden:
        raise ValueError("net: linear has no hidden layers: leave hidden out, or set net: mlp")
    if net != "linear" and not hidden:
        raise ValueError(f"net: {net} needs at least one hidden layer, such as {list(PAIRS[net].hidden)}")
    return hidden
