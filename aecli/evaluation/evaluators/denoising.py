"""How well corrupted images are restored, beside the corrupted ones, the best affine restorer and the usual filter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core.model import Batch
from aecli.distributions.corruptions import Corruption, GaussianNoise, corrupt_batch, default_set, label, usual
from aecli.evaluation.subject import Subject
from aecli.measures.baselines import linear
from aecli.measures.baselines.filters import Corrupted
from aecli.measures.metric import Findings, Metric, average, psnr_db
from aecli.measures.ssim import ssim


def measure(subject: Subject) -> Findings:
    """For models that reconstruct: of each corruption of the config, or of a default set, `psnr_db` (pooled) and `ssim` of what
    is restored, against the clean image. Baselines: the corrupted image as it is and clipped to [0, 1]; the affine map of least
    squared error, clipped, which is the Wiener filter where the corruption is Gaussian noise; a median filter, bicubic
    interpolation or the mean image in the holes, whichever the corruption is usually met with. `hidden_psnr_db` is of the hidden
    pixels alone. Corruptions are functions of the seed and the image's place."""
    own = subject.model.corruptions
    metrics: dict[str, Metric] = {}
    values: dict[str, Any] = {}
    for corruptions in [own] if own else default_set(subject.spec):
        name = label(corruptions)
        found = _errors(subject, corruptions)
        for key, metric in _metrics(found).items():
            asked = {"corruption": [c.model_dump() for c in corruptions]}
            metrics[f"{key} ({name})"] = metric._replace(protocol={**metric.protocol, **asked})
        values |= {f"mse ({name})": found["model"]["mse"], f"ssim ({name})": found["model"]["ssim"]}
    return Findings(metrics, values)


def _metrics(found: dict[str, dict[str, Any]]) -> dict[str, Metric]:
    others = {name: part for name, part in found.items() if name != "model"}
    mine = found["model"]

    def pooled(part: dict[str, Any]) -> float:
        return float(part["mse"].astype(np.float64).mean())

    error = average("mse", mine["mse"], "lower", baselines={name: pooled(part) for name, part in others.items()})
    likeness = {name: float(part["ssim"].mean()) for name, part in others.items()}
    metrics = {"psnr_db": psnr_db(error), "ssim": average("ssim", mine["ssim"], "higher", baselines=likeness)}
    if "hidden_square" in mine:
        n = mine["hidden"].sum()

        def inside(part: dict[str, Any]) -> float:
            return float(part["hidden_square"].astype(np.float64).sum() / max(n, 1))

        region = Metric(inside(mine), None, len(mine["mse"]), "", "lower", {name: inside(part) for name, part in others.items()})
        if not n:
            region = region._replace(baselines={}).none("no pixel was hidden")
        metrics["hidden_psnr_db"] = psnr_db(region)
    return metrics


def _errors(subject: Subject, corruptions: tuple[Corruption, ...]) -> dict[str, dict[str, Any]]:
    """Restorer -> per-image values: mse, ssim, and of hidden pixels the squared errors' sum and their number."""
    restorer = _affine(subject, corruptions)
    classical = usual(corruptions)
    mean = None if subject.moments is None else subject.moments.mean.reshape(subject.spec.shape).astype(np.float32)
    parts: dict[str, list[dict[str, Any]]] = {}
    for batch, key, real in subject.batches():
        shown, region, made = _restore(subject.model, subject.state, corruptions, batch, key)
        restored: dict[str, Any] = {
            "corrupted": shown,
            "corrupted, clipped": jnp.clip(shown, 0, 1),
            "model": made,
        }
        host = np.asarray(shown)
        if restorer is not None:
            name = "Wiener, clipped" if _is_gaussian(corruptions) else "affine, clipped"
            flat = restorer(host.reshape(len(host), -1))
            restored[name] = jnp.asarray(np.clip(flat, 0, 1).reshape(host.shape), jnp.float32)
        if classical is not None and mean is not None:
            of = Corrupted(host, None if region is None else np.asarray(region), mean)
            restored[classical.name] = jnp.clip(jnp.asarray(classical.restore(of)), 0, 1)
        for name, images in restored.items():
            compared = {k: np.asarray(v)[:real] for k, v in _compare(images, batch.image, region).items()}
            parts.setdefault(name, []).append(compared)
    return {name: {k: np.concatenate([part[k] for part in some]) for k in some[0]} for name, some in parts.items()}


def _is_gaussian(corruptions: Sequence[Corruption]) -> bool:
    return len(corruptions) == 1 and isinstance(corruptions[0], GaussianNoise)


def _affine(subject: Subject, corruptions: tuple[Corruption, ...]) -> linear.Affine | None:
    moments = subject.moments
    if moments is None:
        return None
    if len(corruptions) == 1 and isinstance(noise := corruptions[0], GaussianNoise):
        return linear.wiener(moments, noise.sigma)

    def pairs() -> Iterable[tuple[Any, Any]]:
        for batch, key, real in subject.batches("train"):
            clean, shown = (np.asarray(x)[:real].reshape(real, -1) for x in _pair(corruptions, batch, key))
            yield clean, shown

    made = subject.shared(f"restorer {label(corruptions)}", lambda: linear.affine_restorer(pairs())._asdict())
    return linear.Affine(**made)


@partial(jax.jit, static_argnames=("corruptions",))
def _pair(corruptions: tuple[Corruption, ...], batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    return batch.image, corrupt_batch(corruptions, batch, key).image


@partial(jax.jit, static_argnames=("model", "corruptions"))
def _restore(
    model: Any, state: Any, corruptions: tuple[Corruption, ...], batch: Batch, key: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array]:
    shown = corrupt_batch(corruptions, batch, key)
    return shown.image, shown.hidden, jnp.clip(model.reconstruct(state, shown), 0, 1)


@jax.jit
def _compare(made: jax.Array, image: jax.Array, region: jax.Array | None) -> dict[str, jax.Array]:
    square = (made - image) ** 2
    values = {"mse": square.mean(axis=(1, 2, 3)), "ssim": ssim(jnp.clip(made, 0, 1), image)}
    if region is not None:
        inside = jnp.broadcast_to(region, image.shape)
        values["hidden_square"] = jnp.where(inside, square, 0.0).sum(axis=(1, 2, 3))
        values["hidden"] = inside.sum(axis=(1, 2, 3))
    return values
