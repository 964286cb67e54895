"""Nearest rows: those that all distances tell, whatever the rows are like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aecli.measures import neighbours
from aecli.measures.neighbours import Known
from aecli.measures.side_by_side import SideBySide


def found(rows: np.ndarray, of: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    with SideBySide() as side_by_side:
        return Known(rows).nearest(of, k, side_by_side)


def expected(rows: np.ndarray, of: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    every = np.linalg.norm(of[:, None].astype(np.float64) - rows[None], axis=2)
    index = np.argsort(every, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(every, index, 1)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 90),
    d=st.integers(1, 5),
    k=st.integers(1, 90),
    shift=st.sampled_from([0.0, 1.0, 1e4]),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    zeros=st.sampled_from([0.0, 0.97]),
    levels=st.sampled_from([0, 3]),
)
def test_the_nearest_rows_are_those_of_all_distances(
    seed: int, n: int, d: int, k: int, shift: float, scale: float, zeros: float, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n + 7, d))
    values = np.where(rng.random(values.shape) < zeros, 0, values.round() if levels else values)
    rows, of = np.split(((values + shift) * scale).astype(np.float32), [n])
    k = min(k, n)
    index, distance = found(rows, of, k)
    _, right = expected(rows, of, k)
    assert np.allclose(distance, right, rtol=1e-9, atol=0)
    assert all(len(set(each)) == k for each in index.tolist())
    assert np.allclose(np.linalg.norm(of[:, None].astype(np.float64) - rows[index], axis=2), distance, rtol=1e-9, atol=0)


@pytest.mark.parametrize("zeros", [0.0, 0.97])
def test_rows_are_looked_through_in_blocks(monkeypatch: pytest.MonkeyPatch, zeros: float) -> None:
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((300, 8)) < zeros, 0, rng.standard_normal((300, 8))).astype(np.float32)
    of = np.concatenate([rows[:5], rng.standard_normal((40, 8)).astype(np.float32)])
    monkeypatch.setattr(neighbours, "BLOCK", 32)
    monkeypatch.setattr(neighbours, "QUERIES", 7)
    monkeypatch.setattr(neighbours, "VALUES", 30)
    for k in (1, 5, 60, 300):
        assert np.allclose(found(rows, of, k)[1], expected(rows, of, k)[1])


@pytest.mark.parametrize("spread", [1e-5, 0.0], ids=["two tight clusters", "copies"])
def test_what_float32_cannot_tell_apart_float64_does(spread: float) -> None:
    rng = np.random.default_rng(0)
    centre = rng.choice([-1.0, 1.0], (400, 1)) * np.ones(6)
    rows, of = centre + spread * rng.standard_normal((400, 6)), centre[:20] + spread * rng.standard_normal((20, 6))
    index, distance = found(rows, of, 5)
    assert np.allclose(distance, expected(rows, of, 5)[1], rtol=1e-6, atol=1e-12)
    assert all(len(set(each)) == 5 for each in index.tolist())


def test_of_equally_near_rows_the_first_comes_first() -> None:
    rows = np.array([[1.0], [0.0], [1.0], [0.0], [5.0]], np.float32)
    assert found(rows, np.array([[0.0], [0.9]], np.float32), 4)[0].tolist() == [[1, 3, 0, 2], [0, 2, 1, 3]]


def test_what_has_no_nearest_row_is_told() -> None:
    rows = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="4 nearest of 3"):
        found(rows, rows, 4)
    with pytest.raises(ValueError, match="not finite"):
        found(np.full((3, 2), np.nan, np.float32), rows, 1)
    assert found(rows, rows[:0], 2)[0].shape == (0, 2)
