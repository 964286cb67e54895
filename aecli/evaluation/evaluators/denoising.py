"""How well corrupted images are restored, beside the corrupted ones, the best affine restorer and the usual filter.

Of each corruption of the config, or of a default set where it has none, what is restored and clipped to [0, 1] against the
clean image. Corruptions are functions of the seed and the image's place, so that runs of one seed see the same. Beside the
model: the corrupted image as it is and clipped; the affine map of least squared error, clipped, which is the Wiener filter
where the corruption is Gaussian noise; of one that stands alone a median filter, bicubic interpolation or the mean image in the
holes, whichever it is usually met with.

A model that was not trained on a corruption is measured as it is: of the default set its numbers are of robustness. The
greatest `psnr_db` is that of the mean of what may have been there, not of a likely image.

Metrics
-------
- `psnr_db (CORRUPTION)` (dB, higher): pooled over the split, as in `reconstruction`.
- `ssim (CORRUPTION)` (1, higher): the mean over images.
- `hidden_psnr_db (CORRUPTION)` (dB, higher): of the pixels that were taken away alone, pooled over those of all images.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core.model import Batch
from aecli.core.parts import in_parts
from aecli.data.eval_batches import per_image
from aecli.distributions.corruptions import Corruption, corrupt_batch, default_set, label, usual
from aecli.evaluation import restorers
from aecli.evaluation.subject import Subject
from aecli.measures.baselines.filters import Corrupted
from aecli.measures.metric import Findings, Metric, average, average_of_parts, pooled_psnr_db
from aecli.measures.ssim import ssim


def measure(subject: Subject) -> Findings:
    """For models that reconstruct."""
    own = subject.model.corruptions
    metrics: dict[str, Metric] = {}
    values: dict[str, Any] = {}
    for corruptions in [own] if own else default_set(subject.spec):
        name = label(corruptions)
        found = _errors(subject, corruptions)
        for key, metric in _metrics(found, subject.blocks).items():
            asked = {"corruption": [c.model_dump() for c in corruptions]}
            metrics[f"{key} ({name})"] = metric._replace(protocol={**metric.protocol, **asked})
        values |= {f"mse ({name})": found["model"]["mse"], f"ssim ({name})": found["model"]["ssim"]}
    return Findings(metrics, values)


def _metrics(found: dict[str, dict[str, Any]], blocks: Any) -> dict[str, Metric]:
    others = {name: part for name, part in found.items() if name != "model"}
    mine = found["model"]

    def theirs(value: str) -> dict[str, Any]:
        return {name: part[value] for name, part in others.items()}

    error = average("mse", mine["mse"], "lower", blocks=blocks, beside=theirs("mse"))
    metrics = {
        "psnr_db": pooled_psnr_db(error, mine["mse"], theirs("mse"), blocks),
        "ssim": average("ssim", mine["ssim"], "higher", blocks=blocks, beside=theirs("ssim")),
    }
    if "hidden_square" in mine:
        region = average_of_parts(mine["hidden_square"], mine["hidden"], "lower", blocks, theirs("hidden_square"))
        if region.value is None:
            region = region._replace(note="no pixel was hidden")
        # Of how many pixels the sums are is alike for all.
        metrics["hidden_psnr_db"] = pooled_psnr_db(region, mine["hidden_square"], theirs("hidden_square"), blocks)
    return metrics


def _errors(subject: Subject, corruptions: tuple[Corruption, ...]) -> dict[str, dict[str, Any]]:
    """Restorer -> per-image values: mse, ssim, and of hidden pixels the squared errors' sum and their number."""

    def restored(batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        return _restored(subject.model, subject.state, corruptions, batch, key)

    # Corrupted images are functions of the seed: runs with one seed share what becomes of them without a model.
    beside = subject.shared(f"restored {label(corruptions)}, seed {subject.seed}", lambda: _beside(subject, corruptions))
    found = {"model": per_image(subject.batches(), restored)}
    for name, values in beside.items():
        restorer, _, value = name.rpartition("/")
        found.setdefault(restorer, {})[value] = values
    return found


def _beside(subject: Subject, corruptions: tuple[Corruption, ...]) -> dict[str, Any]:
    """What is compared with the model: `restorer/value` -> [n]."""
    affine, classical = restorers.affine(subject, corruptions), usual(corruptions)
    mean = None if subject.moments is None else subject.moments.mean.reshape(subject.spec.shape).astype(np.float32)

    def restored(batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        shown, region = restorers.pair(corruptions, batch, key)
        host = np.asarray(shown)
        images: dict[str, Any] = {"corrupted": shown, "corrupted, clipped": jnp.clip(shown, 0, 1)}
        if affine is not None:
            images[affine[0]] = restorers.restored(affine[1], host)
        if classical is not None and mean is not None:
            of = Corrupted(host, None if region is None else np.asarray(region), mean)
            images[classical.name] = np.clip(classical.restore(of), 0, 1)
        compared = {name: _compare(jnp.asarray(made), batch.image, region) for name, made in images.items()}
        return {f"{name}/{value}": each for name, values in compared.items() for value, each in values.items()}

    return per_image(subject.batches(), restored)


@partial(jax.jit, static_argnames=("model", "corruptions"))
def _restored(model: Any, state: Any, corruptions: tuple[Corruption, ...], batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    shown = corrupt_batch(corruptions, batch, key)
    made = in_parts(model, lambda part: model.reconstruct(state, part), shown)
    return _values(jnp.clip(made, 0, 1), batch.image, shown.hidden)


def _values(made: jax.Array, image: jax.Array, region: jax.Array | None) -> dict[str, jax.Array]:
    square = (made - image) ** 2
    values = {"mse": square.mean(axis=(1, 2, 3)), "ssim": ssim(jnp.clip(made, 0, 1), image)}
    if region is not None:
        inside = jnp.broadcast_to(region, image.shape)
        values["hidden_square"] = jnp.where(inside, square, 0.0).sum(axis=(1, 2, 3))
        values["hidden"] = inside.sum(axis=(1, 2, 3))
    return values


_compare = jax.jit(_values)
