"""Codes of a dictionary: against scikit-learn's pursuit and NumPy's least squares, and what an evaluation says of an encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, started, subject

from aecli.data.rows import ArrayRows
from aecli.evaluation import cost
from aecli.evaluation.evaluators import pursuit
from aecli.evaluation.registry import chosen
from aecli.measures.pursuit import least_squares, orthogonal_matching_pursuit

SPARSE = "variant: sparse, penalty: topk, units: 40, k: 5"


def dictionary(m: int, d: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((m, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), rng.standard_normal((n, d))


def held(function: Callable[..., Any], *arrays: np.ndarray, **more: int) -> np.ndarray:
    """The function of float32 arrays; what is bool stays so."""
    return np.asarray(function(*(jnp.asarray(x, None if x.dtype == bool else jnp.float32) for x in arrays), **more))


@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_pursuit_is_that_of_scikit_learn(k: int) -> None:
    from sklearn.linear_model import orthogonal_mp

    rows, targets = dictionary(30, 12, 20)
    theirs = orthogonal_mp(rows.T, targets.T, n_nonzero_coefs=k).T
    assert np.allclose(held(orthogonal_matching_pursuit, rows, targets, k=k), targets - theirs @ rows, atol=2e-5)


def test_of_a_sum_of_few_rows_nothing_is_left() -> None:
    rows, _ = dictionary(30, 200, 1)
    code = np.zeros((10, 30))
    for i in range(10):
        code[i, [i, i + 7, i + 15]] = [3, -2, 1]
    assert np.abs(held(orthogonal_matching_pursuit, rows, code @ rows, k=2)).max() > 0.1
    assert np.allclose(held(orthogonal_matching_pursuit, rows, code @ rows, k=3), 0, atol=1e-5)


def test_equal_rows_and_rows_of_nothing_do_no_harm() -> None:
    rows, targets = dictionary(6, 12, 5)
    rows[1], rows[2] = rows[0], 0
    best = np.linalg.lstsq(rows.T, targets.T, rcond=None)[0].T
    assert np.allclose(held(orthogonal_matching_pursuit, rows, targets, k=6), targets - best @ rows, atol=1e-5)


@pytest.mark.parametrize("apart", [1e-2, 1e-5])
def test_many_rows_that_are_nearly_alike_leave_what_they_must(apart: float) -> None:
    """Their inner products are singular in float32; what is left lies between what all of them could take and all of it."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(200)[None] + apart * rng.standard_normal((120, 200))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    targets = rng.standard_normal((4, 200))
    active = np.ones((4, 120), bool)
    best = ((targets - targets @ np.linalg.pinv(rows) @ rows) ** 2).sum()
    common = rows.mean(0) / np.linalg.norm(rows.mean(0))
    least = ((targets - (targets @ common)[:, None] * common) ** 2).sum()
    for left in (held(least_squares, rows, targets, active, most=120), held(orthogonal_matching_pursuit, rows, targets, k=100)):
        assert np.isfinite(left).all() and 0.999 * best <= (left**2).sum() <= 1.001 * least
    if apart == 1e-2:
        assert (held(least_squares, rows, targets, active, most=120) ** 2).sum() == pytest.approx(best, rel=1e-3)


def test_what_active_rows_leave_is_orthogonal_to_them() -> None:
    rows, targets = dictionary(30, 12, 20)
    active = np.random.default_rng(1).random((20, 30)) < 0.2
    active[0] = False
    left = held(least_squares, rows, targets, active, most=int(active.sum(1).max()))
    for target, on, rest in zip(targets, active, left, strict=True):
        best = np.linalg.lstsq(rows[on].T, target, rcond=None)[0] @ rows[on] if on.any() else 0 * target
        assert np.allclose(rest, target - best, atol=1e-5)


def test_an_encoder_is_held_to_what_its_dictionary_could_do() -> None:
    data = dataset(train=120, held_out=30)
    e, state = started(SPARSE, data)
    ours = subject(e.model, state, data)
    assert "pursuit" in chosen(ours).names
    found = pursuit.measure(ours).metrics
    omp, least, gap = (found[name] for name in ("explained_variance_omp", "explained_variance_lstsq", "amortization_gap"))
    assert omp.baselines == least.baselines and omp.protocol["active"] == 5
    encoder = omp.baselines["encoder"]
    images = np.concatenate(list(ours.images()))
    code = np.concatenate([np.asarray(e.model.encode(state, batch))[:real] for batch, _, real in ours.batches()])
    rows, mean = (np.asarray(getattr(state.net, name)[...]) for name in ("rows", "mean"))
    error = ((images - code @ rows - mean) ** 2).sum()
    assert encoder == pytest.approx(1 - error / ((images - images.mean(0)) ** 2).sum(), rel=1e-4)
    assert least.value >= encoder and omp.value > encoder and gap.value == pytest.approx(omp.value - encoder)
    assert omp.standard_error > 0 and least.standard_error > 0 and gap.standard_error == omp.difference_errors["encoder"] > 0


@pytest.mark.parametrize("image", range(4))
def test_images_that_are_alike_have_nothing_to_explain(image: int) -> None:
    data = dataset(train=120, held_out=30)
    same = ArrayRows(np.repeat(data.test.all()[0][image : image + 1], 30, axis=0), data.test.labels)
    e, state = started(SPARSE, data)
    found = pursuit.measure(subject(e.model, state, dataclasses.replace(data, test=same))).metrics
    assert all(metric.value is None and "alike" in str(metric.note) for metric in found.values())


def test_of_a_code_whose_inactive_units_are_not_zero_there_is_no_gap() -> None:
    data = dataset(train=120, held_out=30)
    e, state = started("variant: sparse, penalty: kl, units: 12", data)
    low = jnp.where(jnp.arange(12) < 3, -10.0, 0.0)  # a sigmoid of almost, not quite, 0
    state = jax.tree_util.tree_map_with_path(lambda path, x: low if "bias" in jax.tree_util.keystr(path) else x, state)
    found = pursuit.measure(subject(e.model, state, data)).metrics
    assert all(metric.value is None and "inactive are not 0" in str(metric.note) for metric in found.values())


def test_a_pursuit_in_a_large_dictionary_is_left_to_who_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(train=120, held_out=30)
    e, state = started(SPARSE, data)
    assert pursuit.flop(subject(e.model, state, data)) == 30 * 5 * 2 * 40 * 64
    monkeypatch.setattr(cost, "LARGEST_FLOP", 1e5)
    assert "pursuit" in chosen(subject(e.model, state, data)).left_out


def test_a_decoder_that_does_not_add_rows_up_has_no_dictionary() -> None:
    data = dataset(train=120, held_out=30)
    e, state = started("variant: sparse, penalty: l1, net: mlp, hidden: [12], units: 12", data)
    assert "no dictionary" in str(pursuit.cannot(subject(e.model, state, data)))
    assert any("no pursuit" in note for note in chosen(subject(e.model, state, data)).notes)
