"""Whoever takes pixels away says which: models need not guess it from zeros."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import first_state
from fit import dataset, experiment

from aecli.core.learner import Recipe
from aecli.core.model import Batch
from aecli.core.optimizer import Optimizer
from aecli.distributions.corruptions import Block, Corruption, GaussianNoise, Masking, corrupt_batch
from aecli.evaluation import restorers
from aecli.evaluation.evaluators import denoising, reconstruction
from aecli.models.bottleneck import Bottleneck
from aecli.runs.trained import Trained
from aecli.sampling.given import Given
from aecli.sampling.modes import MODES
from aecli.sampling.request import SampleRequest
from aecli.system.placement import placement

DATA = dataset()
# No value is 0, so that what is hidden can be told from the images.
BATCH = Batch(0.2 + 0.6 * jax.random.uniform(jax.random.key(0), (16, 8, 8, 1)), jnp.zeros(16, jnp.int32), jnp.ones(16, bool))
MODELS = {
    "bottleneck": "net: linear, latent: 3",
    "denoising": "net: mlp, hidden: [12], latent: 9",
    "sparse": "units: 30, k: 4",
    "vae": "hidden: [12], latent: 3",
}
HIDING = ["{name: masking, p: 0.4}", "{name: block, size: 4}", "[{name: masking, p: 0.2}, {name: block, size: 3}]"]
OTHERS = ["{name: gaussian, sigma: 0.2}", "{name: salt_pepper, p: 0.2}", "{name: downsample, factor: 2}"]
MASKING = Masking(name="masking", p=0.4)
BLOCK = Block(name="block", size=4)
NOISE = GaussianNoise(name="gaussian", sigma=0.2)


@pytest.mark.parametrize("text", HIDING + OTHERS)
@pytest.mark.parametrize("variant", MODELS)
def test_training_and_evaluation_are_told_what_is_hidden(variant: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = experiment(f"variant: {variant}, {MODELS[variant]}, corruption: {text}").model
    clean: Any = experiment(f"variant: {variant}, {MODELS[variant]}").model  # of the same network
    state = first_state(clean, DATA.spec, Recipe(Optimizer(), 100))
    seen: list[Batch] = []
    corrupt = type(model).corrupt

    def noted(self: Any, batch: Batch, key: jax.Array) -> Batch:
        assert batch.image is BATCH.image, "the target is the clean image"
        seen.append(corrupt(self, batch, key))
        return seen[-1]

    monkeypatch.setattr(type(model), "corrupt", noted)

    @jax.jit
    def told() -> list[Batch]:
        if text == HIDING[0]:
            model.train_step(state, BATCH, jax.random.key(1))
        model.evaluate(state, BATCH, jax.random.key(1))
        return seen

    shown_to_it = told()
    assert len(shown_to_it) == 1 + (text == HIDING[0])
    for shown in shown_to_it:
        changed = (shown.image != BATCH.image).any(-1, keepdims=True)
        assert changed.any()
        assert (shown.hidden is None) == (text in OTHERS)
        assert shown.hidden is None or jnp.array_equal(shown.hidden, changed)


def test_a_model_that_is_shown_clean_images_is_shown_the_batch() -> None:
    model = experiment("variant: vae, hidden: [12], latent: 3").model
    shown = model.corrupt(BATCH, jax.random.key(1))
    assert shown.image is BATCH.image and shown.hidden is None


def test_what_was_hidden_before_stays_hidden() -> None:
    first = corrupt_batch([MASKING], BATCH, jax.random.key(1))
    assert first.hidden is not None
    noisy, both = (corrupt_batch([more], first, jax.random.key(2)) for more in (NOISE, BLOCK))
    assert noisy.hidden is not None and jnp.array_equal(noisy.hidden, first.hidden)
    assert both.hidden is not None and jnp.array_equal(both.hidden, both.image == 0)


class Told(Bottleneck):
    """Makes of an image where it is hidden: 1 there, 0 elsewhere, and 0.5 everywhere where it was not told."""

    def reconstruct(self, state: Any, batch: Batch) -> jax.Array:
        region = jnp.full_like(batch.image, 0.5) if batch.hidden is None else batch.hidden.astype(jnp.float32)
        return jnp.broadcast_to(region, batch.image.shape)

    def complete(self, state: Any, key: jax.Array, batch: Batch, known: jax.Array, temperature: Any = 1.0) -> jax.Array:
        return self.reconstruct(state, batch)


def region_of(shown: Any) -> Any:
    """What `Told` makes where it is told the pixels that are 0 now."""
    return (np.asarray(shown) == 0).all(-1, keepdims=True).astype(np.float32)


@pytest.mark.parametrize("corruption", [MASKING, BLOCK, NOISE], ids=lambda c: c.name)
def test_evaluators_tell_what_is_hidden(corruption: Corruption) -> None:
    key = jax.random.key(3)
    shown, region = restorers.pair((corruption,), BATCH, key)
    expected = 0.5 * np.ones((16, 8, 8, 1)) if corruption is NOISE else region_of(shown)
    restored = denoising._restored(Told(), None, (corruption,), BATCH, key)
    assert np.allclose(restored["mse"], ((expected - BATCH.image) ** 2).mean((1, 2, 3)), rtol=1e-5)
    assert (region is None) == (corruption is NOISE) == ("hidden" not in restored)
    if region is not None:
        assert np.array_equal(restored["hidden"], region.sum((1, 2, 3))) and np.array_equal(region, expected)
    values, _ = reconstruction._values(Told(corruption=(corruption,)), None, BATCH, key, BATCH.image[0], False, True)
    assert np.allclose(values["mse"], ((expected - BATCH.image) ** 2).mean((1, 2, 3)), rtol=1e-5)


def ask(model: Any, **more: Any) -> Given:
    e = experiment("variant: bottleneck").model_copy(update={"model": model})
    return Given(Trained(e, DATA.spec, None, 0, placement(16)), lambda: DATA, 4, SampleRequest(**more))


def test_modes_tell_what_is_hidden() -> None:
    arrays = MODES["reconstruct"].show(ask(Told(corruption=(BLOCK,)))).arrays
    assert np.array_equal(arrays["reconstruction"].mean((1, 2, 3)), np.full(4, 255 * 16 / 64))
    assert (arrays["corrupted"][arrays["reconstruction"] == 255] == 0).all()
    arrays = MODES["denoise"].show(ask(Told(corruption=(BLOCK,)))).arrays
    assert np.array_equal(arrays["restored from block 4"].mean((1, 2, 3)), np.full(4, 255 * 16 / 64))
    assert (arrays["block 4"][arrays["restored from block 4"] == 255] == 0).all()
    for region in ("upper", "left", "block"):
        arrays = MODES["complete"].show(ask(Told(), region=region)).arrays
        assert np.array_equal(arrays["completion"][..., 0] == 0, np.broadcast_to(arrays["known"], (4, 8, 8)))
