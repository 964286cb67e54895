"""What drawing from a run is asked for. Imports no jax, so that the command line can tell the defaults before anything is
loaded."""

from __future__ import annotations

from typing import NamedTuple

MODE_NAMES = (
    "prior",
    "class",
    "neighbours",
    "reconstruct",
    "denoise",
    "complete",
    "translate",
    "interpolate",
    "traverse",
    "codes",
    "map",
)
"""All that `modes.py` has, in its order."""


class SampleRequest(NamedTuple):
    """`mode` names how a model is shown, and `sampler` the distribution fitted to its codes, of so many `components`, that new
    images are drawn from in the place of the model. `n`: how many of what the mode counts, by default as many as it says.
    `temperature` scales the spread of draws. `region` is what is known of an image that is completed, `path` how codes are
    joined, `projection` how they are laid out in a plane."""

    mode: str = "prior"
    sampler: str | None = None
    components: int | None = None
    n: int | None = None
    seed: int = 0
    temperature: float = 1.0
    region: str = "upper"
    path: str = "linear"
    projection: str = "pca"


DEFAULT = SampleRequest()
