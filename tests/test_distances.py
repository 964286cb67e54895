"""Distances between sets of features, where their value is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from aecli.measures import distances

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2000, 6)) @ RNG.standard_normal((6, 6)) + 1


def overlap(real: np.ndarray, drawn: np.ndarray) -> distances.Overlap:
    return distances.overlap(real, drawn, distances.reaches(real, (3, 5)), distances.reaches(drawn, (3,)))


def test_a_set_is_at_distance_0_from_itself() -> None:
    assert distances.frechet(X, X) == pytest.approx(0, abs=1e-8)
    found = overlap(X, X)
    assert found.precise.all() and found.recalled.all() and found.covered.all()
    assert np.isclose(found.density.mean(), 1.2), "each ball holds its centre and the five that it reaches"


def test_the_frechet_distance_is_that_of_the_formula_with_a_matrix_root() -> None:
    y = RNG.standard_normal((1500, 6)) * np.arange(1, 7) - 0.5
    a, b = np.cov(X, rowvar=False), np.cov(y, rowvar=False)
    expected = ((X.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert distances.frechet(X, y) == pytest.approx(expected, rel=1e-6)
    assert distances.frechet(X, X + 3) == pytest.approx(6 * 9, rel=1e-9), "a shift alone"


def test_the_kid_is_0_on_average_of_one_distribution_and_not_of_two() -> None:
    same = distances.kid(RNG.standard_normal((8000, 6)), RNG.standard_normal((8000, 6)))
    assert len(same) == 8 and abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(8) + 1e-3
    assert np.mean(distances.kid(RNG.standard_normal((2000, 6)), 1 + RNG.standard_normal((2000, 6)))) > 0.5


def test_the_kid_is_the_same_of_images_in_the_order_of_their_classes() -> None:
    """Of which a block, as they lie, is of one class alone."""
    label = RNG.integers(0, 10, 4000)
    places = 5 * RNG.standard_normal((10, 6))
    real = places[label] + RNG.standard_normal((4000, 6))
    drawn = places[RNG.integers(0, 10, 4000)] + RNG.standard_normal((4000, 6))
    whole = np.mean([np.mean(distances.kid(real[RNG.permutation(4000)], drawn)) for _ in range(4)])
    for few in (4000, 900):
        ordered = distances.kid(real[np.argsort(label)], drawn[:few])
        assert abs(np.mean(ordered) - whole) < 0.1 * abs(distances.kid(real[label == 0], drawn)[0])


def test_a_mode_that_is_missed_costs_recall_and_one_that_is_made_up_precision() -> None:
    real = np.concatenate([RNG.standard_normal((300, 3)), 50 + RNG.standard_normal((300, 3))])
    half = RNG.standard_normal((600, 3))
    precise, recalled, _, _, covered = overlap(real, half)
    assert precise.mean() > 0.8 and recalled[:300].mean() > 0.8 and not recalled[300:].any()
    assert covered[:300].mean() > 0.8 and not covered[300:].any()
    assert not overlap(half, real).precise[300:].any()


def test_the_balls_of_a_set_reach_to_the_kth_other_image() -> None:
    """By all distances, sorted: the first is that of an image to itself."""
    real, drawn = RNG.standard_normal((60, 3)), 1 + RNG.standard_normal((50, 3))
    across = np.linalg.norm(drawn[:, None] - real[None], axis=2)

    def reach(x: np.ndarray, k: int) -> np.ndarray:
        return np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)[:, k]

    precise, recalled, density, held, covered = overlap(real, drawn)
    assert np.array_equal(precise, (across <= reach(real, 3)[None]).any(1)) and 0 < precise.mean() < 1
    assert np.array_equal(recalled, (across <= reach(drawn, 3)[:, None]).any(0)) and 0 < recalled.mean() < 1
    inside = across <= reach(real, 5)[None]
    assert np.allclose(density, inside.sum(1) / 5) and np.array_equal(covered, inside.any(0)) and 0 < covered.mean() < 1
    assert np.allclose(held, inside.sum(0) * 60 / (5 * 50)) and held.mean() == pytest.approx(density.mean())


def test_the_influence_of_a_row_is_how_its_weight_moves_the_frechet_distance() -> None:
    """By differences: of a set in which one row stands a little oftener than the others."""
    x, y = RNG.standard_normal((4000, 3)), 0.5 + RNG.standard_normal((500, 3)) @ RNG.standard_normal((3, 3))

    def distance(x: np.ndarray, more: float, at: int) -> float:
        weights = np.full(len(x), 1 / len(x)) * (1 - more)
        weights[at] += more
        mean = weights @ x
        # Rows of two sets with such a mean and covariance, whatever their number: the distance is of these alone.
        root = np.linalg.cholesky((x - mean).T @ (weights[:, None] * (x - mean)))
        return distances.frechet(mean + corners @ root.T, y)

    corners = np.sqrt(5 / 2) * np.concatenate([np.eye(3), -np.eye(3)])  # covariance 1, of 6 rows
    by_rule = distances.frechet_influences(x, y)[0]
    by_differences = [(distance(x, 1e-5, at) - distance(x, -1e-5, at)) / 2e-5 for at in range(5)]
    assert by_rule[:5] == pytest.approx(by_differences, rel=0.01, abs=0.01)
    assert by_rule.mean() == pytest.approx(0, abs=0.01)


def test_copies_are_nearer_than_new_images() -> None:
    train, held_out, fresh = (RNG.standard_normal((400, 4)) for _ in range(3))

    def copying(drawn: np.ndarray) -> float:
        return distances.copying(distances.nearest(drawn, train)[1], distances.nearest(held_out, train)[1])

    assert copying(fresh) == pytest.approx(0.5, abs=0.06)
    assert copying(train + 1e-3) > 0.97
    assert copying(5 * fresh) < 0.2


def test_the_distance_to_the_nearest_neighbours_is_plain() -> None:
    x, known = RNG.standard_normal((7, 3)), RNG.standard_normal((30, 3))
    every = np.linalg.norm(x[:, None] - known[None], axis=2)
    index, distance = distances.nearest(x, known)
    assert np.allclose(distance, every.min(1)) and np.array_equal(index, every.argmin(1))
    within = np.sort(np.linalg.norm(known[:, None] - known[None], axis=2), axis=1)
    assert all(np.allclose(reach, within[:, k]) for k, reach in distances.reaches(known, (1, 4)).items())
    few = np.linalg.norm(known[:3, None] - known[None, :3], axis=2)
    assert np.allclose(distances.reaches(known[:3], (5,))[5], few.max(1)), "as far as there are others"


def test_pairs_are_looked_through_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    real, drawn = RNG.standard_normal((60, 3)), 1 + RNG.standard_normal((50, 3))
    whole = overlap(real, drawn)
    monkeypatch.setattr(distances, "PAIRS", 200)
    assert all(np.array_equal(one, other) for one, other in zip(whole, overlap(real, drawn), strict=True))


def test_what_is_equal_but_for_rounding_has_no_distance() -> None:
    x = 1e3 + RNG.standard_normal((40, 6))
    again = x * (1 + 1e-15)
    assert not distances.nearest(again, x)[1].any()
    assert not distances.has_radius(distances.reaches(np.concatenate([x, again, x, again]), (3,))[3])
    assert distances.has_radius(distances.reaches(np.concatenate([x, again]), (3,))[3])
