"""Abilities as compiled calls: one program for a model and a shape, whoever asks for it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax

from aecli.core.abilities import features_of
from aecli.core.gaussian import Gaussian
from aecli.core.model import Batch, Values, check_codes_values
from aecli.core.parts import in_parts


def give(model: Any, batch: Batch, key: jax.Array) -> Batch:
    """The batch with what the model is given of each image."""
    return _give(model, batch, key) if model.given_corruptions else batch


@partial(jax.jit, static_argnames=("model",))
def _give(model: Any, batch: Batch, key: jax.Array) -> Batch:
    return model.give(batch, key)


@partial(jax.jit, static_argnames=("model",))
def encode(model: Any, state: Any, batch: Batch) -> jax.Array:
    """[B, latent]."""
    return in_parts(model, lambda part: model.encode(state, part), batch)


@partial(jax.jit, static_argnames=("model",))
def features(model: Any, state: Any, batch: Batch) -> jax.Array:
    """What probes and clusterings are given, [B, n]."""
    return in_parts(model, lambda part: features_of(model)(state, part), batch)


@partial(jax.jit, static_argnames=("model",))
def decode(model: Any, state: Any, code: jax.Array, label: jax.Array) -> jax.Array:
    """[B, latent] and [B] -> [B, H, W, C]."""
    return model.decode(state, code, label)


@partial(jax.jit, static_argnames=("model",))
def reconstruct(model: Any, state: Any, batch: Batch) -> jax.Array:
    """[B, H, W, C]."""
    return in_parts(model, lambda part: model.reconstruct(state, part), batch)


@partial(jax.jit, static_argnames=("model",))
def sample(model: Any, state: Any, key: jax.Array, label: jax.Array, temperature: jax.Array) -> jax.Array:
    """[n] and a number -> [n, H, W, C]."""
    return model.sample(state, key, label, temperature)


@partial(jax.jit, static_argnames=("model",))
def translate(model: Any, state: Any, key: jax.Array, batch: Batch, temperature: jax.Array) -> jax.Array:
    """[B, H, W, C]."""
    return model.translate(state, key, batch, temperature)


@partial(jax.jit, static_argnames=("model",))
def complete(model: Any, state: Any, key: jax.Array, batch: Batch, known: jax.Array, temperature: jax.Array) -> jax.Array:
    """[B, H, W, C] bool and a number -> [B, H, W, C]."""
    return model.complete(state, key, batch, known, temperature)


@partial(jax.jit, static_argnames=("model",))
def log_prob(model: Any, state: Any, batch: Batch) -> jax.Array:
    """log p(x), [B] nats."""
    return in_parts(model, lambda part: model.log_prob(state, part), batch)


@partial(jax.jit, static_argnames=("model",))
def rest_log_prob(model: Any, state: Any, batch: Batch, known: jax.Array) -> jax.Array:
    """[B, H, W, C] bool -> [B] nats."""
    return model.rest_log_prob(state, batch, known)


@partial(jax.jit, static_argnames=("model",))
def codes_of(model: Any, state: Any, batch: Batch) -> jax.Array:
    """[B, n] int32."""
    return in_parts(model, lambda part: model.codes_of(state, part), batch)


@partial(jax.jit, static_argnames=("model",))
def measure_codes(model: Any, codes: jax.Array, key: jax.Array) -> Values:
    """[n, latent] -> name -> a number. Raises ContractError if one isn't a number."""
    return check_codes_values(model, model.measure_codes(codes, key))


@partial(jax.jit, static_argnames=("model",))
def posterior(model: Any, state: Any, batch: Batch) -> Gaussian:
    """q(z | x) of each image."""
    return in_parts(model, lambda part: model.posterior(state, part), batch)


@partial(jax.jit, static_argnames=("model",))
def active(model: Any, state: Any, batch: Batch) -> jax.Array:
    """Which units are, [B, units] bool."""
    return in_parts(model, lambda part: model.active(state, part), batch)
