"""Water-filling: closed answers, Conic, SciPy, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import mixopt as mx
from mixopt.solvers import Conic, WaterFilling

NAMES = ["a", "b", "c", "d"]
W = mx.Mixture(NAMES)
A, B = np.array([0.3, 1.0, 2.0, 0.7]), np.array([0.2, 0.5, 0.1, 0.35])


def powers(amounts, exponents):
    """sum_i K_i w_i ** -a_i, which BiMix is."""
    return sum(float(k) * W[n] ** -float(a) for n, k, a in zip(NAMES, amounts, exponents, strict=True))


def test_one_exponent_has_a_closed_answer():
    result = mx.solve(mx.minimize(powers(A, [0.5] * 4), over=W), solver=WaterFilling())
    share = A ** (1 / 1.5)
    np.testing.assert_allclose(list(result.weights.values()), share / share.sum(), rtol=1e-9)
    assert result.status is mx.Status.OPTIMAL
    assert result.check.gap <= 1e-8
    assert result.check.kkt <= 1e-6


def test_bimix_against_scipy():
    """sum_i (A_i / w_i^a_i) (B_i / s^b_i + C_i) at s steps is sum_i K_i w_i^-a_i."""
    result = mx.solve(mx.minimize(powers(A, B), over=W), solver=WaterFilling())
    found = minimize(
        lambda w: (A * w**-B).sum(),
        np.full(4, 0.25),
        jac=lambda w: -A * B * w ** (-B - 1),
        bounds=[(1e-6, 1)] * 4,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(list(result.weights.values()), found.x, atol=1e-5)
    assert result.value <= found.fun + 1e-12


def test_autoscale_with_a_bound_against_conic():
    """sum_i (n_i + a_i)^-b_i with n = 7 w and n_i >= 0.2, as the AutoScale notebook optimises."""
    limits = [(W >= 0.2 / 7).named("reduced"), (W["b"] <= 0.2).named("cap")]
    problem = mx.minimize(
        sum((7 * W[n] + a) ** -b for n, a, b in zip(NAMES, A, [1.2, 0.4, 2.0, 0.9], strict=True)), over=W, subject_to=limits
    )
    fast, sure = mx.solve(problem, solver=WaterFilling()), mx.solve(problem, solver=Conic())
    assert fast.value == pytest.approx(sure.value, abs=1e-9)
    np.testing.assert_allclose(fast.vector, sure.vector, atol=2e-5)
    assert fast.check.feasible
    assert fast.check.gap <= 1e-8
    assert fast.duals["cap"] == pytest.approx(sure.duals["cap"], rel=1e-3, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_its_gap_closes_on_sums_of_all_kinds(data):
    scale = st.lists(st.floats(0.05, 3.0), min_size=4, max_size=4).map(np.array)
    a, b, prior = data.draw(scale), data.draw(scale), data.draw(scale)
    goal = mx.sum(mx.exp(-a * W)) + 0.3 * mx.kl(W, prior / prior.sum()) + b @ W + mx.sum_squares(W - 0.2)
    result = mx.solve(mx.minimize(goal, over=W, subject_to=[W <= 0.6, W >= 0.05]), solver=WaterFilling())
    assert result.status is mx.Status.OPTIMAL
    assert result.check.gap <= 1e-8 * (1 + abs(result.value))


def test_ties_and_linear_costs_are_filled_up_to_the_sum():
    cost = mx.solve(mx.minimize(W @ mx.constant([1.0, 2.0, 2.0, 3.0]), over=W, subject_to=[W <= 0.4]), solver=WaterFilling())
    assert cost.value == pytest.approx(0.4 + 1.2, abs=1e-9)
    assert mx.solve(mx.minimize(mx.sum(W) + 0 * W["a"], over=W), solver=WaterFilling()).value == pytest.approx(1)


def test_parameters_take_their_numbers():
    rate, cap = mx.parameter("rate", nonneg=True), mx.parameter("cap")
    problem = mx.minimize(rate * mx.sum_squares(W) + W["a"], over=W, subject_to=[W["b"] <= cap])
    ready = mx.plan(problem, solver=WaterFilling())
    for number in (0.1, 0.3):
        found, sure = (r.run(given={"rate": 2.0, "cap": number}) for r in (ready, mx.plan(problem, solver=Conic())))
        np.testing.assert_allclose(found.vector, sure.vector, atol=1e-6)
        assert found.weights["b"] <= number + 1e-12


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (mx.minimize(mx.exp(mx.sum(W * A)), over=W), r"'exp\(sum\(w \* .*mixes several|'exp\(.*\)' mixes several"),
        (mx.minimize(-mx.sum_squares(W), over=W), "not convex by the rules"),
        (mx.minimize(mx.sum_squares(W), over=W, subject_to=[W["a"] + W["b"] <= 0.3]), "is no bound on single weights"),
        (mx.minimize(mx.sum_squares(W), over=W, subject_to=[mx.square(W) <= 0.3]), "is no bound on single weights"),
    ],
)
def test_what_it_does_not_take(problem, reason):
    with pytest.raises(mx.RefusalError, match=reason):
        mx.plan(problem, solver=WaterFilling())


def test_infeasible_bounds_are_told():
    result = mx.solve(mx.minimize(mx.sum_squares(W), over=W, subject_to=[W <= 0.2]), solver=WaterFilling())
    assert result.status is mx.Status.INFEASIBLE
