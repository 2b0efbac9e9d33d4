"""The augmented Lagrangian: closed answers, Conic's answers and duals, the sign of a dual by finite differences, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import mixopt as mx
from mixopt.solvers import Conic, Lagrangian

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W = mx.Mixture(DOMAINS)
NATURAL = mx.kl(W, DOMAINS.natural)


def test_the_nearest_point_of_a_ball_has_its_closed_answer_and_dual():
    """min w_a on the ball of radius r about uniform: w = 1/3 - r (2, -1, -1) / sqrt(6), and the value falls by sqrt(2/3) a unit of r."""
    w, r = mx.Mixture(["a", "b", "c"]), 0.2
    problem = mx.minimize(w["a"], over=w, subject_to=[(mx.sum_squares(w - 1 / 3) <= r**2).named("ball")])
    result = mx.solve(problem, solver=Lagrangian())
    assert result.status is mx.Status.OPTIMAL
    np.testing.assert_allclose(result.vector, 1 / 3 - r * np.array([2, -1, -1]) / np.sqrt(6), atol=1e-7)
    assert result.duals["ball"] == pytest.approx(np.sqrt(2 / 3) / (2 * r), abs=1e-5)
    assert result.check.kkt <= 1e-6
    assert result.check.feasible


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_it_agrees_with_conic_in_weights_value_and_duals(seed, k):
    rng = np.random.default_rng(seed)
    w, q = mx.Mixture([f"d{i}" for i in range(k)]), rng.dirichlet(np.full(k, 3.0)) + 0.01
    q, A, radius = q / q.sum(), rng.normal(size=(3, k)), rng.uniform(0.01, 0.3)
    limits = [(w <= 3 * q).named("caps"), (mx.kl(w, q) <= radius).named("near"), (mx.sum_squares(w) <= 0.9).named("spread")]
    problem = mx.minimize(mx.mean(mx.exp(A @ w)), over=w, subject_to=limits)
    conic, own = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Lagrangian())
    assert own.status is conic.status is mx.Status.OPTIMAL
    assert list(own.duals) == ["caps", "near", "spread"]
    assert own.value == pytest.approx(conic.value, abs=1e-6)
    np.testing.assert_allclose(own.vector, conic.vector, atol=1e-4)
    assert own.duals["near"] == pytest.approx(conic.duals["near"], abs=1e-4 * (1 + conic.duals["near"]))
    assert own.duals["spread"] == pytest.approx(conic.duals["spread"], abs=1e-4)
    assert own.duals["caps"] == pytest.approx(conic.duals["caps"], abs=1e-4 * (1 + max(conic.duals["caps"].values())))


def test_vector_constraints_and_equalities_have_duals_by_entry_and_in_the_problems_order():
    A = np.array([[0.5, -0.2, 0.1], [0.3, 0.4, -0.9]])
    limits = [(mx.exp(A @ W) <= [1.2, 1.05]).named("targets"), mx.equal(W["web"] - W["code"], 0.1).named("tie")]
    problem = mx.minimize(NATURAL, over=W, subject_to=limits)
    conic, own = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Lagrangian())
    assert list(own.duals) == ["targets", "tie"]
    assert own.duals["targets"] == pytest.approx(conic.duals["targets"], abs=1e-4)
    assert max(own.duals["targets"].values()) > 0.1
    assert own.duals["tie"] == pytest.approx(conic.duals["tie"], abs=1e-4)


RELAXED = {
    "minimise, <=": (lambda e: mx.minimize(NATURAL, over=W, subject_to=[(mx.sum_squares(W) <= 0.5 + e).named("r")]), -1),
    "maximise, >=": (lambda e: mx.maximize(-NATURAL, over=W, subject_to=[(mx.entropy(W) >= 0.9 - e).named("r")]), 1),
    "not convex": (lambda e: mx.maximize(mx.sum_squares(W), over=W, subject_to=[(0.05 + e >= NATURAL).named("r")]), 1),
    "minimise, ==": (lambda e: mx.minimize(NATURAL, over=W, subject_to=[mx.equal(mx.sum_squares(W), 0.5 + e).named("r")]), -1),
}


@pytest.mark.parametrize(("make", "sign"), RELAXED.values(), ids=RELAXED)
def test_the_dual_is_the_rate_at_which_the_value_improves(make, sign):
    start = {"web": 0.7, "code": 0.2, "books": 0.1}

    def solved(e):
        return mx.solve(make(e), solver=Lagrangian(), start=start)

    result, h = solved(0.0), 1e-4
    assert result.status.solved
    rate = (solved(h).value - solved(-h).value) / (2 * h)
    assert abs(rate) > 0.1
    assert result.duals["r"] == pytest.approx(sign * rate, abs=1e-4)
    assert result.check.kkt <= 1e-6


def test_a_program_that_is_not_convex_goes_to_it_by_default_and_agrees_with_slsqp():
    problem = mx.minimize(NATURAL, over=W, subject_to=[(mx.entropy(W) <= 0.5).named("sharp")])
    plan = mx.plan(problem)
    result = plan.run()
    q = DOMAINS.natural
    found = minimize(
        lambda w: (w * np.log(w / q)).sum(),
        q,
        bounds=[(1e-9, 1)] * 3,
        constraints=[
            {"type": "eq", "fun": lambda w: w.sum() - 1},
            {"type": "ineq", "fun": lambda w: 0.5 + (w * np.log(w)).sum()},
        ],
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert plan.solver == Lagrangian()
    assert "Projected refuses: constraint 'sharp' is not convex" in str(plan)
    assert result.status is mx.Status.STATIONARY
    np.testing.assert_allclose(result.vector, found.x, atol=1e-5)


def test_constraints_that_cannot_be_met_end_stuck_and_name_them():
    problem = mx.minimize(NATURAL, over=W, subject_to=[mx.equal(mx.sum_squares(W), 0.3).named("even")])
    result = mx.solve(problem, solver=Lagrangian())
    assert result.status is mx.Status.STUCK
    assert result.message == "the constraints 'even' are off by up to 0.033, whatever the penalty"
    assert not result.check.feasible


BALL = (mx.sum_squares(W) <= 0.5).named("ball")
REFUSED = {
    "linear": (mx.minimize(NATURAL, over=W, subject_to=[W["web"] <= 0.5]), "constraints that are not linear, and this problem has none"),
    "a kink": (mx.minimize(mx.max(W), over=W, subject_to=[BALL]), r"the objective has a kink at 'max\(w\)'"),
    "a bent kink": (mx.minimize(NATURAL, over=W, subject_to=[(mx.norm(W - 0.3, 1) <= 0.5).named("L1")]), "constraint 'L1' has a kink"),
}


@pytest.mark.parametrize(("problem", "words"), REFUSED.values(), ids=REFUSED)
def test_what_it_refuses(problem, words):
    with pytest.raises(mx.RefusalError, match=words):
        mx.plan(problem, solver=Lagrangian())


def test_settings_are_positive():
    with pytest.raises(mx.InputError, match="Lagrangian's penalty is 0; it is a number > 0"):
        Lagrangian(penalty=0)


def test_a_budget_of_steps_ends_it_with_what_there_is():
    problem = mx.minimize(NATURAL, over=W, subject_to=[(mx.sum_squares(W) <= 0.34).named("ball")])
    result = mx.solve(problem, solver=Lagrangian(tolerance=1e-30), budget=mx.Budget(steps=2))
    assert result.status is mx.Status.BUDGET
    assert len(result.trace) == 2
    assert result.trace["violation"][1] < result.trace["violation"][0]


def many(k: int, ties: bool) -> mx.Problem:
    """A law over many domains under two balls and caps, and sums of groups where they are asked for."""
    rng = np.random.default_rng(0)
    w, q = mx.Mixture([f"d{i}" for i in range(k)]), rng.dirichlet(np.full(k, 3.0)) + 1e-3
    q = q / q.sum()
    limits = [(mx.kl(w, q) <= 0.1).named("near"), (mx.sum_squares(w) <= 3 / k).named("spread"), (w <= 3 * q).named("caps")]
    limits += [(mx.sum(w[part.tolist()]) <= 0.45).named(f"group {part[0]}") for part in np.array_split(np.arange(k), 3) if ties]
    return mx.minimize(mx.mean(mx.exp(rng.normal(size=(5, k)) @ w)), over=w, subject_to=limits)


@pytest.mark.parametrize("ties", [False, True])
def test_many_domains_take_few_steps_and_are_certified(ties):
    """Descent alone needs thousands of gradients here; Newton steps on what binds end it to rounding."""
    result = mx.solve(many(100, ties), solver=Lagrangian())
    assert result.status is mx.Status.OPTIMAL
    assert len(result.trace) <= 10
    assert result.check.feasible
    assert result.check.gap <= 1e-8
    assert result.check.kkt <= 1e-8


def test_a_start_at_the_answer_saves_steps():
    first = mx.solve(many(100, False), solver=Lagrangian())
    again = mx.solve(many(100, False), solver=Lagrangian(), start=first)
    assert "start" not in again.message
    assert len(again.trace) < len(first.trace)
    np.testing.assert_allclose(again.vector, first.vector, atol=1e-7)


def test_newton_never_ends_where_a_constraint_has_no_value():
    """Newton's step drops a weight to 0, where the ratio and its slope are infinite: it is not taken, and no error escapes."""
    limit = W["web"] / W["code"] - W["books"] <= 3
    result = mx.solve(mx.minimize(mx.sum_squares(W - [0, 0, 1]), over=W, subject_to=[limit]), solver=Lagrangian(steps=5, inner_steps=20))
    assert np.isfinite([result.value, *result.vector]).all()
    assert result.check.constraints[str(limit)] <= 1e-6


def test_a_start_without_a_value_is_said_and_another_start_mends_it():
    limit = (mx.log(W["web"] - 0.5) - mx.log(W["code"]) <= 1).named("ratio")
    problem = mx.minimize(mx.sum_squares(W), over=W, subject_to=[limit])
    failed = mx.solve(problem, solver=Lagrangian())
    assert failed.status is mx.Status.FAILED
    assert "the objective or (ratio) has no finite value or slope there; give start=..." in failed.message
    assert np.isfinite(mx.solve(problem, solver=Lagrangian(steps=3), start=[0.6, 0.2, 0.2]).value)


def test_a_stall_on_constraints_that_are_met_is_no_violation():
    limit = (W["web"] / W["code"] - W["books"] <= 3).named("ratio")
    solver = Lagrangian(penalty=1e10, inner_steps=1, tolerance=1e-300)
    stuck = mx.solve(mx.minimize(mx.exp(30 * W["web"]), over=W, subject_to=[limit]), solver=solver)
    assert stuck.status is mx.Status.STUCK
    assert "'ratio' are met, and descent under them stands still with a gap of" in stuck.message
