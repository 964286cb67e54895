"""What must be true of every corruption that there is, and that each has the statistics that its name promises."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import experiment

from aecli.core.model import Spec
from aecli.distributions.corruptions import (
    Corruption,
    Corrupts,
    GaussianNoise,
    Hides,
    Masking,
    corrupt,
    default_set,
    label,
    moments,
    usual,
)
from aecli.measures.baselines import linear
from aecli.measures.baselines.filters import Corrupted

IMAGE = 0.2 + 0.6 * jax.random.uniform(jax.random.key(0), (200, 12, 12, 3))


def apply(text: str, seed: int = 1, image: jax.Array = IMAGE) -> Any:
    model: Any = experiment(f"variant: denoising, corruption: {text}").model
    return np.asarray(corrupt(model.corruption, image, jax.random.key(seed)))


# Of every corruption a typical strength and, where there is one, strength 0.
STRENGTHS = {
    "gaussian": ("sigma: 0.25", "sigma: 0.0"),
    "masking": ("p: 0.4", "p: 0.0"),
    "salt_pepper": ("p: 0.2", "p: 0.0"),
    "block": ("size: 3", "size: 0"),
    "downsample": ("factor: 2", "factor: 1"),
    "grayscale": ("", None),
    "outline": ("threshold: 0.25", None),
    "paired": ("", None),
}
OF_IMAGES = [name for name in STRENGTHS if name != "paired"]
"""Those that change the image that they are applied to; what is shown of pairs is in test_pairs.py."""


NOT_KNOWN = {"outline"}
"""Corruptions that do not know the moments of what they make."""


def named(name: str, settings: str) -> str:
    return f"{{name: {name}, {settings}}}"


def classes(base: type[Corrupts] = Corrupts) -> list[type[Corrupts]]:
    """Every class of a corruption, in the union or not."""
    deeper = [cls for child in base.__subclasses__() for cls in classes(child)]
    return [cls for cls in [base, *deeper] if not inspect.isabstract(cls)]


def test_a_config_may_name_every_corruption_and_every_one_is_tested_here() -> None:
    union, _ = get_args(Corruption)
    assert set(get_args(union)) == set(classes())
    assert set(STRENGTHS) == {name for cls in classes() for name in get_args(cls.model_fields["name"].annotation)}


@pytest.fixture(params=OF_IMAGES)
def corruption(request: pytest.FixtureRequest) -> Corruption:
    model: Any = experiment(f"variant: denoising, corruption: {named(request.param, STRENGTHS[request.param][0])}").model
    return model.corruption[0]


@pytest.mark.parametrize("name", [name for name, (_, none) in STRENGTHS.items() if none is not None])
def test_at_strength_0_it_is_the_identity(name: str) -> None:
    none = named(name, str(STRENGTHS[name][1]))
    assert np.array_equal(apply(none), IMAGE)
    assert np.array_equal(apply(f"[{none}, {none}]"), IMAGE)


def test_it_keeps_the_form_and_is_a_function_of_its_arguments(corruption: Corruption) -> None:
    first, again = (corruption(IMAGE, jax.random.key(1)) for _ in range(2))
    compiled = jax.jit(corruption)(IMAGE, jax.random.key(1))
    assert first.shape == IMAGE.shape and first.dtype == IMAGE.dtype and jnp.isfinite(first).all()
    assert jnp.array_equal(first, again) and jnp.allclose(first, compiled, atol=1e-6)
    assert not jnp.array_equal(first, IMAGE)


def test_what_is_drawn_is_drawn_from_the_key(corruption: Corruption) -> None:
    first, other = (corruption(IMAGE, jax.random.key(seed)) for seed in (1, 2))
    draws = "random_bits" in str(jax.make_jaxpr(corruption)(IMAGE, jax.random.key(1)))
    assert jnp.array_equal(first, other) != draws


def test_hidden_pixels_are_those_that_are_taken_away(corruption: Corruption) -> None:
    key = jax.random.key(1)
    region, shown = corruption.hidden(IMAGE, key), corruption(IMAGE, key)
    assert (region is not None) == isinstance(corruption, Hides)
    if region is not None:
        assert region.shape == (200, 12, 12, 1) and region.dtype == bool
        assert jnp.array_equal(region, (shown != IMAGE).any(-1, keepdims=True))
        other = corruption(jnp.where(region, 1 - IMAGE, IMAGE), key)
        assert jnp.array_equal(shown, other), "nothing of what was there is left"


def simple_images(n: int) -> Any:
    """Planes of a few slopes, each in its own colour: what a plain method can restore."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:12, :12] / 11 - 0.5
    slopes = rng.uniform(-0.4, 0.4, (2, n, 1, 1, 1))
    planes = 0.5 + slopes[0] * y[..., None] + slopes[1] * x[..., None] + rng.uniform(-0.1, 0.1, (n, 1, 1, 3))
    return planes.astype(np.float32)


def test_the_usual_restorer_restores(corruption: Corruption) -> None:
    classical = usual([corruption])
    if classical is None:
        pytest.skip("has none")
    image, key = simple_images(40), jax.random.key(1)
    shown, region = np.asarray(corruption(image, key)), corruption.hidden(image, key)
    made = classical.restore(Corrupted(shown, None if region is None else np.asarray(region), image.mean(0)))
    assert made.shape == image.shape and made.dtype == np.float32
    assert ((made - image) ** 2).mean() < ((shown - image) ** 2).mean()


@pytest.mark.parametrize("several", [False, True], ids=["alone", "after others"])
def test_the_moments_of_what_is_made_are_those_that_are_expected(corruption: Corruption, several: bool) -> None:
    spec, n = Spec(4, 4, 3, 0), 100_000
    rng = np.random.default_rng(0)
    image = np.clip(0.5 + 0.1 * rng.standard_normal((8, 4, 4, 3)) + np.linspace(-0.3, 0.3, 4)[:, None, None], 0, 1)
    image = image[np.arange(n) % 8].astype(np.float32)
    others = (GaussianNoise(name="gaussian", sigma=0.1), Masking(name="masking", p=0.2)) if several else ()
    corruptions = (*others, corruption)
    made = np.asarray(corrupt(corruptions, jnp.asarray(image), jax.random.key(1)))
    clean, shown = image.reshape(n, -1), made.reshape(n, -1)
    expected = moments(corruptions, linear.untouched(linear.moments([clean])), spec)
    if corruption.name in NOT_KNOWN:
        pytest.skip("its moments are measured on train images")
    assert expected is not None, "or its name stands in NOT_KNOWN"
    for name, found in linear.seen([(clean, shown)])._asdict().items():
        assert np.allclose(getattr(expected, name), found, atol=4 / np.sqrt(n)), name


def test_several_in_a_row_have_no_usual_restorer() -> None:
    noise = GaussianNoise(name="gaussian", sigma=0.1)
    assert usual([noise]) is not None and usual([noise, noise]) is None and usual([]) is None


@pytest.mark.parametrize("side", range(1, 13))
def test_no_default_corruption_leaves_an_image_as_it_is_or_leaves_nothing_of_it(side: int) -> None:
    for height, width in {(side, side), (1, side), (side, 2)}:
        image = np.random.default_rng(0).uniform(0.2, 0.8, (64, height, width, 1)).astype(np.float32)
        tried = default_set(Spec(height, width, 1, 0))
        made = jax.jit(lambda x, tried=tried: [corrupt(corruptions, x, jax.random.key(0)) for corruptions in tried])(image)
        assert tried
        for corruptions, shown in zip(tried, map(np.asarray, made), strict=True):
            name = f"{label(corruptions)} of {height}x{width}"
            assert (shown != image).any((1, 2, 3)).all(), name
            assert height * width == 1 or (shown != shown[:, :1, :1]).any((1, 2, 3)).all(), name


def test_large_images_are_tried_with_all_of_the_default_set() -> None:
    def labels(height: int, width: int) -> list[str]:
        return [label(corruptions) for corruptions in default_set(Spec(height, width, 1, 0))]

    assert labels(28, 28) == ["gaussian 0.25", "masking 0.5", "block 9", "downsample 2"]
    assert labels(9, 12) == ["gaussian 0.25", "masking 0.5", "block 3"]
    assert labels(8, 8) == ["gaussian 0.25", "masking 0.5", "downsample 2"]
    assert labels(2, 2) == ["gaussian 0.25"]


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


def test_an_outline_is_where_the_luma_steps_by_more_than_the_threshold() -> None:
    steps = np.full((2, 8, 8, 3), 0.3, np.float32)
    steps[0, :, 5:] += 0.2
    steps[1, 2:] += 0.2
    expected = np.zeros((2, 8, 8, 3))
    expected[0, :, 4:6] = expected[1, 1:3] = 1
    assert np.array_equal(apply("{name: outline, threshold: 0.19}", image=jnp.asarray(steps)), expected)
    assert np.array_equal(apply("{name: outline, threshold: 0.19}", image=jnp.asarray(steps[..., :1])), expected[..., :1])
    assert not apply("{name: outline, threshold: 0.21}", image=jnp.asarray(steps)).any()
    red = jnp.asarray(steps) * jnp.asarray([1.0, 0, 0])[None, None, None]
    assert not apply("{name: outline, threshold: 0.07}", image=red).any(), "0.2 of red are 0.06 of luma"
    assert np.array_equal(apply("{name: outline, threshold: 0.05}", image=red), expected)


@pytest.mark.parametrize("level", [0.0, 0.7, 1.0])
def test_an_image_without_edges_has_no_outline(level: float) -> None:
    assert not apply("{name: outline, threshold: 0.0}", image=jnp.full((1, 5, 6, 3), level)).any()


def test_several_are_applied_in_their_order() -> None:
    made = apply("[{name: gaussian, sigma: 0.5}, {name: masking, p: 0.5}]")
    assert 0.45 < (made == 0).mean() < 0.55
    assert (apply("[{name: masking, p: 0.5}, {name: gaussian, sigma: 0.5}]") == 0).mean() < 0.01
