"""The bound that a variant with random codes trains on: of one code per image, or of several, from the start or later."""

from __future__ import annotations

from collections.abc import Callable

import jax

from aecli.core.gaussian import importance_bound
from aecli.core.model import Values


def check_samples(samples: int, samples_from: int, kl_warmup: int) -> None:
    """Raises ValueError if the settings do not go together: the bound of several codes has no weight of the rate to raise, so
    that a warm-up must have ended before."""
    if samples_from and samples == 1:
        raise ValueError("samples_from says when samples above 1 begin: set samples")
    if samples > 1 and kl_warmup > samples_from:
        raise ValueError(
            "samples above 1 makes one bound of rate and distortion: leave out kl_warmup, or let samples_from come after it"
        )


def staged(
    samples: int,
    samples_from: int,
    step: jax.Array | None,
    of_one: Callable[[], Values],
    weigh: Callable[[], tuple[jax.Array, jax.Array, jax.Array]],
) -> Values:
    """Per-image values by `of_one()`, and with `samples` above 1 by the log weights, distortions and rates [samples, B] that
    `weigh()` gives (Burda et al. 2016, "Importance weighted autoencoders", equation 8): in training from step `samples_from` on,
    in evaluation, which has no `step`, always."""

    def of_many() -> Values:
        log_weight, distortion, rate = weigh()
        return {"loss": -importance_bound(log_weight), "distortion_nats": distortion.mean(0), "rate_nats": rate.mean(0)}

    if samples == 1:
        return of_one()
    if step is None or not samples_from:
        return of_many()
    return jax.lax.cond(step >= samples_from, of_many, of_one)
