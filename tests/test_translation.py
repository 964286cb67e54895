"""What is measured of draws given another image: against direct loops over draws that are known."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, subject

from aecli.core.keys import Stream, stream
from aecli.core.model import Batch
from aecli.evaluation.evaluators import translation
from aecli.measures.metric import Findings

REAL: Any = experiment("variant: vae, hidden: [12], latent: 3, given: {name: downsample, factor: 2}").model


@dataclasses.dataclass(frozen=True)
class Known:
    """Given images as a real model is; what it draws is the image itself, or gray of a level that the key decides."""

    draws: str

    given_corruptions = REAL.given_corruptions
    variant = "known"

    def give(self, batch: Batch, key: jax.Array) -> Batch:
        return REAL.give(batch, key)

    def given_of(self, batch: Batch) -> Any:
        return REAL.given_of(batch)

    def translate(self, state: Any, key: jax.Array, batch: Batch, temperature: Any = 1.0) -> jax.Array:
        if self.draws == "image":
            return batch.image
        return jnp.broadcast_to(jax.random.uniform(key, (len(batch.image), 1, 1, 1)), batch.image.shape)


def measured(draws: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Findings]:
    monkeypatch.setattr(translation, "abilities", lambda model: ())
    ours = subject(Known(draws), None, dataset(held_out=10), baselines=False)
    return ours, translation.measure(ours)


def test_the_image_itself_is_as_near_as_can_be_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = measured("image", monkeypatch)[1].metrics
    for name in ("draw", "best_draw", "mean_draw"):
        assert metrics[f"{name}_psnr_db"].value is None and "equal" in (metrics[f"{name}_psnr_db"].note or "")
    assert metrics["given_mse"].value == 0 and metrics["diversity"].value == 0


def test_draws_are_held_against_the_image_what_is_left_of_it_and_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, found = measured("gray", monkeypatch)
    batch, key, real = ours.few(translation.IMAGES)
    image = np.asarray(batch.image, np.float64)[:real]
    level = np.stack(
        [
            np.asarray(ours.model.translate(None, stream(key, Stream.SAMPLE, number), batch), np.float64)[:real, 0, 0, 0]
            for number in range(translation.DRAWS)
        ]
    )
    assert level.std(0).min() > 0.05 and real == 10

    def error(levels: Any, of: Any) -> Any:
        return ((levels[:, None, None, None] - of) ** 2).mean((1, 2, 3))

    each = np.stack([error(levels, image) for levels in level])
    left = image.reshape(real, 4, 2, 4, 2, 1).mean((2, 4)).repeat(2, 1).repeat(2, 2)
    expected = {
        "draw_mse": each.mean(0),
        "best_draw_mse": each.min(0),
        "mean_draw_mse": error(level.mean(0), image),
        "given_mse": np.stack([error(levels, left) for levels in level]).mean(0),
        "distance": np.stack([np.abs(level[a] - level[b]) for a, b in combinations(range(len(level)), 2)]).mean(0),
    }
    for name, value in expected.items():
        assert np.allclose(found.values[name], value, atol=1e-5), name
    for name in ("draw", "best_draw", "mean_draw"):
        assert found.metrics[f"{name}_psnr_db"].value == pytest.approx(-10 * np.log10(expected[f"{name}_mse"].mean()), abs=1e-3)
    assert found.metrics["given_mse"].value == pytest.approx(expected["given_mse"].mean(), rel=1e-4)
    between = np.mean([np.sqrt(((image[a] - image[b]) ** 2).mean()) for a, b in combinations(range(real), 2)])
    assert found.metrics["diversity"].value == pytest.approx(expected["distance"].mean() / between, rel=1e-4)
