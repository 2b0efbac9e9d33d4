"""The matrices that a plan keeps are cvxpy's own at any numbers; the polished answer is balanced to rounding, and never worse."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.compiler.classify import classify
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region
from mixopt.solvers import Conic
from mixopt.solvers.conic import conic_table
from mixopt.solvers.conic_program import ConicProgram
from mixopt.solvers.polish import polished

pytest.importorskip("cvxpy")

K = 6
W = mx.Mixture([f"d{i}" for i in range(K)])
RATE, CENTRE, CAP = mx.parameter("rate", nonneg=True), mx.parameter("centre", K, nonneg=True), mx.parameter("cap")
DRAW = np.random.default_rng(0)
A = DRAW.normal(size=(3, K))
GOALS = {
    "quadratic": mx.sum_squares(W - CENTRE),
    "exponential": RATE * mx.mean(mx.exp(mx.constant(A) @ W)),
    "divergence": mx.kl(W, CENTRE) + RATE * mx.max(W),
    "a slope of numbers": CENTRE @ W + mx.norm(W - 0.1),
    "no numbers": mx.sum_squares(W) + W @ A[0],
}


def numbers():
    """Numbers for the parameters."""
    return {"rate": np.array(DRAW.uniform(0.5, 2)), "centre": DRAW.dirichlet(np.ones(K)), "cap": np.array(DRAW.uniform(0.3, 0.6))}


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
def test_the_matrices_are_those_of_cvxpy_at_any_numbers(goal):
    from scipy.sparse import triu

    program = ConicProgram(classify(mx.minimize(goal, over=W, subject_to=[(W <= CAP).named("cap")])), conic_table())
    assert program.open
    for _ in range(3):
        given = numbers()
        program.solve(given, "CLARABEL", {})
        for name, parameter in program.parameters.items():
            parameter.value = given[name]
        theirs, _, _ = program.problem.get_problem_data("CLARABEL")
        P, q, rows, b = program._data.matrices(given)
        np.testing.assert_allclose(q, theirs["c"], atol=1e-15)
        np.testing.assert_allclose(b, theirs["b"], atol=1e-15)
        np.testing.assert_allclose(rows.toarray(), theirs["A"].toarray(), atol=1e-15)
        np.testing.assert_allclose(P.toarray(), triu(theirs["P"]).toarray() if "P" in theirs else 0.0, atol=1e-15)


@pytest.mark.parametrize("option", [{"max_iter": 2}, {"no_such_setting": 1}])
def test_options_reach_the_solver(option):
    problem = mx.minimize(mx.mean(mx.exp(A @ W)), over=W)
    if "max_iter" in option:
        assert mx.solve(problem, solver=Conic(options=option)).status is mx.Status.BUDGET
    else:
        with pytest.raises(TypeError, match="no_such_setting"):
            mx.solve(problem, solver=Conic(options=option))


CORNERS = {
    "caps and groups": [(W <= 0.3).named("caps"), (mx.sum(W[:3]) <= 0.4).named("group"), (W >= 0.01).named("floor")],
    "an equality": [mx.equal(W["d0"], 0.2).named("fixed")],
    "a ball": [(mx.sum_squares(W - 1 / K) <= 0.02).named("ball"), (W <= 0.3).named("caps")],
    "nothing": [],
}


@pytest.mark.parametrize("limits", CORNERS.values(), ids=CORNERS)
def test_a_smooth_program_is_certified_to_rounding(limits):
    problem = mx.minimize(mx.sum(mx.exp(A @ W)) + mx.sum_squares(W - 0.2), over=W, subject_to=limits)
    result = mx.solve(problem, solver=Conic())
    assert result.status is mx.Status.OPTIMAL
    assert result.check.feasible
    assert result.check.gap <= 1e-9
    assert result.check.kkt <= 1e-9


def test_wrong_multipliers_leave_the_weights_as_they_are():
    limits = [(W <= 0.3).named("caps")]
    function, region = Function(mx.sum_squares(W - np.eye(K)[0]), W, {}), Region.compile(W, limits, {})
    w = np.full(K, 1 / K)
    wrong = {"caps": dict.fromkeys(W.index, 5.0)}
    np.testing.assert_array_equal(polished(function, region, w, wrong), w)


def test_where_the_domains_are_many_nothing_is_polished():
    w = mx.Mixture([f"d{i}" for i in range(41)])
    at = np.full(41, 1 / 41)
    np.testing.assert_array_equal(polished(Function(mx.sum_squares(w), w, {}), Region.compile(w, [], {}), at + 0.0, {}), at)
