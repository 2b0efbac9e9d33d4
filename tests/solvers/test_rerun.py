"""Running a plan again with other numbers: the same answers as anew, nothing compiled twice, and starts that are not used are told."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.solvers import Conic, Projected
from mixopt.solvers.conic_program import ConicProgram

pytest.importorskip("cvxpy")

NAMES = [f"d{i}" for i in range(5)]
W = mx.Mixture(NAMES)
CENTRE, CAP, RATE = mx.parameter("centre", 5), mx.parameter("cap", nonneg=True), mx.parameter("rate", nonneg=True)
DRAW = np.random.default_rng(0)
CASES = {
    "a centre and a cap": mx.minimize(mx.sum_squares(W - CENTRE), over=W, subject_to=[(W <= CAP).named("cap")]),
    "a rate": mx.minimize(CENTRE @ W + RATE * mx.kl(W, np.full(5, 0.2)), over=W, subject_to=[(W <= CAP).named("cap")]),
    "a divergence to a parameter": mx.minimize(mx.kl(W, mx.parameter("q", 5, nonneg=True)), over=W, subject_to=[(W <= CAP).named("cap")]),
    "two parameters multiplied": mx.minimize(
        mx.sum_squares(W - CENTRE) + RATE * CAP * mx.max(W), over=W, subject_to=[(W <= CAP).named("cap")]
    ),
}


def numbers(problem: mx.Problem) -> dict:
    """Numbers for the parameters of a problem."""
    known = {
        "centre": DRAW.dirichlet(np.ones(5)),
        "cap": DRAW.uniform(0.25, 0.5),
        "rate": DRAW.uniform(0.1, 1),
        "q": DRAW.dirichlet(np.ones(5)),
    }
    sides = [problem.objective, *(side for r in problem.subject_to for side in (r.left, r.right))]
    return {n.data[0]: known[n.data[0]] for side in sides for n in side.walk() if n.op == "parameter"}


@pytest.mark.parametrize("problem", CASES.values(), ids=CASES)
def test_a_rerun_answers_as_a_plan_made_anew(problem):
    plan = mx.plan(problem, solver=Conic())
    for _ in range(3):
        given = numbers(problem)
        again, fresh = plan.run(given=given), mx.solve(problem, solver=Conic(), given=given)
        assert again.status is mx.Status.OPTIMAL
        np.testing.assert_allclose(again.vector, fresh.vector, atol=2e-5)
        assert again.value == pytest.approx(fresh.value, abs=1e-8)
        assert again.duals["cap"] == pytest.approx(fresh.duals["cap"], abs=1e-4)
        assert again.check.feasible


def test_a_plan_compiles_once(monkeypatch):
    built = []
    make = ConicProgram.__init__
    monkeypatch.setattr(ConicProgram, "__init__", lambda self, *args: (built.append(1), make(self, *args))[1])
    plan = mx.plan(CASES["a centre and a cap"], solver=Conic())
    assert built == [], "planning alone needs no cvxpy"
    results = [plan.run(given={"centre": np.eye(5)[i], "cap": 0.5}) for i in range(3)]
    assert len(built) == 1
    assert [int(np.argmax(r.vector)) for r in results] == [0, 1, 2]
    assert "anew" not in results[0].message


def test_where_parameters_multiply_each_run_builds_anew_and_says_so():
    plan = mx.plan(CASES["two parameters multiplied"], solver=Conic())
    result = plan.run(given={"centre": np.full(5, 0.2), "cap": 0.3, "rate": 0.5})
    assert "the problem was built anew, for its parameters do not enter affinely" in result.message


def test_a_start_that_is_not_used_is_told():
    problem = mx.minimize(mx.sum_squares(W - np.eye(5)[0]), over=W)
    uniform = np.full(5, 0.2)
    assert mx.solve(problem, solver=Conic(), start=uniform).message.endswith(
        "start is not used: Conic does not go on from weights that it is given"
    )
    assert "start" not in mx.solve(problem, solver=Projected(), start=uniform).message
    assert "start" not in mx.solve(problem, solver=Conic()).message


def test_an_infeasible_run_leaves_the_plan_as_it_was():
    plan = mx.plan(CASES["a centre and a cap"], solver=Conic())
    centre = np.full(5, 0.2)
    assert plan.run(given={"centre": centre, "cap": 0.1}).status is mx.Status.INFEASIBLE
    np.testing.assert_allclose(plan.run(given={"centre": centre, "cap": 0.4}).vector, centre, atol=1e-6)
