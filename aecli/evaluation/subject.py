"""What an evaluator is given: a trained model and the images that it is held against."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import jax
import numpy as np

from aecli.config.schema import Binarize
from aecli.core import jitted
from aecli.core.abilities import features_of
from aecli.core.keys import Stream, stream
from aecli.core.model import Batch, Spec
from aecli.data.dataset import Dataset
from aecli.data.eval_batches import batches
from aecli.data.rows import Rows, choose
from aecli.evaluation.journal import Journal
from aecli.evaluation.judges.inception import Inception
from aecli.evaluation.request import EvalRequest
from aecli.measures.baselines import linear
from aecli.measures.metric import BLOCKS, VERSION
from aecli.system.arrays import kept_arrays
from aecli.system.folders import cache_root
from aecli.system.placement import Placement


def at(pieces: Iterable[Any], index: Any) -> Any:
    """The rows at `index`, rising numbers [n], of arrays that come in pieces [m, d]: [n, d]."""
    found, done = list[Any](), 0
    for piece in pieces:
        first, last = np.searchsorted(index, (done, done + len(piece)))
        found.append(piece[index[first:last] - done])
        done += len(piece)
    return np.concatenate(found)


def _nothing(*_: Any) -> None:
    return None


@dataclasses.dataclass(frozen=True)
class Subject:
    """`request` says what is measured. `against`: the same model with the anomalies that it is to tell from the images of the
    split, which are the split of the same name there; what is measured then is how well it does. `inception`: the network whose
    features draws are compared by too, if its weights were given. `baselines`: whether plain methods are fitted too, which in the
    middle of a training would take too long. `poll()` is called before each batch and may raise; `begin(part)` says that a part
    of an evaluation begins, `tell(done, total)` how far it is."""

    model: Any
    state: Any
    dataset: Dataset
    request: EvalRequest
    binarize: Binarize
    seed: int
    place: Placement
    draws_alone: bool = False
    against: Subject | None = None
    inception: Inception | None = None
    baselines: bool = True
    journal: Journal = dataclasses.field(default_factory=Journal)
    poll: Callable[[], None] = _nothing
    begin: Callable[[str], None] = _nothing
    tell: Callable[[int, int], None] = _nothing

    @property
    def split(self) -> str:
        """The split that is measured."""
        return self.request.split

    @property
    def spec(self) -> Spec:
        return self.dataset.spec

    @property
    def rows(self) -> Rows:
        return self.dataset.split(self.split)

    @property
    def blocks(self) -> Any:
        """Which block each image of the split is of, [n], where images of one are not independent; None where all are."""
        return self.dataset.blocks.get(self.split)

    @property
    def kept_blocks(self) -> dict[str, Any]:
        """The same as it stands beside values of each image."""
        return {} if self.blocks is None else {BLOCKS: self.blocks}

    @property
    def root(self) -> jax.Array:
        return jax.random.key(self.seed)

    def batches(self, split: str | None = None) -> Iterator[tuple[Batch, jax.Array, int]]:
        """Every image of a split once: the batch, its key, and how many of its images are real. Train images of a binarized data
        set are drawn once, with keys of their own."""
        split = split or self.split
        rows = self.dataset.split(split)
        root, binarize = self.root, self.binarize
        if split == "train":
            # Not by the run's seed: what is fitted to them is shared by runs.
            root, binarize = stream(jax.random.key(0), Stream.FIT), "none" if binarize == "none" else "dynamic"
        done = 0
        for batch, key, real in batches(rows, binarize, root, self.place, self.poll):
            self.tell(done, len(rows))
            yield jitted.give(self.model, batch, key), key, real
            done += real
        self.tell(len(rows), len(rows))

    def few(self, n: int) -> tuple[Batch, jax.Array, int]:
        """At most so many images of the split as one batch, its key, and how many are real: the same images whatever the run's
        seed. The batch is no larger than it need be."""
        rows = choose(self.rows, n, 0)
        size = -(-len(rows) // self.place.devices) * self.place.devices
        batch, key, real = next(batches(rows, self.binarize, self.root, self.place, self.poll, size))
        return jitted.give(self.model, batch, key), key, real

    def images(self, split: str | None = None) -> Iterator[Any]:
        """The images of a split in pieces, [m, D] float32 on the host."""
        for batch, _, real in self.batches(split):
            yield np.asarray(batch.image)[:real].reshape(real, -1)

    def squares_about(self, mean: Any) -> Any:
        """The squared distance of each image of the split from one of [D] float64, [n] float64."""
        return np.concatenate([((x - mean) ** 2).sum(axis=1) for x in self.images()])

    def pieces(self, size: int, split: str | None = None) -> Iterator[Any]:
        """The same in pieces of `size`, the last of what is left."""
        held, n = list[Any](), 0
        for images in self.images(split):
            held, n = [*held, images], n + len(images)
            while n >= size:
                joined = np.concatenate(held)
                yield joined[:size]
                held, n = [joined[size:]], n - size
        if n:
            yield np.concatenate(held)

    def chosen(self, split: str, index: Any) -> Any:
        """The images at `index` of a split, rising numbers [n], as float32 [n, D]. The others are not held in memory."""
        return at(self.images(split), index)

    @cached_property
    def labels(self) -> Any:
        """The labels of the split, [n] int32."""
        return self.rows.labels

    @property
    def raw(self) -> str:
        """What the values that a model sees are called beside its codes."""
        return "raw pixels" if self.spec.kind == "image" else "raw values"

    def shared(self, name: str, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Arrays that do not depend on the model, made once for all runs on such data."""
        sizes = {name: len(self.dataset.split(name)) for name in ("train", "validation", "test")}
        protocol = {
            "version": VERSION,
            "fingerprint": self.dataset.fingerprint,
            "binarize": self.binarize,
            "split": self.split,
            **sizes,
        }
        if self.binarize != "none":
            protocol["seed"] = self.seed
        if self.dataset.scaling is not None:
            protocol["scaling"] = hashlib.sha256(b"".join(part.tobytes() for part in self.dataset.scaling)).hexdigest()
        key = f"{name} {json.dumps(protocol, sort_keys=True)}"
        digest = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:16]
        path = cache_root() / "shared" / f"{name}-{digest}.npz"
        return kept_arrays(path, key, make, f"makes {name} of this data, which all its runs share")

    @cached_property
    def code_length(self) -> int:
        """Numbers in a code of the model, which must encode."""
        code = jax.eval_shape(self.model.encode, self.state, self.model.abstract_batch(1, self.spec))
        return int(code.shape[1])

    @cached_property
    def feature_count(self) -> int:
        """Numbers that probes and clusterings are given of an image."""
        features = jax.eval_shape(features_of(self.model), self.state, self.model.abstract_batch(1, self.spec))
        return int(features.shape[1])

    @cached_property
    def is_binary(self) -> bool:
        """Whether all pixels are 0 or 1."""
        if self.binarize != "none":
            return True
        return all(bool(((x == 0) | (x == 1)).all()) for x in self.images())

    @cached_property
    def pca(self) -> linear.Pca | None:
        """Fitted to the train split; None if images are too large for it."""
        return None if self.moments is None else linear.pca(self.moments)

    @cached_property
    def moments(self) -> linear.Moments | None:
        """The moments of the train split; None if images are too large."""
        if self.spec.size > linear.LARGEST:
            return None
        kept = self.shared("moments", lambda: linear.moments(self.images("train"))._asdict())
        return linear.Moments(kept["mean"], kept["covariance"], int(kept["n"]))
