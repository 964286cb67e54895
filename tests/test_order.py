"""The order of a run: every pass a permutation, a function of the seed and the position alone."""

from __future__ import annotations

import numpy as np
import pytest

from aecli.data.order import example_at


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 60_000])
def test_each_pass_is_a_permutation(n: int) -> None:
    for epoch in (0, 1, 5):
        seen = example_at(3, np.arange(epoch * n, (epoch + 1) * n), n)
        assert np.array_equal(np.sort(seen), np.arange(n))


def test_a_position_does_not_depend_on_what_else_is_asked_for() -> None:
    whole = example_at(1, np.arange(3000), 1000)
    assert np.array_equal(example_at(1, np.arange(990, 1010), 1000), whole[990:1010])
    assert np.array_equal(example_at(1, np.arange(3000).reshape(30, 100), 1000), whole.reshape(30, 100))


def test_passes_and_seeds_differ() -> None:
    n = 1000
    first, second = example_at(0, np.arange(n), n), example_at(0, np.arange(n, 2 * n), n)
    other = example_at(1, np.arange(n), n)
    assert (first == second).mean() < 0.02 and (first == other).mean() < 0.02


def test_the_order_looks_random() -> None:
    n, seeds = 16, 4000
    counts = np.zeros((n, n))
    for seed in range(seeds):
        counts[np.arange(n), example_at(seed, np.arange(n), n)] += 1
    expected = seeds / n
    chi2 = ((counts - expected) ** 2 / expected).sum()
    freedom = (n - 1) ** 2
    assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom)
    order = example_at(0, np.arange(60_000), 60_000)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02


def test_a_billion_examples_cost_nothing() -> None:
    seen = example_at(0, np.arange(4096) + 7 * 10**9, 10**9)
    assert len(np.unique(seen)) == 4096 and seen.min() >= 0 and seen.max() < 10**9
