"""What an evaluation is asked for. Imports no jax, so that the command line can tell the defaults before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aecli.errors import UsageError

EVALUATOR_NAMES = (
    "objective",
    "reconstruction",
    "likelihood",
    "completion",
    "sparsity",
    "pursuit",
    "codebook",
    "representation",
    "clustering",
    "denoising",
    "classification",
    "translation",
    "generation",
    "augmentation",
)
"""All that the registry has, in its order."""
HELD_OUT = ("test", "validation")
MOST = 100_000
"""Importance samples of an image, draws, and images of a class."""
OF_SAMPLES = ("likelihood", "classification")
"""Evaluators that take importance samples: who says how many wants them, whatever they cost."""
PER_CLASS = ("augmentation",)
"""Those that take so many images of each class, likewise."""
_OTHER = re.compile(r"\A(test|validation)-(against-)?[0-9a-f]{12}\Z")
"""What the numbers on a split of other data than the run's, or against it, are kept as, by its fingerprint."""
_DRAWN = re.compile(r"\A(?:test|validation)-by-([a-z]+)([0-9]*)\Z")
"""What numbers of draws are kept as, by the sampler and how many components it has."""


class EvalRequest(NamedTuple):
    """`split` is what is measured. `only` and `skip` name evaluators; without `only`, all that fit and cost little, those of
    `also` whatever they cost, or `everything` that fits. `samples`: importance samples per image; the published protocols take
    5,000. `draws`: images to draw, at most as many as the split has. `per_class`: draws, and train images, of each class that
    classifiers are trained on. `inception`: the file of weights by whose features published Frechet distances are measured.
    `sampler`: the name of a distribution that is fitted to codes, with so many `components`, through which images are drawn;
    draws alone are measured then."""

    split: str = "test"
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    samples: int = 500
    draws: int = 10_000
    per_class: int = 100
    inception: Path | None = None
    everything: bool = False
    also: Sequence[str] = ()
    sampler: str | None = None
    components: int | None = None

    def with_numbers(self, samples: int | None = None, per_class: int | None = None) -> EvalRequest:
        """The same with the numbers that are given; who gives one wants the evaluators that take it, whatever they cost."""
        request = self
        if samples is not None:
            request = request._replace(samples=samples, also=(*request.also, *OF_SAMPLES))
        if per_class is not None:
            request = request._replace(per_class=per_class, also=(*request.also, *PER_CLASS))
        return request

    def asks_for(self, evaluator: str) -> bool:
        """Whether an evaluator is to run whatever it costs."""
        return self.everything or evaluator in (*self.only, *self.also)

    def check(self) -> None:
        """Raises UsageError if the split is unknown, a number cannot be, or all evaluators and some alone are asked for."""
        if self.split not in HELD_OUT:
            raise UsageError(f"--split {self.split}: there are {' and '.join(HELD_OUT)}")
        numbers: dict[str, Any] = {"importance-samples": self.samples, "draws": self.draws, "per-class": self.per_class}
        for name, number in numbers.items():
            if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST:
                raise UsageError(f"--{name} {number!r}: a whole number from 1 to {MOST:,}")
        if self.components is not None and self.sampler is None:
            raise UsageError("--components is for --sampler")
        if self.everything and self.only:
            raise UsageError("--all and --only do not go together", "--only alone runs what it names, whatever it costs")


def check_measured(split: str) -> None:
    """Raises UsageError if no numbers are kept under such a name: a held-out split, one of or against other data, or one of draws
    by a sampler."""
    if split not in HELD_OUT and not _OTHER.match(split) and not _DRAWN.match(split):
        raise UsageError(f"there are no numbers of a split {split!r}", f"{' and '.join(HELD_OUT)}; see eval/ in the run's folder")


def is_against(name: str) -> bool:
    """Whether what is kept as `name` says how well anomalies are told."""
    return "-against-" in name


def options_of(name: str) -> list[str]:
    """The options by which `aecli eval` measures what is kept as `name`; which config other data is of is not known."""
    split, _, other = name.partition("-")
    words = ["--split", split] if split != EvalRequest().split else []
    if (drawn := _DRAWN.match(name)) is not None:
        sampler, components = drawn.groups()
        return [*words, "--sampler", sampler, *(["--components", components] if components else [])]
    return words + (["--against" if is_against(name) else "--data", "OTHER.yaml"] if other else [])
