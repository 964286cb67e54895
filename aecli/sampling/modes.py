"""Which ways there are to show a trained model, and which of them a model can serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aecli.config.variants import variants_that
from aecli.core.abilities import abilities
from aecli.core.model import Model
from aecli.errors import UsageError, did_you_mean
from aecli.sampling import beside, draws, samplers, walks
from aecli.sampling.request import Ask, Shown


class Mode(NamedTuple):
    """`n` is how many of what the mode counts are shown where nothing is asked for. `conditional`: for conditional models."""

    abilities: tuple[str, ...]
    show: Callable[[Ask], Shown]
    help: str
    n: int = 64
    conditional: bool = False


MODES: Mapping[str, Mode] = {
    "prior": Mode(("samples",), draws.prior, "draws from the model's distribution"),
    "class": Mode(("samples",), draws.by_class, "draws of each class, a line a class", 10, conditional=True),
    "neighbours": Mode(("samples",), draws.neighbours, "draws above the train images nearest to them", 12),
    "reconstruct": Mode(("reconstructs",), beside.reconstruct, "test images and what is left of them after the code"),
    "denoise": Mode(("reconstructs",), beside.denoise, "test images, corrupted and restored", 12),
    "complete": Mode(("completes",), beside.complete, "a part of test images, and what the model draws in the rest", 24),
    "interpolate": Mode(("encodes", "decodes"), walks.interpolate, "the way from one test image to another", 8),
    "traverse": Mode(("encodes", "decodes"), walks.traverse, "one latent after another set to quantiles of its values", 10),
    "codes": Mode(("activates", "decodes"), walks.codes, "what each sparse unit draws, and the images it is active on", 12),
}


def modes_of(model: Model) -> tuple[str, ...]:
    """The modes that a model can serve."""
    return tuple(name for name in MODES if _missing(model, name) is None)


def _missing(model: Model, name: str) -> str | None:
    """What a model lacks for a mode."""
    mode, able = MODES[name], abilities(model)
    for ability in mode.abilities:
        if ability not in able:
            return f"it has not the ability '{ability}'"
    if mode.conditional and not getattr(model, "conditional", False):
        return "it is not conditional on the label (conditional: true)"
    return None


def check_mode(model: Model, name: str) -> Mode:
    """Raises UsageError for a mode that there is not, or that the model cannot serve, naming what would work."""
    if name not in MODES:
        raise UsageError(f"there is no mode '{name}'", did_you_mean(name, MODES) or "modes: " + ", ".join(MODES))
    mode, missing = MODES[name], _missing(model, name)
    if missing is not None:
        can, latent = modes_of(model), samplers.fits(model)
        variants = set.intersection(*(set(variants_that(ability)) for ability in mode.abilities))
        raise UsageError(
            f"variant '{model.variant}' cannot do --mode {name}: {missing}",
            "; ".join(
                [f"it can do --mode {', '.join(can)}"] * bool(can)
                + [f"its codes can be drawn with --sampler {' or '.join(latent)}"] * (name == "prior" and bool(latent))
                + [f"variants that can: {', '.join(sorted(variants))}"] * (model.variant not in variants)
            ),
        )
    return mode
