"""Corruptions have the statistics that their names promise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import experiment

from aecli.distributions.corruptions import corrupt

IMAGE = 0.2 + 0.6 * jax.random.uniform(jax.random.key(0), (200, 12, 12, 3))


def apply(text: str, seed: int = 1, image: jax.Array = IMAGE) -> Any:
    model: Any = experiment(f"variant: denoising, corruption: {text}").model
    return np.asarray(corrupt(model.corruption, image, jax.random.key(seed)))


@pytest.mark.parametrize(
    "text",
    [
        "{name: gaussian, sigma: 0.0}",
        "{name: masking, p: 0.0}",
        "{name: salt_pepper, p: 0.0}",
        "{name: block, size: 0}",
        "{name: downsample, factor: 1}",
        "[{name: block, size: 0}, {name: gaussian, sigma: 0.0}]",
    ],
)
def test_at_strength_0_it_is_the_identity(text: str) -> None:
    assert np.array_equal(apply(text), IMAGE)


@pytest.mark.parametrize("text", ["{name: gaussian, sigma: 0.3}", "{name: masking, p: 0.4}", "{name: block, size: 3}"])
def test_it_is_a_function_of_the_key(text: str) -> None:
    assert np.array_equal(apply(text, 1), apply(text, 1)) and not np.array_equal(apply(text, 1), apply(text, 2))


def test_gaussian_noise_has_its_sigma_and_is_not_clipped() -> None:
    noise = apply("{name: gaussian, sigma: 0.5}") - np.asarray(IMAGE)
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 0.5) < 0.01
    assert (apply("{name: gaussian, sigma: 0.5}") < 0).any()


def test_masking_takes_whole_pixels_as_often_as_it_says() -> None:
    made = apply("{name: masking, p: 0.3}")
    gone = made == 0
    assert np.array_equal(gone.any(-1), gone.all(-1)) and abs(gone.mean() - 0.3) < 0.02
    assert np.array_equal(made[~gone], np.asarray(IMAGE)[~gone])


def test_salt_and_pepper_are_equally_frequent() -> None:
    made = apply("{name: salt_pepper, p: 0.4}")
    assert abs((made == 0).mean() - 0.2) < 0.01 and abs((made == 1).mean() - 0.2) < 0.01


def test_a_block_is_a_square_anywhere_in_the_image() -> None:
    gone = (apply("{name: block, size: 4}") == 0).all(-1)
    assert (gone.sum((1, 2)) == 16).all() and (gone.any(2).sum(1) == 4).all() and (gone.any(1).sum(1) == 4).all()
    assert gone.any(0).all(), "every place is reached"
    assert (apply("{name: block, size: 12}") == 0).all()


def test_downsampling_keeps_the_mean_of_every_square() -> None:
    made, squares = apply("{name: downsample, factor: 3}"), np.asarray(IMAGE).reshape(200, 4, 3, 4, 3, 3)
    assert np.allclose(made.reshape(200, 4, 3, 4, 3, 3), squares.mean((2, 4), keepdims=True), atol=1e-6)


def test_gray_is_the_luma_in_every_channel() -> None:
    made = apply("{name: grayscale}")
    assert np.allclose(made, (np.asarray(IMAGE) @ [0.299, 0.587, 0.114])[..., None], atol=1e-6)
    gray = jnp.broadcast_to(IMAGE[..., :1], IMAGE.shape)
    assert np.allclose(apply("{name: grayscale}", image=gray), gray, atol=1e-6)


def test_several_are_applied_in_their_order() -> None:
    made = apply("[{name: gaussian, sigma: 0.5}, {name: masking, p: 0.5}]")
    assert 0.45 < (made == 0).mean() < 0.55
    assert (apply("[{name: masking, p: 0.5}, {name: gaussian, sigma: 0.5}]") == 0).mean() < 0.01
