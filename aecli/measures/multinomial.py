"""Multinomial logistic regression at its optimum, by Newton's method.

Minimized is sum_i -log softmax(W^T x_i + b)[y_i] + |W|^2 / (2 C), as scikit-learn's LogisticRegression does for three classes and
more. Each step is found by conjugate gradients on the Hessian as it is (Nocedal & Wright 2006, "Numerical optimization", section
7.1), which are preconditioned by the Hessian of some rows in the leading principal directions of the features, where it is not
nearly the penalty, and by its diagonal in the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from aecli.measures.side_by_side import SideBySide

ROWS = 512
"""Rows that are looked at at once: they stay in a processor's caches between the two products that each is a part of."""
HESSIAN_ROWS, HESSIAN_SIDE = 4096, 1000
"""Rows that tell the preconditioner, and about how many rows and columns its dense part has."""
MOST_STEPS, MOST_PRODUCTS, MOST_HALVINGS = 100, 60, 20
"""Steps, products with the Hessian in each, and halvings of a step that does not lower the objective."""


class Rotated(NamedTuple):
    """Features [n, d] float32 in the basis of their principal directions, the columns of `basis` [d, d], where there are more of
    them than the preconditioner has room for; else as they are, and `basis` is None."""

    features: Any
    basis: Any


class Weights(NamedTuple):
    """`matrix` [d, classes] and `bias` [classes], float64; `objective`, the minimum that they are of."""

    matrix: Any
    bias: Any
    objective: float

    def logits(self, features: Any) -> Any:
        """[n, d] -> [n, classes]."""
        return features @ self.matrix.astype(np.float32) + self.bias.astype(np.float32)


def leading(classes: int) -> int:
    """In how many directions the preconditioner knows the Hessian."""
    return max(1, HESSIAN_SIDE // classes)


def rotated(features: Any, classes: int, side_by_side: SideBySide) -> Rotated:
    """The features [n, d] float32, which are centred, for `fit`."""
    if features.shape[1] < leading(classes):
        return Rotated(features, None)
    some = features[_some(len(features))]
    basis = np.linalg.eigh((some.T @ some).astype(np.float64))[1][:, ::-1].astype(np.float32)
    turned = np.empty_like(features)

    def turn(start: int) -> None:
        np.matmul(features[start : start + ROWS], basis, out=turned[start : start + ROWS])

    side_by_side.map(turn, range(0, len(features), ROWS))
    return Rotated(turned, basis)


def _some(n: int) -> Any:
    """Numbers of rows that stand for all n of them, rising."""
    return np.sort(np.random.Generator(np.random.Philox(0)).permutation(n)[:HESSIAN_ROWS])


def fit(
    of: Rotated,
    label: Any,
    classes: int,
    strength: float,
    side_by_side: SideBySide,
    tolerance: float = 1e-6,
    start: Weights | None = None,
) -> Weights:
    """The weights whose objective is at most about that share above its minimum. `label` [n] counts from 0, `strength` is C, and
    weights of a similar problem may be the `start`. Raises ValueError if a feature is not finite."""
    if not np.isfinite(of.features).all():
        raise ValueError("the features hold values that are not finite: nothing is fitted to them")
    problem = _Problem(of.features, label, classes, strength, side_by_side)
    w = np.zeros((of.features.shape[1] + 1, classes))
    if start is not None:
        w[0], w[1:] = start.bias, start.matrix if of.basis is None else of.basis.T.astype(np.float64) @ start.matrix
    at = problem.at(w)
    for _ in range(MOST_STEPS):
        # Of the objective of weights that are 0, too: where next to nothing is left of it, float32 cannot tell more.
        least = tolerance * max(at.objective, 1e-4 * problem.objective_of_nothing)
        step, decrease = problem.step(w, at, least)
        if decrease <= least:
            break
        length = 1.0
        after = problem.at(w + step)
        for _ in range(MOST_HALVINGS):
            if after.objective <= at.objective + least:
                break
            length /= 2
            after = problem.at(w + length * step)
        else:
            break  # float32 tells no way down
        w, at = w + length * step, after
    matrix = w[1:] if of.basis is None else of.basis.astype(np.float64) @ w[1:]
    return Weights(matrix, w[0], at.objective)


class _At(NamedTuple):
    """`objective` and its `gradient` [1 + d, classes] at some weights; `p` [n, classes], the probabilities there."""

    objective: float
    gradient: Any
    p: Any


class _Problem:
    """Weights are [1 + d, classes]: the bias, which has no penalty, comes first."""

    def __init__(self, x: Any, label: Any, classes: int, strength: float, side_by_side: SideBySide) -> None:
        self._x, self._label, self._side_by_side = x, label, side_by_side
        self._blocks = [slice(start, start + ROWS) for start in range(0, len(x), ROWS)]
        self._penalty = np.full((x.shape[1] + 1, 1), 1 / strength)
        self._penalty[0] = 0
        self._dense = min(x.shape[1] + 1, leading(classes))
        chosen = _some(len(x))
        self._chosen, self._more = [chosen[i : i + ROWS] for i in range(0, len(chosen), ROWS)], len(x) / len(chosen)
        self._squares = (x[chosen, self._dense - 1 :].astype(np.float64) ** 2).sum(0) * self._more
        self.objective_of_nothing = len(x) * float(np.log(classes))

    def at(self, w: Any) -> _At:
        matrix, bias = w[1:].astype(np.float32), w[0].astype(np.float32)

        def block(rows: slice) -> tuple[float, Any, Any]:
            x, label = self._x[rows], self._label[rows]
            logits = x @ matrix + bias
            logits -= logits.max(1, keepdims=True)
            p = np.exp(logits)
            total = p.sum(1, keepdims=True)
            p /= total
            each = np.arange(len(x))
            loss = float((np.log(total[:, 0].astype(np.float64)) - logits[each, label]).sum())
            error = p.copy()
            error[each, label] -= 1
            return loss, _transposed(x, error), p

        losses, gradients, p = zip(*self._side_by_side.map(block, self._blocks), strict=True)
        objective = sum(losses) + float((self._penalty * w**2).sum()) / 2
        return _At(objective, sum(gradients) + self._penalty * w, np.concatenate(p))

    def step(self, w: Any, at: _At, least: float) -> tuple[Any, float]:
        """Newton's step, and by about how much it lowers the objective; no step where that is at most `least`."""
        precondition = self._preconditioner(at)
        z = -precondition(at.gradient)
        norm = first = -float((at.gradient * z).sum())
        found = np.zeros_like(w)
        if first / 2 <= least:
            return found, first / 2
        residual, direction = -at.gradient, z
        # The nearer the minimum, the more exact the step has to be.
        enough = first * min(0.1, (first / self.objective_of_nothing) ** 0.5) ** 2
        for _ in range(MOST_PRODUCTS):
            product = self._product(at.p, direction)
            length = norm / float((direction * product).sum())
            found, residual = found + length * direction, residual - length * product
            z = precondition(residual)
            before, norm = norm, float((residual * z).sum())
            if norm <= enough:
                break
            direction = z + norm / before * direction
        return found, first / 2

    def _product(self, p: Any, v: Any) -> Any:
        """The Hessian's with v, [1 + d, classes]."""
        matrix, bias = v[1:].astype(np.float32), v[0].astype(np.float32)

        def block(rows: slice) -> Any:
            x, part = self._x[rows], p[rows]
            change = part * (x @ matrix + bias)
            change -= part * change.sum(1, keepdims=True)
            return _transposed(x, change)

        return sum(self._side_by_side.map(block, self._blocks)) + self._penalty * v

    def _preconditioner(self, at: _At) -> Any:
        from scipy.linalg import cho_solve

        classes, dense = at.p.shape[1], self._dense

        def block(rows: Any) -> Any:
            x = np.concatenate([np.ones((len(rows), 1), np.float32), self._x[rows, : dense - 1]], axis=1)
            p = at.p[rows]
            outer = (p[:, :, None] * x[:, None]).reshape(len(rows), -1)
            hessian = -(outer.T @ outer)
            for k in range(classes):
                part = slice(k * dense, (k + 1) * dense)
                hessian[part, part] += outer[:, part].T @ x
            return hessian

        hessian = sum(self._side_by_side.map(block, self._chosen)) * self._more
        factor = _factor(hessian + np.diag(np.tile(self._penalty[:dense, 0], classes)).astype(np.float32))
        others = self._squares[:, None] * (at.p * (1 - at.p)).mean(0, dtype=np.float64) + self._penalty[dense:]

        def solve(r: Any) -> Any:
            leading = cho_solve(factor, r[:dense].T.reshape(-1).astype(np.float32), check_finite=False).reshape(classes, dense).T
            return np.concatenate([leading, r[dense:] / others])

        return solve


def _factor(hessian: Any) -> Any:
    """Cholesky's, of the matrix and as much of the identity as makes it positive definite: the same number added to every bias
    changes nothing, so that in that direction it is 0, and where the probabilities are all but 0 and 1 it is rounding."""
    from scipy.linalg import LinAlgError, cho_factor

    more = 1e-6 * float(hessian.diagonal().max())
    while True:
        try:
            return cho_factor(hessian + np.float32(more) * np.eye(len(hessian), dtype=np.float32), lower=True, check_finite=False)
        except LinAlgError:
            if not np.isfinite(hessian).all():
                raise
            more = 10 * more + 1e-30


def _transposed(x: Any, change: Any) -> Any:
    """[n, d] and [n, classes] -> [1 + d, classes] float64, the product of [1, x] transposed with it."""
    return np.concatenate([change.sum(0, dtype=np.float64)[None], (x.T @ change).astype(np.float64)])
