r"""How much of an image a sparse code's dictionary could explain, beside what its encoder makes of it.

Of sparse codes that an affine decoder adds up, $\hat x = b + \sum_j a_j r_j$: the share of the variance around the mean image
of the split that is no error, by other ways to find $a$. Nothing is clipped, coefficients may be negative, and beside both
stands the encoder's own, by the same measure, which is not `explained_variance` of `reconstruction`.

Metrics
-------
- `explained_variance_omp` (1, higher): with as many units for every image as the encoder activates on average, chosen by
  orthogonal matching pursuit (Pati, Rezaiifar & Krishnaprasad 1993, "Orthogonal matching pursuit").
- `explained_variance_lstsq` (1, higher): with the units that the encoder activates, and the best coefficients.
- `amortization_gap` (1, lower): what the encoder loses to the pursuit, which comes of finding the code by so few passes
  (O'Neill et al. 2024, "Compute optimal inference and provable amortisation gap in sparse autoencoders").

A pursuit is greedy: it may explain less than the best code of as many units would.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import jax.numpy as jnp
import numpy as np

from aecli.core import jitted
from aecli.core.abilities import Decodes, Encodes
from aecli.evaluation.affine import Affine, affine_decoder, is_affine
from aecli.evaluation.subject import Subject
from aecli.measures.metric import Findings, Metric, average_of_parts, explained_share
from aecli.measures.pursuit import least_squares, orthogonal_matching_pursuit

MOST_ACTIVE = 256
"""Active units of an image; of more, their inner products would not fit into memory."""


def cannot(subject: Subject) -> str | None:
    """Why there is no dictionary."""
    model = subject.model
    able = isinstance(model, Encodes) and isinstance(model, Decodes)
    if not able or not is_affine(model, subject.state, subject.code_length):
        return "the decoder is no dictionary: images are not sums of its rows"
    return None


def flop(subject: Subject) -> float:
    """Of looking through the dictionary for every unit of every image, by the number that is active in the first ones."""
    batch, _, real = next(iter(subject.batches()))
    k = float(np.asarray(jitted.active(subject.model, subject.state, batch))[:real].sum(axis=1).mean())
    return len(subject.rows) * min(k, MOST_ACTIVE) * 2.0 * subject.code_length * prod(subject.spec.shape)


def measure(subject: Subject) -> Findings:
    """For sparse codes that an affine decoder adds up; None where active units are not all that an image is made of."""
    model, state = subject.model, subject.state
    decoder = affine_decoder(model, state, subject.code_length)
    assert decoder is not None
    active = [np.asarray(jitted.active(model, state, batch))[:real] for batch, _, real in subject.batches()]
    counts = np.concatenate([part.sum(axis=1) for part in active])
    n, k, most = len(counts), round(float(counts.mean())), int(counts.max())
    protocol = {"active": k, "clipped": False}
    omp = Metric(None, None, n, "1", "higher", {}, protocol)
    least = Metric(None, None, n, "1", "higher", {}, {"clipped": False})
    gap = Metric(None, None, n, "1", "lower", {}, protocol)

    def without(note: str) -> Findings:
        return Findings(_named(*(metric.none(note) for metric in (omp, least, gap))))

    if k < 1 or most > MOST_ACTIVE:
        return without(f"{k} units are active on average, and up to {most}: a pursuit is of 1 to {MOST_ACTIVE}")
    if not _is_of_active_units(subject, active):
        return without("units that count as inactive are not 0: the encoder's image is not a sum of the active ones alone")
    errors, squares = _errors(subject, decoder, active, k, most)
    if not squares.any():
        return without(f"the {subject.spec.kind}s of the split are all alike: there is no variance to explain")
    beside = {"encoder": errors["encoder"]}

    def explained(name: str, protocol: Mapping[str, Any]) -> Metric:
        share = explained_share(average_of_parts(errors[name], squares, "lower", subject.blocks, beside))
        return share._replace(protocol={**protocol, **share.protocol})

    omp, least = explained("omp", omp.protocol), explained("lstsq", least.protocol)
    assert omp.value is not None
    lost, error = omp.value - omp.baselines["encoder"], omp.difference_errors.get("encoder")
    return Findings(_named(omp, least, gap._replace(value=lost, standard_error=error, protocol=omp.protocol)))


def _named(omp: Metric, least: Metric, gap: Metric) -> dict[str, Metric]:
    return {"explained_variance_omp": omp, "explained_variance_lstsq": least, "amortization_gap": gap}


def _is_of_active_units(subject: Subject, active: list[Any]) -> bool:
    """Whether every number of a code that is not 0 is that of an active unit."""
    pairs = zip(subject.batches(), active, strict=True)
    return all(
        not np.asarray(jitted.encode(subject.model, subject.state, batch))[:real][~on].any() for (batch, _, real), on in pairs
    )


def _errors(subject: Subject, decoder: Affine, active: list[Any], k: int, most: int) -> tuple[dict[str, Any], Any]:
    """The squared error of each image by each way to find a code, and its squared distance from the mean image, [n] each."""
    length = np.linalg.norm(decoder.rows, axis=1, keepdims=True)
    unit = jnp.asarray(np.where(length > 0, decoder.rows / np.where(length > 0, length, 1), 0), jnp.float32)
    errors: dict[str, list[Any]] = {}
    first: Any = None
    total = np.zeros(len(decoder.offset))
    for (batch, _, real), on in zip(subject.batches(), active, strict=True):
        image = np.asarray(batch.image, np.float64).reshape(len(batch.image), -1)
        apart = image - decoder.offset
        targets = jnp.asarray(apart, jnp.float32)
        held = jnp.asarray(np.pad(on, ((0, len(image) - real), (0, 0))))
        code = np.asarray(jitted.encode(subject.model, subject.state, batch), np.float64)
        left = {
            "encoder": apart - code @ decoder.rows,
            "omp": np.asarray(orthogonal_matching_pursuit(unit, targets, k), np.float64),
            "lstsq": np.asarray(least_squares(unit, targets, held, most), np.float64),
        }
        for name, rest in left.items():
            errors.setdefault(name, []).append((rest[:real] ** 2).sum(axis=1))
        # About the first image, so that equal ones have a variance of 0 and not one of rounding.
        first = image[0] if first is None else first
        total += (image[:real] - first).sum(axis=0)
    squares = subject.squares_about(first + total / len(subject.rows))
    return {name: np.concatenate(parts) for name, parts in errors.items()}, squares
