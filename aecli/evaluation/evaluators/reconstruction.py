"""How much of an image survives the code, or is restored from its corruption; beside it PCA with as many numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.abilities import Activates, Decodes, Encodes
from aecli.core.model import Batch
from aecli.data.eval_batches import collect, per_image
from aecli.distributions.observations import mse
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric, average, psnr_db
from aecli.measures.ssim import ssim


def measure(subject: Subject) -> Findings:
    """For models that reconstruct. `mse` and `mae` per value against the clean image; `psnr_db` pooled over the split, and
    `psnr_per_image_db`, the mean of each image's own; `ssim`; `explained_variance`, the share of the variance around the mean
    image of the split that is not error. Baselines: the mean train image, and PCA of the size of the code (of a sparse one, of as
    many components as units are active). Of a model that is shown corrupted images, instead the psnr of those, as they are and
    clipped to [0, 1].

    Of a decoder that is affine also `pca_gap`, the mse over PCA's less 1, and `principal_angle_deg`, the largest angle between
    the images that it can make and PCA's (Björck & Golub 1973)."""
    parts: list[tuple[dict[str, jax.Array], int]] = []
    total: Any = 0.0
    for batch, key, real in subject.batches():
        values, pixels = _values(subject.model, subject.state, batch, key, subject.baselines)
        parts.append((values, real))
        total += np.asarray(pixels, np.float64)
    found = collect(parts)
    error = average("mse", found["mse"], "lower")
    # Streamed over the whole split: the average of every batch's own share would be another number, and a smaller one.
    variance = max(found.pop("square").astype(np.float64).sum() - (total**2).sum() / error.n, 1e-12)
    dimensions = subject.spec.size
    notes: tuple[str, ...] = ()
    size: int | None = None
    metrics: dict[str, Metric] = {}
    if "corrupted_mse" in found:
        metrics = {
            f"{name}_psnr_db": psnr_db(average("mse", found[f"{name}_mse"])) for name in ("corrupted", "clipped")
        }  # of the input: no direction is better
    elif subject.baselines:
        size = code_size(subject)
        baselines, notes = _baselines(subject, size)
        error = error._replace(baselines=baselines)
    shares = {name: 1 - value * error.n * dimensions / variance for name, value in error.baselines.items()}
    share = 1 - error.value * error.n * dimensions / variance
    metrics = {
        "mse": error,
        "psnr_db": psnr_db(error),
        "explained_variance": Metric(float(share), None, error.n, "1", "higher", shares),
        **metrics,
    }
    if subject.baselines:
        metrics["mae"] = average("mae", found["mae"], "lower")
        metrics["psnr_per_image_db"] = average("psnr_per_image_db", found["psnr_per_image_db"], "higher")
        metrics["ssim"] = average("ssim", found["ssim"], "higher")
        metrics |= _linear(subject, error, size)
    return Findings(metrics, found, notes)


def _baselines(subject: Subject, size: int | None) -> tuple[dict[str, float], tuple[str, ...]]:
    """The mse of the mean train image and of PCA of such a size."""
    pca = subject.pca
    if pca is None:
        return {}, (f"no PCA baseline: {subject.spec.size} values an image are too many for a covariance",)
    sums = np.zeros(2)
    for x in subject.images():
        sums[0] += ((x - pca.mean) ** 2).sum()
        if size is not None:
            sums[1] += ((pca.reconstruct(x, size) - x) ** 2).sum()
    mean, best = sums / (len(subject.rows) * subject.spec.size)
    return {"mean image": float(mean), **({f"PCA {size}": float(best)} if size is not None else {})}, ()


def code_size(subject: Subject) -> int | None:
    """How many numbers the code of an image holds, where that is fewer than the image does: its length, of a sparse code the
    units that are active on average."""
    if not isinstance(subject.model, Encodes):
        return None
    size = round(float(active_units(subject).mean())) if isinstance(subject.model, Activates) else subject.code_length
    return size if 0 < size < subject.spec.size else None


def active_units(subject: Subject) -> Any:
    """How many units each image of the split activates, [n]."""
    active = per_image(subject.batches(), lambda batch, _: jitted.active(subject.model, subject.state, batch))
    return active.sum(axis=1)


def _linear(subject: Subject, error: Metric, size: int | None) -> dict[str, Metric]:
    """What an affine decoder lacks of PCA; nothing for another one."""
    from scipy.linalg import subspace_angles

    if size is None or size != subject.code_length or subject.pca is None or not isinstance(subject.model, Decodes):
        return {}
    basis = _affine_basis(subject.model, subject.state, size)
    if basis is None:
        return {}
    angle = float(np.degrees(subspace_angles(basis.T, subject.pca.components[:size].T)[0]))
    gap = error.value / error.baselines[f"PCA {size}"] - 1
    return {
        "pca_gap": Metric(gap, None, error.n, "1", "lower"),
        "principal_angle_deg": Metric(angle, None, error.n, "degrees", "lower"),
    }


def _affine_basis(model: Any, state: Any, size: int) -> Any:
    """The images that the numbers of a code add, [size, D], where the decoder is affine (that is tried, not asked); else None."""
    rng = np.random.Generator(np.random.Philox(0))
    decode = jax.jit(lambda code: model.decode(state, code, jnp.full(len(code), -1)).reshape(len(code), -1))
    codes = rng.standard_normal((8, size)).astype(np.float32)
    pairs = np.concatenate([codes, codes[::-1], codes + codes[::-1], 3 * codes])
    zero = np.asarray(decode(jnp.zeros((1, size))), np.float64)
    one, other, both, thrice = np.split(np.asarray(decode(jnp.asarray(pairs)), np.float64) - zero, 4)
    tolerance = 1e-4 * max(1e-6, np.abs(one).max())
    if np.abs(both - one - other).max() > 4 * tolerance or np.abs(thrice - 3 * one).max() > 4 * tolerance:
        return None
    return np.asarray(decode(jnp.eye(size)), np.float64) - zero


@partial(jax.jit, static_argnames=("model", "all_of_them"))
def _values(model: Any, state: Any, batch: Batch, key: jax.Array, all_of_them: bool) -> tuple[dict[str, jax.Array], jax.Array]:
    """Per-image values, [B] each, and the sum of the images [H, W, C]."""
    shown = model.corrupt(batch, key)
    made = model.reconstruct(state, shown)
    error = mse(made, batch.image)
    values = {
        "mse": error,
        "square": (batch.image**2).sum(axis=(1, 2, 3)),
    }
    if all_of_them:
        values["mae"] = jnp.abs(made - batch.image).mean(axis=(1, 2, 3))
        values["psnr_per_image_db"] = -10 * jnp.log10(jnp.maximum(error, 1e-10))
        values["ssim"] = ssim(jnp.clip(made, 0.0, 1.0), batch.image)
    if shown.image is not batch.image:
        values["corrupted_mse"] = mse(shown.image, batch.image)
        values["clipped_mse"] = mse(jnp.clip(shown.image, 0.0, 1.0), batch.image)
    return values, jnp.where(batch.mask[:, None, None, None], batch.image, 0.0).sum(axis=0)
