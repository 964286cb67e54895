r"""How near draws given another image are to what it was made of, whether they agree with it, and how much they differ.

Of 128 images of the split, fewer of large ones, that are the same for all runs, and eight draws
$\hat x^{(k)} \sim p(x \mid c(x))$ of each. The draws of a model with codes are means of $p(x \mid z, c(x))$, as its other
pictures are. Beside it: the affine map of least squared error, clipped, and the restorer that the corruption is usually met
with. Of pairs (`given: paired`) what is given is not made of the image, and no draw can be held against it.

Zhu et al. 2017, "Toward multimodal image-to-image translation" (BicycleGAN), section 5: the distance between draws of one
input tells their diversity. Here it is that of pixels, in shares of the distance between images: it is no LPIPS. Images are
taken for independent, so that standard errors of patches of one photograph are too small.

Metrics
-------
- `draw_psnr_db` (dB, higher): of a single draw against the image.
- `best_draw_psnr_db` (dB, higher): of the nearest of the eight.
- `mean_draw_psnr_db` (dB, higher): of their mean, which nears the expectation that a restorer aims at.
- `given_mse` (intensity^2, lower): between what the corruption leaves of a draw and what it left of the image; of outlines
  the share of pixels that disagree.
- `given_mse_floor` (intensity^2): the same of the image itself in the levels that a model draws in: what is lost by these
  alone.
- `diversity` (1, higher): the distance between two draws given the same, root of the mean square over values, as a share of
  that between two images; 0 of whatever restores one image.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.abilities import abilities
from aecli.core.keys import Stream, stream
from aecli.core.model import Batch
from aecli.data.eval_batches import eval_batch
from aecli.distributions.corruptions import given_hidden, of_pairs, usual
from aecli.distributions.discrete import dequantize, quantize
from aecli.distributions.observations import mse
from aecli.evaluation import restorers
from aecli.evaluation.subject import Subject
from aecli.measures.baselines.filters import Corrupted
from aecli.measures.metric import Findings, Metric, average, pooled_psnr_db

IMAGES, DRAWS = 128, 8
"""Images of the split that are looked at, fewer of large ones, and draws given what is left of each."""


def measure(subject: Subject) -> Findings:
    """For models of images given what a corruption leaves of them."""
    model: Any = subject.model
    batch, key, real = subject.few(eval_batch(subject.spec.size, IMAGES))
    subject.begin("draws")
    drawn: list[Any] = []
    for number in range(DRAWS):
        subject.poll()
        subject.tell(number, DRAWS)

        def make(number: int = number) -> dict[str, Any]:
            draw_key = stream(key, Stream.SAMPLE, number)
            return {"image": np.asarray(jitted.translate(model, subject.state, draw_key, batch, jnp.float32(1)))}

        drawn.append(subject.journal.kept(f"translation-{number}", make)["image"])
    subject.begin("translation")
    values = {
        name: np.asarray(value, np.float64)[:real]
        for name, value in _values(model, jnp.clip(jnp.asarray(np.stack(drawn)), 0, 1), batch, key).items()
    }
    if "given_mse" in values and "scores" in abilities(model) and (levels := model.support()) is not None:
        image = dequantize(quantize(batch.image, levels), levels)
        values["given_mse_floor"] = np.asarray(_disagreement(model, image, batch, key), np.float64)[:real]
    restored = _restored(subject, batch, key, real) if subject.baselines else {}
    corruption = [corruption.model_dump() for corruption in model.given_corruptions]
    return _findings(values, restored, _between(np.asarray(batch.image)[:real]), {"draws": DRAWS, "corruption": corruption})


def _findings(values: dict[str, Any], restored: dict[str, dict[str, Any]], between: float, protocol: dict[str, Any]) -> Findings:
    def of_restorers(name: str) -> dict[str, Any]:
        return {restorer: found[name] for restorer, found in restored.items()}

    metrics: dict[str, Metric] = {}
    for name in ("draw", "best_draw", "mean_draw"):
        error = average("mse", values[f"{name}_mse"], "lower", beside=of_restorers("mse"), protocol=protocol)
        metrics[f"{name}_psnr_db"] = pooled_psnr_db(error, values[f"{name}_mse"], of_restorers("mse"))
    if "given_mse" in values:
        metrics["given_mse"] = average(
            "given_mse", values["given_mse"], "lower", "intensity^2", beside=of_restorers("given_mse"), protocol=protocol
        )
    if "given_mse_floor" in values:
        metrics["given_mse_floor"] = average("given_mse_floor", values["given_mse_floor"], unit="intensity^2", protocol=protocol)
    none = dict.fromkeys(restored, 0.0)
    diversity = average("diversity", values["distance"] / max(between, 1e-12), "higher", baselines=none, protocol=protocol)
    metrics["diversity"] = diversity if between > 0 else diversity._replace(baselines={}).none("the images are all alike")
    return Findings(metrics, {name: value.astype(np.float32) for name, value in values.items()})


@partial(jax.jit, static_argnames=("model",))
def _values(model: Any, drawn: jax.Array, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    """Of draws [k, B, H, W, C] in [0, 1], values of each image [B]."""
    errors = jnp.stack([mse(each, batch.image) for each in drawn])
    apart = jnp.stack([jnp.sqrt(mse(drawn[a], drawn[b])) for a, b in combinations(range(len(drawn)), 2)])
    return {
        "draw_mse": errors.mean(axis=0),
        "best_draw_mse": errors.min(axis=0),
        "mean_draw_mse": mse(drawn.mean(axis=0), batch.image),
        **_agreement(model, drawn, batch, key),
        "distance": apart.mean(axis=0),
    }


def _agreement(model: Any, made: jax.Array, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
    """`given_mse` over images made in several ways [k, B, H, W, C]; nothing where what is given is not made of the image."""
    if of_pairs(model.given_corruptions):
        return {}
    return {"given_mse": jnp.stack([_disagreement(model, each, batch, key) for each in made]).mean(axis=0)}


@partial(jax.jit, static_argnames=("model",))
def _disagreement(model: Any, made: jax.Array, batch: Batch, key: jax.Array) -> jax.Array:
    """The mean squared error between what the corruption leaves of `made` and of the image by the same random numbers, [B]."""
    of_image, of_made = (model.give(batch._replace(image=image, given=None), key) for image in (batch.image, made))
    return mse(model.given_of(of_made), model.given_of(of_image))


def _between(images: Any) -> float:
    """The mean distance between two of the images [n, H, W, C]; 0 of a single one."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    pairs = [np.sqrt(((flat[i + 1 :] - flat[i]) ** 2).mean(axis=1)) for i in range(len(flat) - 1)]
    return float(np.concatenate(pairs).mean()) if pairs else 0.0


def _restored(subject: Subject, batch: Batch, key: jax.Array, real: int) -> dict[str, dict[str, Any]]:
    """What plain methods make of what is given: name -> values of each image [n]."""
    model, given = subject.model, np.asarray(batch.given)
    made: dict[str, Any] = {}
    affine = restorers.affine(subject, model.given_corruptions)
    if affine is not None:
        made[affine[0]] = restorers.restored(affine[1], given)
    classical = usual(model.given_corruptions)
    if classical is not None and subject.moments is not None:
        away = given_hidden(model.given_corruptions, batch, key)
        mean = subject.moments.mean.reshape(subject.spec.shape).astype(np.float32)
        shown = Corrupted(given, None if away is None else np.asarray(away), mean)
        made[classical.name] = np.clip(classical.restore(shown), 0, 1)
    found = {
        name: {"mse": mse(jnp.asarray(image), batch.image), **_agreement(model, jnp.asarray(image)[None], batch, key)}
        for name, image in made.items()
    }
    return {name: {key: np.asarray(value)[:real] for key, value in each.items()} for name, each in found.items()}
