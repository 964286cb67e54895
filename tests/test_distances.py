"""Distances between sets of features, where their value is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from aecli.measures import distances

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2000, 6)) @ RNG.standard_normal((6, 6)) + 1


def test_a_set_is_at_distance_0_from_itself() -> None:
    assert distances.frechet(X, X) == pytest.approx(0, abs=1e-8)
    assert all(precise.all() for precise in distances.precision_recall(X, X))
    density, covered = distances.density_coverage(X, X)
    assert density.mean() == pytest.approx(1, abs=0.25) and covered.all()


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


def test_a_mode_that_is_missed_costs_recall_and_one_that_is_made_up_precision() -> None:
    real = np.concatenate([RNG.standard_normal((300, 3)), 50 + RNG.standard_normal((300, 3))])
    half = RNG.standard_normal((600, 3))
    precise, recalled = distances.precision_recall(real, half)
    assert precise.mean() > 0.8 and recalled[:300].mean() > 0.8 and not recalled[300:].any()
    _, covered = distances.density_coverage(real, half)
    assert covered[:300].mean() > 0.8 and not covered[300:].any()
    precise, _ = distances.precision_recall(half, real)
    assert not precise[300:].any()


def test_the_balls_of_a_set_reach_to_the_kth_other_image() -> None:
    """By all distances, sorted: the first is that of an image to itself."""
    real, drawn = RNG.standard_normal((60, 3)), 1 + RNG.standard_normal((50, 3))
    across = np.linalg.norm(drawn[:, None] - real[None], axis=2)

    def reach(x: np.ndarray, k: int) -> np.ndarray:
        return np.sort(np.linalg.norm(x[:, None] - x[None], axis=2), axis=1)[:, k]

    precise, recalled = distances.precision_recall(real, drawn, 3)
    assert np.array_equal(precise, (across <= reach(real, 3)[None]).any(1)) and 0 < precise.mean() < 1
    assert np.array_equal(recalled, (across <= reach(drawn, 3)[:, None]).any(0)) and 0 < recalled.mean() < 1
    density, covered = distances.density_coverage(real, drawn, 5)
    inside = across <= reach(real, 5)[None]
    assert np.allclose(density, inside.sum(1) / 5) and np.array_equal(covered, inside.any(0)) and 0 < covered.mean() < 1


def test_copies_are_nearer_than_new_images() -> None:
    train, held_out, fresh = (RNG.standard_normal((400, 4)) for _ in range(3))

    def copying(drawn: np.ndarray) -> float:
        return distances.copying(distances.nearest(drawn, train)[1], distances.nearest(held_out, train)[1])

    assert copying(fresh) == pytest.approx(0.5, abs=0.06)
    assert copying(train + 1e-3) > 0.97
    assert copying(5 * fresh) < 0.2


def test_the_distance_to_the_nearest_neighbours_is_plain() -> None:
    x, known = RNG.standard_normal((7, 3)), RNG.standard_normal((30, 3))
    every = np.sort(np.linalg.norm(x[:, None] - known[None], axis=2), axis=1)
    for k in (1, 4):
        assert np.allclose(distances.neighbour_distances(x, known, k), every[:, k - 1])
    index, distance = distances.nearest(x, known)
    assert np.allclose(distance, every[:, 0]) and np.allclose(np.linalg.norm(known[index] - x, axis=1), every[:, 0])


def test_rows_are_looked_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = RNG.standard_normal((40, 3))
    known = np.concatenate([RNG.standard_normal((50, 3)), x[:5], x[:5]])  # of equal ones the first is the nearest
    index, distance = distances.nearest(x, known)
    reach = distances.neighbour_distances(x, known, 4)
    monkeypatch.setattr(distances, "BLOCK", 7)
    monkeypatch.setattr(distances, "PAIRS", 20)
    again, far = distances.nearest(x, known)
    assert np.array_equal(again, index) and again[:5].tolist() == [50, 51, 52, 53, 54]
    assert np.allclose(far, distance) and np.allclose(distances.neighbour_distances(x, known, 4), reach)
