"""A trained model applied to images, batch by batch as an evaluation does it: codes, reconstructions, completions, likelihoods.

Batches have the size of an evaluation's and the last one is padded, so that one program is compiled for a model, whatever the
number of images, and gives the first images of a split the bits that the evaluation gave them. A model of binarized images is
shown each image drawn by the seed of the run and the image's place among those that are given; what is 0 and 1 already stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from aecli.config.variants import variants_that
from aecli.core import jitted
from aecli.core.abilities import Scores, abilities, told_lacking
from aecli.core.keys import Stream, stream
from aecli.core.model import Batch, Model
from aecli.data.eval_batches import batches, eval_batch
from aecli.data.rows import Rows
from aecli.distributions.corruptions import Corruption, as_shown, of_pairs
from aecli.errors import DataError, UsageError
from aecli.evaluation import affine
from aecli.evaluation.importance import importance_sampled
from aecli.runs.trained import Trained
from aecli.system.placement import put

Floats = NDArray[np.float32]
NEEDED = {
    "encode": ("encodes",),
    "decode": ("decodes",),
    "reconstruct": ("reconstructs",),
    "sample": ("samples",),
    "complete": ("completes",),
    "score": ("scores", "weighs"),
}
"""What can be done with a model, and the abilities of which it needs one."""
LABELLED = ("decode", "reconstruct", "sample", "score", "complete")
"""What a conditional model does only for an image whose class it is told."""


def check_able(model: Model, doing: str) -> None:
    """Raises UsageError if a model lacks what something of NEEDED takes, naming what would work."""
    needed, able = NEEDED[doing], abilities(model)
    if set(needed) & set(able):
        return
    others = sorted({name for ability in needed for name in variants_that((ability,))})
    raise UsageError(
        f"variant '{model.variant}' cannot {doing}: {told_lacking(model, needed)}",
        f"it has: {', '.join(able)}; variants that can: {', '.join(others)}",
    )


def check_labels(model: Model, doing: str, labels: NDArray[np.int32], names: Sequence[str]) -> None:
    """Raises UsageError if a conditional model is not told a class that it needs."""
    if model.is_conditional and doing in LABELLED and (labels < 0).any():
        missing = int((labels < 0).sum())
        known = ", ".join(f"{number} {name}" for number, name in enumerate(names[:10])) + (", ..." if len(names) > 10 else "")
        raise UsageError(
            f"the model is conditional on the label, and {missing:,} of {len(labels):,} labels are missing", f"labels: {known}"
        )


def check_pairs(corruptions: Sequence[Corruption], paired: bool, what: str) -> None:
    """Raises DataError if the corruptions by which a model is shown images are of pairs, and these, which messages call `what`,
    are none."""
    if of_pairs(corruptions) and not paired:
        raise DataError(
            f"{what}: the model is shown the image that its data pairs with each, and these images have none",
            "take a split of the run's own pairs, or of `eval --data` other pairs (data.name: pairs)",
        )


def codes(trained: Trained, rows: Rows) -> Iterator[Floats]:
    """The code of each image, in pieces [m, latent]; of a distribution over codes its mean."""
    return _pieces(trained, rows, lambda batch, _: jitted.encode(trained.model, trained.state, batch))


def code_length(trained: Trained) -> int:
    """Numbers in a code."""
    model: Any = trained.model
    return int(jax.eval_shape(model.encode, trained.state, model.abstract_batch(1, trained.spec)).shape[1])


def reconstructions(trained: Trained, rows: Rows) -> Iterator[Floats]:
    """What is left of each image, as it is given, after the code, in pieces as of `shown`; of pairs that a model restores one
    from the other, what it makes of that."""
    model = trained.model
    parts = _pieces(trained, rows, lambda batch, _: jitted.reconstruct(model, trained.state, as_shown(model.corruptions, batch)))
    return (shown(trained, part) for part in parts)


def decoded(trained: Trained, z: Floats, labels: NDArray[np.int32]) -> Iterator[Floats]:
    """The image of each code [n, latent], in pieces as of `shown`."""
    size = eval_batch(trained.spec.size)
    place = trained.place.rows if size % trained.place.devices == 0 else trained.place.replicated
    for start in range(0, len(z), size):
        index = np.minimum(np.arange(start, start + size), len(z) - 1)
        code, label = put((z[index], labels[index]), place)
        made = jitted.decode(trained.model, trained.state, code, label)
        yield shown(trained, np.asarray(made, np.float32)[: len(z) - start])


def affine_decoder(trained: Trained) -> affine.Affine:
    """The affine map that the decoder is, [latent, H W C] and [H W C], of vectors in the units of the data. Raises UsageError if
    there is none."""
    model: Any = trained.model
    check_able(model, "decode")
    if model.is_conditional:
        raise UsageError("the model is conditional on the label: it has a decoder for each class", "conditional: false")
    found = affine.affine_decoder(model, trained.state, code_length(trained))
    if found is None:
        raise UsageError(
            "the decoder is no affine map of the code, so that what a unit adds depends on the others",
            "net: linear trains one that is; decode shows what a code gives",
        )
    if trained.scaling is None:
        return found
    mean, scale = (array.reshape(-1).astype(np.float64) for array in trained.scaling)
    return affine.Affine(found.rows * scale[None], found.offset * scale + mean)


def completions(trained: Trained, rows: Rows, known: NDArray[np.bool_], seed: int, temperature: float) -> Iterator[Floats]:
    """What a model draws where images are not `known` [n, H, W], in pieces as of `shown`. Few images are not padded to a whole
    batch: the padding would be drawn too, value by value."""
    devices = trained.place.devices
    size = min(-(-max(1, len(rows)) // devices) * devices, eval_batch(trained.spec.size))
    root, start = jax.random.key(trained.experiment.seed), 0
    for number, (batch, _, real) in enumerate(batches(rows, _binarize(trained), root, trained.place, size=size)):
        here = known[np.minimum(np.arange(start, start + size), len(rows) - 1)]
        mask = jnp.broadcast_to(jnp.asarray(here)[..., None], batch.image.shape)
        key = stream(jax.random.key(seed), Stream.SAMPLE, number)
        seen = batch._replace(hidden=~mask[..., :1])
        made = jitted.complete(trained.model, trained.state, key, seen, mask, jnp.float32(temperature))
        yield shown(trained, np.asarray(made, np.float32)[:real])
        start += real


def scores(trained: Trained, rows: Rows, samples: int, seed: int | None = None) -> Iterator[Floats]:
    """-log p(x) of each image in nats, [m] in pieces: exact where the model scores, else the upper bound from so many importance
    samples, drawn by `seed`, by default that of the run. Raises UsageError for gray images under a likelihood of binary ones."""
    model: Any = trained.model
    root = jax.random.key(trained.experiment.seed if seed is None else seed)
    numbers = iter(range(len(rows)))

    def nll(batch: Batch, key: jax.Array) -> jax.Array:
        if isinstance(model, Scores):
            return -jitted.log_prob(model, trained.state, batch)
        if model.support() == 2 and not bool(((batch.image == 0) | (batch.image == 1)).all()):
            raise UsageError(
                "the images are gray and the likelihood is of binary pixels: there is no likelihood of them",
                "give images of 0 and 1, or train with data.binarize",
            )
        key = stream(root, Stream.EVALUATE, next(numbers))
        return importance_sampled(model, trained.state, batch, key, jnp.int32(samples))["nll_nats"]

    return _pieces(trained, rows, nll)


def draw(trained: Trained, label: NDArray[np.int32], seed: int, temperature: float) -> Floats:
    """One image for each label, as of `shown`: the arrays of `aecli sample`, not rounded."""
    key = stream(jax.random.key(seed), Stream.SAMPLE)
    made = jitted.sample(trained.model, trained.state, key, jnp.asarray(label), jnp.float32(temperature))
    return shown(trained, np.asarray(made, np.float32))


def shown(trained: Trained, images: Any) -> Floats:
    """What a model made as it is given away: images [n, H, W, C] clipped to [0, 1], as an evaluation and a picture have them;
    vectors [n, d] in the units of the data."""
    if trained.spec.kind == "image":
        return np.clip(np.asarray(images, np.float32), 0, 1)
    vectors = images if trained.scaling is None else trained.scaling.undo(images)
    return np.asarray(vectors, np.float32).reshape(-1, trained.spec.width)


def _binarize(trained: Trained) -> Any:
    """How images reach the model: drawn, if it was trained on drawn ones. A frozen draw is 0 and 1, of which a draw is itself."""
    return "none" if trained.experiment.data.binarize == "none" else "dynamic"


def _pieces(trained: Trained, rows: Rows, function: Callable[[Batch, jax.Array], jax.Array]) -> Iterator[Floats]:
    root = jax.random.key(trained.experiment.seed)
    for batch, key, real in batches(rows, _binarize(trained), root, trained.place):
        yield np.asarray(function(jitted.give(trained.model, batch, key), key), np.float32)[:real]
