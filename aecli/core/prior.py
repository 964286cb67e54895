"""Priors p(z) over codes, of variants whose codes are random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import jax

from aecli.core.gaussian import Gaussian, standard_normal_log_prob

SETTINGS: Mapping[str, str] = {"vamp": "pseudo_inputs", "mog": "components", "flow": "couplings"}
"""The setting that one prior has and the others have not."""


def check_prior(prior: str, latent: int, changed: Callable[[str], bool]) -> None:
    """Raises ValueError if a setting of another prior is `changed`, or codes are too short for the prior."""
    for name, setting in SETTINGS.items():
        if name != prior and changed(setting):
            raise ValueError(f"{setting} is for prior: {name}")
    if prior == "flow" and latent == 1:
        raise ValueError("prior: flow moves one half of a code by the other one: latent of 2 or more")


class Prior(Protocol):
    def log_prob(self, code: jax.Array) -> jax.Array:
        """[B, latent] -> [B] nats."""
        ...

    def sample(self, key: jax.Array, n: int, temperature: jax.Array | float = 1.0) -> jax.Array:
        """n codes, [n, latent]; the spread of each component is scaled by `temperature`."""
        ...


class StandardNormal(NamedTuple):
    latent: int

    def log_prob(self, code: jax.Array) -> jax.Array:
        return standard_normal_log_prob(code)

    def sample(self, key: jax.Array, n: int, temperature: jax.Array | float = 1.0) -> jax.Array:
        return temperature * jax.random.normal(key, (n, self.latent))


class EvenMixture(NamedTuple):
    """Of equally likely Gaussians."""

    components: Gaussian

    def log_prob(self, code: jax.Array) -> jax.Array:
        return self.components.mixture_log_prob(code)

    def sample(self, key: jax.Array, n: int, temperature: jax.Array | float = 1.0) -> jax.Array:
        return self.components.sample_mixture(key, n, temperature)


class Invertible(Protocol):
    """A map between codes and a base, [B, latent] both ways."""

    def to_base(self, code: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The base, and the logarithm of the determinant of the map's derivative, [B]."""
        ...

    def from_base(self, code: jax.Array) -> jax.Array:
        """The inverse."""
        ...


class Flow(NamedTuple):
    """What an invertible map makes of a standard normal (Rezende & Mohamed 2015, "Variational inference with normalizing flows",
    equation 5)."""

    map: Invertible
    latent: int

    def log_prob(self, code: jax.Array) -> jax.Array:
        base, log_det = self.map.to_base(code)
        return standard_normal_log_prob(base) + log_det

    def sample(self, key: jax.Array, n: int, temperature: jax.Array | float = 1.0) -> jax.Array:
        return self.map.from_base(StandardNormal(self.latent).sample(key, n, temperature))
