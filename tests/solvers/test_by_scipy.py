"""SciPy's SLSQP and trust-constr as methods of Lagrangian: Conic's answers and duals, programs that are not convex, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.solvers import Conic, Lagrangian

pytest.importorskip("cvxpy")

W = mx.Mixture(["web", "code", "books"])
METHODS = pytest.mark.parametrize("method", ["slsqp", "trust-constr"])


def random_program(seed):
    """A convex program with caps, a ball and an equality over 2 to 6 domains."""
    k, rng = 2 + seed % 5, np.random.default_rng(seed)
    w, q = mx.Mixture([f"d{i}" for i in range(k)]), rng.dirichlet(np.full(k, 3.0)) + 0.01
    q, A = q / q.sum(), rng.normal(size=(3, k))
    limits = [(w <= 3 * q).named("caps"), (mx.kl(w, q) <= rng.uniform(0.01, 0.3)).named("near")]
    limits += [mx.equal(w["d0"] - w["d1"], q[0] - q[1]).named("tie")] if k > 2 else []
    return mx.minimize(mx.mean(mx.exp(A @ w)), over=w, subject_to=limits)


@METHODS
@pytest.mark.parametrize("seed", [0, 2, 3, 4, 7, 8, 11])
def test_they_agree_with_conic(method, seed):
    problem = random_program(seed)
    conic, other = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Lagrangian(method=method))
    assert other.status is mx.Status.OPTIMAL, other.message
    assert other.value == pytest.approx(conic.value, abs=1e-6)
    np.testing.assert_allclose(other.vector, conic.vector, atol=1e-3)
    assert other.duals["near"] == pytest.approx(conic.duals["near"], abs=1e-2 * (1 + conic.duals["near"]))
    assert other.check.feasible
    assert other.message.startswith(f"SciPy's {method}: ")


@METHODS
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_what_is_called_optimal_is_whatever_they_say_of_themselves(method, seed):
    problem = random_program(seed)
    conic, other = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Lagrangian(method=method))
    assert other.status in (mx.Status.OPTIMAL, mx.Status.STUCK, mx.Status.BUDGET)
    if other.status is mx.Status.OPTIMAL:
        assert other.value == pytest.approx(conic.value, abs=1e-4 * (1 + abs(conic.value)))


def test_slsqp_may_end_early_and_call_it_a_success():
    found = mx.solve(random_program(13), solver=Lagrangian(method="slsqp"))
    assert "success" in found.message
    assert (found.status is mx.Status.OPTIMAL) == (found.check.gap <= 1e-5 * (1 + abs(found.value)))


@METHODS
def test_linear_constraints_alone_and_no_constraint(method):
    problem = mx.minimize(mx.sum_squares(W - [0.7, 0.2, 0.1]), over=W, subject_to=[(W["web"] + 2 * W["code"] <= 0.9).named("row")])
    conic, other = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Lagrangian(method=method))
    np.testing.assert_allclose(other.vector, conic.vector, atol=1e-5)
    assert other.duals["row"] == pytest.approx(conic.duals["row"], abs=1e-4)
    free = mx.solve(mx.minimize(mx.kl(W, [0.5, 0.3, 0.2]), over=W), solver=Lagrangian(method=method))
    np.testing.assert_allclose(free.vector, [0.5, 0.3, 0.2], atol=1e-4)


@METHODS
def test_a_program_that_is_not_convex_ends_stationary(method):
    problem = mx.minimize(-mx.sum_squares(W - 0.2), over=W, subject_to=[mx.sum_squares(W) <= 0.5])
    found = mx.solve(problem, solver=Lagrangian(method=method), start=[0.5, 0.3, 0.2])
    assert found.status is mx.Status.STATIONARY, found.message
    assert found.check.feasible
    assert found.check.kkt <= 1e-3
    assert found.value < -0.12, "lower than at the start"


def test_contradictory_constraints_are_no_solution():
    problem = mx.minimize(mx.sum_squares(W), over=W, subject_to=[(W <= 0.2).named("caps")])
    assert mx.solve(problem, solver=Lagrangian(method="slsqp")).status is mx.Status.INFEASIBLE


def test_what_they_refuse():
    with pytest.raises(mx.InputError, match="'augmented', or SciPy's"):
        Lagrangian(method="ipopt")
    with pytest.raises(mx.RefusalError, match="has a kink"):
        mx.plan(mx.minimize(mx.max(W), over=W), solver=Lagrangian(method="slsqp"))
    with pytest.raises(mx.RefusalError, match="is opaque, so there is no gradient"):
        mx.plan(mx.minimize(mx.opaque(W, lambda rows: rows[:, 0], "f"), over=W), solver=Lagrangian())
