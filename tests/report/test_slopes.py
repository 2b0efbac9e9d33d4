"""Slopes of the best value in the parameters: against differences of solves, in the objective, in constraints and in rewritten problems."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx

pytest.importorskip("cvxpy")

W, Z = mx.Mixture(["web", "code", "books"]), mx.Mixture(["chat", "math"], "z")
Q, R, P = mx.parameter("q", 3), mx.parameter("r", nonneg=True), mx.parameter("p", 2, nonneg=True)
A = np.array([[-1.0, 0.3, -0.2], [0.1, -1.5, 0.4]])
COSTS = mx.exp(A @ W)
POINT = {"q": np.array([0.1, 0.3, 0.8]), "r": 0.35, "p": np.array([1.0, 0.5])}
PROBLEMS = {
    "objective": mx.minimize(mx.sum_squares(W - Q) + P @ COSTS, over=W),
    "cap": mx.minimize(mx.sum_squares(W - Q), over=W, subject_to=[W["books"] <= R, W["web"] >= 0.5 * R]),
    "vector of caps": mx.minimize(P @ COSTS, over=W, subject_to=[W[["web", "code"]] <= [0.4, 0.5] * P]),
    "ball": mx.minimize(mx.sum(COSTS), over=W, subject_to=[mx.norm(W - 1 / 3, 1) <= R]),
    "ratio": mx.minimize(mx.sum_squares(W - Q), over=W, subject_to=[(W["books"] / W["code"] <= R).named("ratio")]),
    "tokens": mx.minimize(mx.sum_squares(W - Q), over=W, subject_to=[1e12 * W["books"] <= 1e12 * R]),
    "maximised": mx.maximize(-mx.sum_squares(W - Q), over=W, subject_to=[W["books"] <= R]),
    "worst of two": mx.minimize(mx.maximize(Z @ (P * COSTS), over=Z, subject_to=[mx.norm(Z - 0.5) <= R]), over=W),
    "kink beside": mx.minimize(mx.max(COSTS) + mx.sum_squares(W - Q), over=W),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_slopes_are_those_of_the_value(name):
    ready, step = mx.plan(PROBLEMS[name]), 1e-4
    names = [p for p in POINT if f"{p}" in {str(n) for n in _leaves(PROBLEMS[name])}]
    given = {p: POINT[p] for p in names}
    found = ready.run(given=given).slopes
    assert sorted(found) == sorted(names)
    for p in names:
        for i in range(np.size(given[p])):
            unit = step * (np.arange(np.size(given[p])) == i).reshape(np.shape(given[p]))
            up, down = (ready.run(given={**given, p: given[p] + side * unit}).value for side in (1, -1))
            assert np.ravel(found[p])[i] == pytest.approx((up - down) / (2 * step), abs=2e-4)


def _leaves(problem):
    if isinstance(problem.objective, mx.Problem):
        yield from _leaves(problem.objective)
    else:
        yield from problem.objective.walk()
    for relation in problem.subject_to:
        yield from (*relation.left.walk(), *relation.right.walk())


def test_no_slope_is_made_under_a_kink_or_without_an_answer():
    kinked = mx.minimize(mx.max(COSTS - P) + R * mx.sum_squares(W), over=W)
    assert list(mx.solve(kinked, given={"p": POINT["p"], "r": 0.1}).slopes) == ["r"]
    empty = mx.minimize(mx.sum_squares(W), over=W, subject_to=[mx.sum(W) <= R])
    assert not mx.solve(empty, given={"r": 0.5}).slopes
    assert not mx.solve(mx.minimize(mx.sum_squares(W), over=W)).slopes
