"""What a mode is given, and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from math import ceil, sqrt
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from aecli.core import jitted
from aecli.core.keys import Stream, stream
from aecli.core.model import Batch
from aecli.data.dataset import Dataset
from aecli.data.eval_batches import batches, eval_batch
from aecli.data.rows import Rows, choose
from aecli.runs.trained import Trained
from aecli.sampling import pictures
from aecli.sampling.request import DEFAULT, SampleRequest
from aecli.sampling.samplers import Fitted

COLUMNS = 12
"""Images in a line at most."""


class Drawn(NamedTuple):
    """`arrays` go into the npz as they are; images among them are uint8, rounded."""

    picture: Image.Image
    arrays: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Given:
    """What a mode is given: a trained model, and how many images, pairs, latents or units it is to show. `open_data` is called if
    the mode needs images. New images are the model's own draws, or those of the codes that were `fitted`."""

    trained: Trained
    open_data: Callable[[], Dataset]
    n: int
    request: SampleRequest = DEFAULT
    fitted: Fitted | None = None

    @property
    def seed(self) -> int:
        return self.request.seed

    @property
    def temperature(self) -> float:
        return self.request.temperature

    @property
    def model(self) -> Any:
        return self.trained.model

    @property
    def state(self) -> Any:
        return self.trained.state

    @property
    def key(self) -> jax.Array:
        return stream(jax.random.key(self.seed), Stream.SAMPLE)

    @cached_property
    def dataset(self) -> Dataset:
        return self.open_data()

    @property
    def classes(self) -> tuple[int, ...]:
        """The numbers of the classes that a conditional model was trained on, or fitted codes are told apart by; none if there
        are none."""
        if self.model.is_conditional:
            return self.trained.classes
        return () if self.fitted is None else self.fitted.classes

    @property
    def class_names(self) -> list[str]:
        """What all classes of the data are called in pictures and arrays, as in `run.json`; their numbers if the run keeps no
        names. Empty if nothing is drawn by class."""
        n = self.trained.spec.classes
        return list((self.trained.class_names or tuple(map(str, range(n))))[:n]) if self.classes else []

    def kept(self, images: Any) -> Any:
        """What a picture and an npz hold of images as the model makes them: uint8 [n, H, W, C], of vectors float32 [n, d] in the
        units of the data."""
        spec, scaling = self.trained.spec, self.trained.scaling
        if spec.kind == "image":
            return pictures.to_uint8(images)
        vectors = np.asarray(images, np.float32)
        return (vectors if scaling is None else scaling.undo(vectors)).reshape(-1, spec.width)

    def some(self, n: int | None = None) -> Iterator[tuple[Batch, jax.Array, int]]:
        """Batches of n test images chosen by the seed: the batch, its key, and how many of it are real. For few images
        the batch is no larger than it need be: an autoregressive model would complete the padding, too, value by value."""
        rows = choose(self.dataset.test, n or self.n, self.seed)
        whole = -(-len(rows) // self.trained.place.devices) * self.trained.place.devices
        return self.batches(rows, min(whole, eval_batch(self.trained.spec.size)))

    def batches(self, rows: Rows, size: int | None = None) -> Iterator[tuple[Batch, jax.Array, int]]:
        trained = self.trained
        for batch, key, real in batches(
            rows, trained.experiment.data.binarize, jax.random.key(self.seed), trained.place, size=size
        ):
            yield jitted.give(self.model, batch, key), key, real


def in_lines(drawn: Any, columns: int | None = None, heads: Sequence[str] | None = None) -> Image.Image:
    """Images, uint8 [n, H, W, C], as a grid without gaps where n has a fitting divisor, a square one otherwise; `heads` above the
    columns. Vectors [n, d] one a line."""
    if drawn.ndim == 2:
        return pictures.strips([drawn])
    n = len(drawn)
    if columns is None:
        side = ceil(sqrt(n))
        columns = next((columns for columns in range(side, 2 * side) if n % columns == 0), side)
    return pictures.grid([drawn[i : i + columns] for i in range(0, n, columns)], heads=heads)


def above_each_other(names: Sequence[str], arrays: Sequence[Any]) -> Drawn:
    """Images of each name, uint8 [n, H, W, C] each, in lines of at most 12; or vectors [n, d] each, one a line."""
    found = dict(zip(names, arrays, strict=True))
    if arrays[0].ndim == 2:
        return Drawn(pictures.strips(arrays, names), found)
    lines: list[Any] = []
    columns = min(len(arrays[0]), COLUMNS)
    for i in range(0, len(arrays[0]), columns):
        lines += [array[i : i + columns] for array in arrays]
    picture = pictures.grid(lines, list(names) * (len(lines) // len(names)))
    return Drawn(picture, found)
