"""Logistic regression: scikit-learn's optimum, and no less near to it where a problem is badly scaled."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from aecli.measures import multinomial
from aecli.measures.side_by_side import SideBySide


def data(n: int, d: int, classes: int, spread: float = 1.0) -> tuple[Any, Any]:
    """Features whose directions vary by factors of up to `spread`, and labels that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d)) @ np.linalg.qr(rng.standard_normal((d, d)))[0] * np.geomspace(1, 1 / spread, d)
    label = (x @ rng.standard_normal((d, classes)) + rng.gumbel(size=(n, classes))).argmax(1)
    return (x - x.mean(0)).astype(np.float32), label


def fitted(x: Any, label: Any, strength: float, tolerance: float = 1e-6, start: Any = None) -> multinomial.Weights:
    classes = int(label.max()) + 1
    with SideBySide() as side_by_side:
        of = multinomial.rotated(x, classes, side_by_side)
        return multinomial.fit(of, label, classes, strength, side_by_side, tolerance, start)


def objective(x: Any, label: Any, strength: float, matrix: Any, bias: Any) -> float:
    logits = x.astype(np.float64) @ matrix + bias
    most = logits.max(1)
    loss = most + np.log(np.exp(logits - most[:, None]).sum(1)) - logits[np.arange(len(x)), label]
    return float(loss.sum() + (matrix**2).sum() / (2 * strength))


def theirs(x: Any, label: Any, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return LogisticRegression(C=strength, tol=1e-9, max_iter=10_000).fit(x.astype(np.float64), label)


@pytest.mark.parametrize("strength", [0.001, 0.1, 10.0])
@pytest.mark.parametrize("side", [1000, 12], ids=["the whole Hessian", "some directions of it"])
@pytest.mark.parametrize("classes, spread", [(3, 1.0), (4, 30.0)])
def test_the_optimum_is_scikit_learns(
    monkeypatch: pytest.MonkeyPatch, strength: float, side: int, classes: int, spread: float
) -> None:
    monkeypatch.setattr(multinomial, "HESSIAN_SIDE", side)
    x, label = data(1500, 9, classes, spread)
    other = theirs(x, label, strength)
    least = objective(x, label, strength, other.coef_.T, other.intercept_)
    ours = fitted(x, label, strength)
    assert objective(x, label, strength, ours.matrix, ours.bias) == pytest.approx(least, rel=1e-6)
    assert ours.objective == pytest.approx(least, rel=1e-6)
    ours = fitted(x, label, strength, tolerance=1e-11)  # the weights' error is as the root of the objective's
    close = 5e-4 * np.abs(other.coef_).max()
    assert np.abs(ours.matrix.T - other.coef_).max() < close
    assert np.abs((ours.bias - ours.bias.mean()) - (other.intercept_ - other.intercept_.mean())).max() < close
    assert np.allclose(ours.logits(x), x @ ours.matrix + ours.bias, atol=1e-4)


def test_the_gradient_vanishes_where_weights_of_another_strength_were_the_start() -> None:
    x, label = data(1200, 6, 3)
    start = fitted(x, label, 0.01)
    ours, plain = fitted(x, label, 1.0, start=start), fitted(x, label, 1.0)
    assert ours.objective == pytest.approx(plain.objective, rel=1e-6)
    p = np.exp(ours.logits(x).astype(np.float64))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(x)), label] -= 1
    assert np.abs(x.T @ p + ours.matrix).max() < 1e-3 * len(x)


def test_a_hessian_of_some_rows_leads_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x, label = data(1500, 9, 3)
    plain = fitted(x, label, 1.0)
    monkeypatch.setattr(multinomial, "HESSIAN_ROWS", 60)
    monkeypatch.setattr(multinomial, "ROWS", 41)
    assert fitted(x, label, 1.0).objective == pytest.approx(plain.objective, rel=1e-6)


@pytest.mark.parametrize("strength", [0.001, 10.0])
def test_classes_that_are_told_apart_without_doubt_are(strength: float) -> None:
    """Their weights grow as far as the penalty lets them; probabilities are 0 and 1."""
    x, label = data(600, 4, 3)
    x = (x + 50 * np.eye(4)[label]).astype(np.float32)
    x -= x.mean(0)
    assert (fitted(x, label, strength).logits(x).argmax(1) == label).all()


def test_two_classes_are_no_other_problem_than_three() -> None:
    """scikit-learn gives two classes one vector of weights, whose penalty is that of ours at half of it twice."""
    x, label = data(800, 5, 2)
    ours, other = fitted(x, label, 1.0, tolerance=1e-11), theirs(x, label, 2.0)
    assert np.allclose(ours.matrix[:, 1] - ours.matrix[:, 0], other.coef_[0], atol=2e-3)


def test_one_class_is_always_right() -> None:
    x = data(50, 3, 2)[0]
    assert (fitted(x, np.zeros(50, int), 1.0).logits(x).argmax(1) == 0).all()


def test_features_that_never_change_are_no_harm() -> None:
    x, label = data(500, 5, 3)
    x[:, 2:] = 0
    ours, other = fitted(x, label, 1.0), theirs(x, label, 1.0)
    assert ours.objective == pytest.approx(objective(x, label, 1.0, other.coef_.T, other.intercept_), rel=1e-6)
    assert np.abs(ours.matrix[2:]).max() < 1e-6


def test_features_that_are_not_finite_are_told() -> None:
    x, label = data(50, 3, 3)
    x[7, 1] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        fitted(x, label, 1.0)
