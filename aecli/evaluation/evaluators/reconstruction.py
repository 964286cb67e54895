r"""How much of an image survives the code, or is restored from its corruption; beside it PCA with as many numbers.

What a model makes is clipped to [0, 1] first, as a picture shows it, and so are the baselines: the mean train image, and PCA
of the size of the code, of a sparse one of as many components as units are active on average (`l0`). A model that is shown
corrupted images is measured against the clean ones, beside the corrupted ones in place of PCA. Of vectors there are `mse`,
`mae` and `explained_variance`, and of an affine decoder `pca_gap` and `principal_angle_deg`, in the units that the model sees,
and nothing is clipped: the ratios are about intensities.

Metrics
-------
- `mse` (intensity^2, lower): the squared error per value, $\frac{1}{nD} \sum_i \lVert \hat x_i - x_i \rVert^2$.
- `mae` (intensity, lower): the absolute error per value.
- `psnr_db` (dB, higher): $-10 \log_{10}$ `mse`, pooled over the split, which is less than the mean of each image's own ratio.
- `psnr_per_image_db` (dB, higher): that mean, each at most 100 dB.
- `ssim` (1, higher): structural similarity (Wang et al. 2004, "Image quality assessment: from error visibility to structural
  similarity", equation 13), a Gaussian window of 11x11 pixels and sigma 1.5, the mean over places, channels and images.
- `explained_variance` (1, higher): $1 - \sum_i \lVert \hat x_i - x_i \rVert^2 / \sum_i \lVert x_i - \bar x \rVert^2$,
  $\bar x$ the mean image of the split.
- `corrupted_psnr_db` (dB): of the corrupted images as they are, for models that are shown such.
- `clipped_psnr_db` (dB): of the corrupted images clipped to [0, 1].
- `pca_gap` (1, lower): of an affine decoder its mse over PCA's, less 1, before anything is clipped: what an affine map can be
  the best at.
- `principal_angle_deg` (degrees, lower): of an affine decoder the largest angle between the images that it can make and PCA's
  (Björck & Golub 1973, "Numerical methods for computing angles between linear subspaces").

A good `mse` is no good picture: it is least at the mean of what an image may have been. Images that are all alike have no
variance to explain, images that are met exactly no ratio to their error, and directions that they do not vary in no angle:
these are null.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.abilities import Activates, Encodes, lacking
from aecli.core.model import Batch, Kind
from aecli.core.parts import in_parts
from aecli.data.eval_batches import collect, per_image
from aecli.distributions.observations import mse
from aecli.evaluation.affine import affine_decoder
from aecli.evaluation.subject import Subject
from aecli.measures.metric import (
    CAP_DB,
    EXACT_MSE,
    Findings,
    Metric,
    average,
    average_of_parts,
    pooled_psnr_db,
    psnr_db,
    psnr_per_image_db,
)
from aecli.measures.ssim import ssim

FLAT = 1e-10
"""A variance below this share of the largest one is rounding: images do not vary in that direction."""


def measure(subject: Subject) -> Findings:
    """For models that reconstruct. `mae`, `ssim`, the ratio of each image, PCA and what is of an affine decoder take
    `subject.baselines`."""
    parts: list[tuple[dict[str, jax.Array], int]] = []
    total: Any = 0.0
    origin: jax.Array | None = None
    is_image = subject.spec.kind == "image"
    for batch, key, real in subject.batches():
        origin = batch.image[0] if origin is None else origin
        values, pixels = _values(subject.model, subject.state, batch, key, origin, subject.baselines, is_image)
        parts.append((values, real))
        total += np.asarray(pixels, np.float64)
    found = collect(parts)
    unit = None if is_image else "value^2"
    blocks = subject.blocks
    beside: dict[str, Any] = {}
    unclipped = float(found.pop("unclipped_mse").astype(np.float64).mean())
    # Streamed over the whole split: the average of every batch's own share would be another number, and a smaller one.
    variance = found.pop("square").astype(np.float64).sum() - (total**2).sum() / len(subject.rows)
    notes: tuple[str, ...] = ()
    size: int | None = None
    unclipped_pca: float | None = None
    metrics: dict[str, Metric] = {}
    if "corrupted_mse" in found:
        metrics = {
            f"{name}_psnr_db": psnr_db(average("mse", found[f"{name}_mse"], blocks=blocks))._replace(better=None)
            for name in ("corrupted", "clipped")
        }  # of what the model is shown, which says nothing of the model
    elif subject.baselines:
        size = code_size(subject)
        beside, unclipped_pca, notes = _baselines(subject, size)
    error = average("mse", found["mse"], "lower", unit, blocks, beside)
    metrics = {
        "mse": error,
        **({"psnr_db": pooled_psnr_db(error, found["mse"], beside, blocks)} if is_image else {}),
        "explained_variance": _explained(error, float(variance) / (error.n * subject.spec.size), subject.spec.kind),
        **metrics,
    }
    if subject.baselines:
        assert origin is not None
        mean = np.asarray(origin, np.float64).ravel() + total.ravel() / len(subject.rows)
        ratio = average_of_parts(found["mse"], subject.squares_about(mean) / subject.spec.size, "lower", blocks, beside)
        metrics["explained_variance"] = _with_errors(metrics["explained_variance"], ratio)
        metrics["mae"] = average("mae", found["mae"], "lower", None if is_image else "value", blocks)
        if is_image:
            metrics["psnr_per_image_db"] = psnr_per_image_db(found["psnr_per_image_db"], blocks)
            metrics["ssim"] = average("ssim", found["ssim"], "higher", blocks=blocks)
        if size is not None and unclipped_pca is not None:
            metrics |= _linear(subject, unclipped, unclipped_pca, size)
    return Findings(metrics, found, notes)


def _explained(error: Metric, variance: float, kind: Kind) -> Metric:
    """The share of a variance per value that is not error, and that of each baseline."""
    none = Metric(None, None, error.n, "1", "higher")
    if error.value is None or variance <= 0:
        return none.none(f"the {kind}s of the split are all alike: there is no variance to explain")
    shares = {name: 1 - value / variance for name, value in error.baselines.items()}
    return none._replace(value=1 - error.value / variance, baselines=shares)


def _with_errors(share: Metric, ratio: Metric) -> Metric:
    """A share that is explained with the errors of the ratio of both totals, which is the rest: the mean of the images is taken
    for known, as what it is off by changes the total in second order alone."""
    if share.value is None:
        return share
    errors = ratio.standard_error, ratio.difference_errors
    return share._replace(standard_error=errors[0], difference_errors=errors[1], protocol={**share.protocol, **ratio.protocol})


def _baselines(subject: Subject, size: int | None) -> tuple[dict[str, Any], float | None, tuple[str, ...]]:
    """The errors [n] of the mean train image and of PCA of such a size, clipped as the model is; the mse of PCA as it is."""
    pca = subject.pca
    if pca is None:
        return {}, None, (f"no PCA baseline: {subject.spec.size} values are too many for a covariance",)
    of_mean: list[Any] = []
    of_pca: list[Any] = []
    unclipped = 0.0
    for x in subject.images():
        of_mean.append(((x - pca.mean) ** 2).mean(axis=1))
        if size is not None:
            made = pca.reconstruct(x, size)
            unclipped += float(((made - x) ** 2).mean(axis=1).sum())
            of_pca.append((((made.clip(0, 1) if subject.spec.kind == "image" else made) - x) ** 2).mean(axis=1))
    mean = {f"mean {subject.spec.kind}": np.concatenate(of_mean)}
    if size is None:
        return mean, None, ()
    return {**mean, f"PCA {size}": np.concatenate(of_pca)}, unclipped / len(subject.rows), ()


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


def _linear(subject: Subject, error: float, best: float, size: int) -> dict[str, Metric]:
    """What an affine decoder lacks of PCA, whose mse are `error` and `best` before clipping; nothing for another one."""
    from scipy.linalg import subspace_angles

    pca = subject.pca
    if size != subject.code_length or pca is None or lacking(subject.model, ("decodes",)):
        return {}
    decoder = affine_decoder(subject.model, subject.state, size)
    if decoder is None:
        return {}
    basis = decoder.rows
    n, protocol = len(subject.rows), {"clipped": False}
    gap = Metric(None, None, n, "1", "lower", {}, protocol)
    angle = Metric(None, None, n, "degrees", "lower", {}, protocol)
    if best <= EXACT_MSE:
        gap = gap.none(f"PCA {size} makes the {subject.spec.kind}s exactly: there is no error to be a share of")
    else:
        gap = gap._replace(value=error / best - 1)
    if pca.variances[size - 1] <= max(FLAT * pca.variances[0], EXACT_MSE):
        angle = angle.none(f"the train {subject.spec.kind}s vary in fewer than {size} directions: PCA's are not determined")
    elif np.linalg.matrix_rank(basis) < size:
        angle = angle.none(f"the decoder makes {subject.spec.kind}s in fewer than {size} directions")
    else:
        angle = angle._replace(value=float(np.degrees(subspace_angles(basis.T, pca.components[:size].T)[0])))
    return {"pca_gap": gap, "principal_angle_deg": angle}


@partial(jax.jit, static_argnames=("model", "all_of_them", "is_image"))
def _values(
    model: Any, state: Any, batch: Batch, key: jax.Array, origin: jax.Array, all_of_them: bool, is_image: bool
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Per-image values, [B] each, and the sum of the images [H, W, C]. The squares and the sum, by which the variance is told,
    are of the differences from `origin`, one of the images: of images that are all alike they are exactly 0."""
    shown = model.corrupt(batch, key)
    output = in_parts(model, lambda part: model.reconstruct(state, part), shown)
    made = jnp.clip(output, 0.0, 1.0) if is_image else output
    error = mse(made, batch.image)
    apart = batch.image - origin[None]
    values = {
        "mse": error,
        "unclipped_mse": mse(output, batch.image),
        "square": (apart**2).sum(axis=(1, 2, 3)),
    }
    if all_of_them:
        values["mae"] = jnp.abs(made - batch.image).mean(axis=(1, 2, 3))
        if is_image:
            values["psnr_per_image_db"] = jnp.minimum(CAP_DB, -10 * jnp.log10(jnp.maximum(error, EXACT_MSE)))
            values["ssim"] = ssim(made, batch.image)
    if is_image and shown.image is not batch.image:
        values["corrupted_mse"] = mse(shown.image, batch.image)
        values["clipped_mse"] = mse(jnp.clip(shown.image, 0.0, 1.0), batch.image)
    return values, jnp.where(batch.mask[:, None, None, None], apart, 0.0).sum(axis=0)
