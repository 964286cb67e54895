"""Codes of known distributions, and what a flow that was fitted to them draws."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aecli.sampling import flow_matching
from aecli.sampling.flow_matching import FlowRecipe

SMALL = FlowRecipe(width=96, blocks=2, steps=1000, batch=256)
UNTRAINED = SMALL._replace(steps=1, rate=0.0)
CENTRES = np.array([[-4.0, 0.0, 0.0], [0.0, 3.0, 1.0], [4.0, 0.0, 0.0], [0.0, -3.0, -1.0]])
SHARES = np.array([0.4, 0.3, 0.2, 0.1])


def mixture(n: int, seed: int) -> tuple[Any, Any]:
    """Codes of four Gaussians of standard deviation 0.3, some in each as often as it weighs, and which it was."""
    rng = np.random.default_rng(seed)
    which = rng.choice(4, n, p=SHARES).astype(np.int32)
    return CENTRES[which] + 0.3 * rng.standard_normal((n, 3)), which


def drawn(arrays: Any, label: Any, seed: int = 0, temperature: float = 1.0) -> Any:
    return np.asarray(flow_matching.draw(arrays, jax.random.key(seed), jnp.asarray(label, jnp.int32), temperature))


def distance_to_centres(codes: Any) -> Any:
    return np.linalg.norm(codes[:, None] - CENTRES[None], axis=2)


@pytest.fixture(scope="module")
def of_classes() -> Any:
    codes, which = mixture(4000, 0)
    return flow_matching.fit(codes, which, 4, 0, SMALL)


@pytest.fixture(scope="module")
def of_none() -> Any:
    codes, which = mixture(4000, 0)
    return flow_matching.fit(codes, which, 0, 0, SMALL)


def test_the_first_flow_is_the_gaussian_of_the_codes() -> None:
    """Between two Gaussians the field is known in closed form, and the network adds nothing to it before it is trained."""
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((3000, 4)) @ rng.standard_normal((4, 4)) + np.arange(4)
    made = drawn(flow_matching.fit(codes, np.zeros(3000, np.int32), 0, 0, UNTRAINED), np.zeros(40_000))
    covariance = np.cov(codes, rowvar=False)
    assert np.allclose(made.mean(0), codes.mean(0), atol=0.05)
    assert np.allclose(np.cov(made, rowvar=False), covariance, atol=0.03 * np.abs(covariance).max())


def test_modes_are_drawn_as_often_as_they_weigh_and_little_between_them(of_none: Any) -> None:
    codes, which = mixture(4000, 0)
    gaussian = flow_matching.fit(codes, which, 0, 0, UNTRAINED)
    made, blurred = (drawn(arrays, np.zeros(4000)) for arrays in (of_none, gaussian))
    near = distance_to_centres(made)
    assert (near.min(1) < 1.2).mean() > 0.85 and (distance_to_centres(blurred).min(1) < 1.2).mean() < 0.5
    assert np.abs(np.bincount(near.argmin(1), minlength=4) / 4000 - SHARES).max() < 0.05
    fresh, _ = mixture(4000, 1)
    assert np.allclose(made.mean(0), fresh.mean(0), atol=0.25)
    assert np.allclose(np.cov(made, rowvar=False), np.cov(fresh, rowvar=False), atol=0.8)


def test_draws_of_a_class_are_of_that_class(of_classes: Any) -> None:
    label = np.arange(2000) % 4
    assert (distance_to_centres(drawn(of_classes, label)).argmin(1) == label).mean() > 0.98


def test_a_curved_distribution_is_followed_where_a_gaussian_is_not() -> None:
    from sklearn.datasets import make_moons

    codes, fresh = (np.asarray(make_moons(n, noise=0.05, random_state=seed)[0]) for seed, n in enumerate((4000, 1500)))
    flow, gaussian = (
        drawn(flow_matching.fit(codes, np.zeros(4000, np.int32), 0, 0, recipe), np.zeros(1500)) for recipe in (SMALL, UNTRAINED)
    )
    near = {name: np.linalg.norm(made[:, None] - fresh[None], axis=2) for name, made in (("flow", flow), ("gaussian", gaussian))}
    for axis, share in ((1, 0.6), (0, 0.8)):  # of draws from the data, and of data from the draws
        assert near["flow"].min(axis).mean() < share * near["gaussian"].min(axis).mean()


def test_the_seed_decides_every_bit(of_none: Any) -> None:
    codes, which = mixture(4000, 0)
    short = SMALL._replace(steps=5)
    one, same, other = (flow_matching.fit(codes, which, 4, seed, short) for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in one) and not np.array_equal(one["out"], other["out"])
    label = np.zeros(50)
    assert np.array_equal(drawn(of_none, label), drawn(of_none, label))
    assert not np.array_equal(drawn(of_none, label), drawn(of_none, label, seed=1))


def test_a_low_temperature_draws_less_varied_codes(of_classes: Any) -> None:
    wild, calm, still = (drawn(of_classes, np.full(500, 2), temperature=t) for t in (1.0, 0.3, 0.0))
    assert calm.std(0).max() < wild.std(0).max() and (still == still[0]).all()


def test_a_latent_that_never_changes_stays_as_it_is() -> None:
    codes, which = mixture(500, 0)
    constant = np.concatenate([codes, np.full((500, 2), 7.0)], axis=1)
    made = drawn(flow_matching.fit(constant, which, 4, 0, SMALL._replace(steps=20)), which)
    assert np.isfinite(made).all() and np.abs(made[:, 3:] - 7).max() < 0.05
    alike = drawn(flow_matching.fit(np.full((10, 3), 2.0), which[:10], 0, 0, SMALL._replace(steps=2)), which)
    assert np.allclose(alike, 2, atol=1e-3)


def test_images_without_a_label_are_of_no_class() -> None:
    codes, which = mixture(300, 0)
    made = drawn(flow_matching.fit(codes, np.where(which == 3, -1, which), 4, 0, SMALL._replace(steps=20)), which)
    assert made.shape == (300, 3) and np.isfinite(made).all()


def test_few_codes_are_seen_for_fewer_steps() -> None:
    assert FlowRecipe().of(20_000).steps == FlowRecipe().steps
    assert FlowRecipe(batch=256, epochs=200).of(512).steps == 400 and FlowRecipe().of(1).steps == 1
