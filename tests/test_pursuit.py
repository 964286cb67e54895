"""Codes of a dictionary: against scikit-learn's pursuit and NumPy's least squares, and what an evaluation says of an encoder."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, started, subject

from aecli.data.rows import ArrayRows
from aecli.evaluation.evaluators import pursuit
from aecli.evaluation.registry import chosen
from aecli.measures.pursuit import least_squares, orthogonal_matching_pursuit

SPARSE = "variant: sparse, penalty: topk, units: 40, k: 5"


def dictionary(m: int, d: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((m, d))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), rng.standard_normal((n, d))


@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_pursuit_is_that_of_scikit_learn(k: int) -> None:
    from sklearn.linear_model import orthogonal_mp

    rows, targets = dictionary(30, 12, 20)
    ours = orthogonal_matching_pursuit(jnp.asarray(rows, jnp.float32), jnp.asarray(targets, jnp.float32), k)
    theirs = orthogonal_mp(rows.T, targets.T, n_nonzero_coefs=k).T
    assert np.array_equal(np.asarray(ours) != 0, theirs != 0)
    assert np.allclose(ours, theirs, atol=2e-4)


def test_what_is_a_sum_of_few_rows_is_found_again() -> None:
    rows, _ = dictionary(30, 200, 1)
    code = np.zeros((10, 30))
    for i in range(10):
        code[i, [i, i + 7, i + 15]] = [3, -2, 1]
    found = orthogonal_matching_pursuit(jnp.asarray(rows, jnp.float32), jnp.asarray(code @ rows, jnp.float32), 3)
    assert np.allclose(found, code, atol=1e-3)


def test_equal_rows_and_rows_of_nothing_do_no_harm() -> None:
    rows, targets = dictionary(6, 12, 5)
    rows[1], rows[2] = rows[0], 0
    found = np.asarray(orthogonal_matching_pursuit(jnp.asarray(rows, jnp.float32), jnp.asarray(targets, jnp.float32), 6))
    best = np.linalg.lstsq(rows.T, targets.T, rcond=None)[0].T
    assert np.isfinite(found).all() and np.allclose(found @ rows, best @ rows, atol=1e-3)


def test_coefficients_are_the_best_of_the_rows_that_are_active() -> None:
    rows, targets = dictionary(30, 12, 20)
    active = np.random.default_rng(1).random((20, 30)) < 0.2
    active[0] = False
    found = least_squares(*(jnp.asarray(x, jnp.float32) for x in (rows, targets)), jnp.asarray(active), int(active.sum(1).max()))
    for target, on, code in zip(targets, active, np.asarray(found), strict=True):
        assert not code[~on].any()
        if on.any():
            assert np.allclose(code[on], np.linalg.lstsq(rows[on].T, target, rcond=None)[0], atol=1e-3)


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


def test_images_that_are_alike_have_nothing_to_explain() -> None:
    data = dataset(train=120, held_out=30)
    same = ArrayRows(np.repeat(data.test.all()[0][:1], 30, axis=0), data.test.labels)
    e, state = started(SPARSE, data)
    found = pursuit.measure(subject(e.model, state, dataclasses.replace(data, test=same))).metrics
    assert all(metric.value is None and "alike" in str(metric.note) for metric in found.values())


def test_a_decoder_that_does_not_add_rows_up_has_no_dictionary() -> None:
    data = dataset(train=120, held_out=30)
    e, state = started("variant: sparse, penalty: l1, net: mlp, hidden: [12], units: 12", data)
    assert "no dictionary" in str(pursuit.cannot(subject(e.model, state, data)))
    assert any("no pursuit" in note for note in chosen(subject(e.model, state, data)).notes)
