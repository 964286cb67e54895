"""Which ways there are to show a trained model, and which of them a model can serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aecli.config.variants import variants_that
from aecli.core.abilities import lacking, told_lacking
from aecli.core.model import Kind, Model, Spec
from aecli.errors import UsageError, did_you_mean
from aecli.sampling import beside, draws, maps, samplers, walks
from aecli.sampling.given import Drawn, Given


class Mode(NamedTuple):
    """`n` is how many of what the mode counts are shown unless a number is asked for. `options` names the fields of a
    `SampleRequest` that the mode heeds beside `n` and `seed`. `conditional`: for conditional models. `smoke`: whether a smoke
    test tries it; one for each way of making an image is enough, and all of them would compile for minutes. `kinds`: of which
    kinds of data. `images` says how many images the picture has for each of n. `instead`: what serves other kinds."""

    abilities: tuple[str, ...]
    show: Callable[[Given], Drawn]
    help: str
    n: int = 64
    options: frozenset[str] = frozenset()
    conditional: bool = False
    smoke: bool = False
    kinds: tuple[Kind, ...] = ("image",)
    images: Callable[[Spec], int] = lambda spec: 1
    instead: str = ""

    @property
    def draws(self) -> bool:
        """Whether it shows new images, which a sampler can draw in the place of the model."""
        return "samples" in self.abilities


ANY: tuple[Kind, ...] = ("image", "vector")
TEMPERATURE = frozenset({"temperature"})


MODES: Mapping[str, Mode] = {
    "prior": Mode(("samples",), draws.prior, "draws from the model's distribution", options=TEMPERATURE, smoke=True, kinds=ANY),
    "class": Mode(
        ("samples",),
        draws.by_class,
        "draws of each class, a line a class",
        10,
        TEMPERATURE,
        conditional=True,
        images=lambda spec: max(1, spec.classes),
    ),
    "neighbours": Mode(
        ("samples",),
        draws.neighbours,
        "draws above the train images nearest to them",
        12,
        TEMPERATURE,
        images=lambda spec: 4,
    ),
    "reconstruct": Mode(
        ("reconstructs",),
        beside.reconstruct,
        "test images and what is left of them after the code",
        smoke=True,
        kinds=ANY,
        images=lambda spec: 2,
    ),
    "denoise": Mode(("reconstructs",), beside.denoise, "test images, corrupted and restored", 12, images=lambda spec: 9),
    "complete": Mode(
        ("completes",),
        beside.complete,
        "a part of test images, and what the model draws in the rest",
        24,
        TEMPERATURE | {"region"},
        smoke=True,
        images=lambda spec: 3,
    ),
    "translate": Mode(
        ("translates",),
        beside.translate,
        "what a model is given of test images, and several draws of what it may have been",
        12,
        TEMPERATURE,
        smoke=True,
        images=lambda spec: beside.DRAWS + 2,
    ),
    "interpolate": Mode(
        ("encodes", "decodes"),
        walks.interpolate,
        "the way from one test image to another",
        8,
        frozenset({"path"}),
        images=lambda spec: walks.STEPS + 2,
    ),
    "traverse": Mode(
        ("encodes", "decodes"),
        walks.traverse,
        "one latent after another set to quantiles of its values",
        10,
        images=lambda spec: walks.STEPS,
    ),
    "codes": Mode(
        ("activates", "decodes"),
        walks.codes,
        "what each sparse unit draws, and the images it is active on",
        12,
        images=lambda spec: walks.TOP + 1,
        instead="`aecli encode` gives the codes, and aecli.load(run).dictionary() what each unit adds",
    ),
    "map": Mode(
        ("encodes",),
        maps.plane,
        "codes of test images in a plane, in the colours of their classes",
        2000,
        frozenset({"projection"}),
        kinds=ANY,
    ),
}


def modes_of(model: Model, kind: Kind = "image") -> tuple[str, ...]:
    """The modes that a model of such data can serve."""
    return tuple(name for name in MODES if _missing(model, name, kind) is None)


def _missing(model: Model, name: str, kind: Kind) -> str | None:
    """What a model of such data lacks for a mode; None if it lacks nothing."""
    mode = MODES[name]
    if kind not in mode.kinds:
        return f"it is a model of {kind}s, and that shows {mode.kinds[0]}s"
    for ability in lacking(model, mode.abilities):
        return told_lacking(model, [ability])
    if mode.conditional and not model.is_conditional:
        return "it is not conditional on the label (conditional: true)"
    return None


def check_mode(model: Model, name: str, kind: Kind = "image") -> Mode:
    """Raises UsageError if the mode is unknown or the model of such data cannot serve it, naming what would work."""
    mode = _called(name)
    missing = _missing(model, name, kind)
    if missing is not None:
        can, usable, variants = modes_of(model, kind), _samplers_for(model, mode), variants_that(mode.abilities)
        raise UsageError(
            f"variant '{model.variant}' cannot do --mode {name}: {missing}",
            "; ".join(
                [mode.instead] * bool(mode.instead and kind not in mode.kinds)
                + [f"it can do --mode {', '.join(can)}"] * bool(can)
                + [f"its codes can be drawn with --sampler {' or '.join(usable)}"] * bool(usable)
                + [f"variants that can: {', '.join(variants)}"] * (model.variant not in variants)
            ),
        )
    return mode


def check_drawn(model: Model, name: str, sampler: str, spec: Spec) -> Mode:
    """Raises UsageError if mode or sampler are unknown, or the mode cannot show what the sampler draws of such a model."""
    mode = _called(name)
    samplers.check(model, sampler)
    if spec.kind not in mode.kinds:
        raise UsageError(f"--mode {name} shows {mode.kinds[0]}s, and the model is one of {spec.kind}s", "leave --mode out")
    able = _samplers_for(model, mode)
    if sampler not in able:
        raise UsageError(
            f"--sampler {sampler} knows of no classes, and the model is not conditional on the label (conditional: true)",
            f"--sampler {' or '.join(able)}" if able else "leave --mode out",
        )
    if mode.conditional and not spec.classes:
        raise UsageError("the data has no labels: there is no class to draw", "leave --mode out")
    return mode


def _called(name: str) -> Mode:
    if name not in MODES:
        raise UsageError(f"there is no mode '{name}'", did_you_mean(name, MODES) or "modes: " + ", ".join(MODES))
    return MODES[name]


def _samplers_for(model: Model, mode: Mode) -> tuple[str, ...]:
    """The samplers that can draw what a mode shows in the place of the model."""
    by_class = mode.conditional and not model.is_conditional
    return tuple(name for name in samplers.fits(model) if mode.draws and (samplers.SAMPLERS[name].by_class or not by_class))
