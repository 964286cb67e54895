"""Encoder and decoder by name: what `net` means in the blocks of the models that have both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import BeforeValidator, PositiveInt, ValidationInfo

from aecli.nets.conv import ConvDecoder, ConvEncoder
from aecli.nets.mlp import GatedDecoder, GatedEncoder, MlpDecoder, MlpEncoder
from aecli.nets.residual import ResidualDecoder, ResidualEncoder

Net = Literal["linear", "mlp", "gated", "conv", "resnet"]


class Pair(NamedTuple):
    """`encoder(shape, hidden, out, rngs=)` maps [B, H, W, C] -> [B, out], `decoder(shape, hidden, latent, rngs=)` maps
    [B, latent] -> [B, H, W, C]. `hidden` is what a config that gives none gets. `of_pictures`: whether they suppose that
    neighbours in height and width belong together."""

    encoder: Any
    decoder: Any
    hidden: tuple[int, ...]
    of_pictures: bool = False


PAIRS: dict[Net, Pair] = {
    "linear": Pair(MlpEncoder, MlpDecoder, ()),
    "mlp": Pair(MlpEncoder, MlpDecoder, (400,)),
    "gated": Pair(GatedEncoder, GatedDecoder, (300, 300)),
    "conv": Pair(ConvEncoder, ConvDecoder, (32, 64, 128, 128), of_pictures=True),
    "resnet": Pair(ResidualEncoder, ResidualDecoder, (32, 64), of_pictures=True),
}


FOR_VECTORS = "one of " + ", ".join(name for name, pair in PAIRS.items() if not pair.of_pictures)
"""The nets that suppose nothing of neighbours."""

HIDDEN: Mapping[str, tuple[int, ...]] = {**{net: pair.hidden for net, pair in PAIRS.items()}, "unet": (32, 64)}
"""The widths of a net whose config gives none."""


def hidden_of_net(given: Mapping[str, Any]) -> tuple[int, ...]:
    """The widths that a block without `hidden` gets, by its `net`; none if that is not valid itself."""
    return HIDDEN.get(given.get("net", ""), ())


def _if_left_out(value: Any, info: ValidationInfo) -> Any:
    return hidden_of_net(info.data) if value is None else value


_Widths: TypeAlias = tuple[PositiveInt, ...]
Hidden: TypeAlias = Annotated[_Widths, BeforeValidator(_if_left_out, json_schema_input_type=_Widths | None)]
"""The `hidden` of a block that has a `net` before it, with `default_factory=hidden_of_net`. Left out or null, it becomes the
widths of that net, so that what is trained stands in the resolved config."""


def check_hidden(net: Net, hidden: tuple[int, ...]) -> None:
    """Raises ValueError if the widths contradict `net`."""
    if net == "linear" and hidden:
        raise ValueError("net: linear has no hidden layers: leave hidden out, or set net: mlp")
    if net != "linear" and not hidden:
        raise ValueError(f"net: {net} needs at least one hidden layer, such as {list(PAIRS[net].hidden)}")
