"""Descent on programs: closed answers in both geometries, local optima, limits, and values that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.solvers import Projected

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W = mx.Mixture(DOMAINS)
FIT = mx.sum_squares(W - [0.9, 0.4, -0.2])
GEOMETRIES = ["euclidean", "entropic"]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_kl_under_a_cap_has_its_closed_answer(geometry):
    problem = mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[(W["web"] <= 0.5).named("cap")])
    result = mx.solve(problem, solver=Projected(geometry=geometry))
    assert result.status is mx.Status.OPTIMAL
    np.testing.assert_allclose(result.vector, [0.5, 0.375, 0.125], atol=1e-4)
    assert result.duals["cap"] == pytest.approx(np.log(4), abs=1e-3)
    assert result.check.gap <= 2e-8


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_projection_is_found_with_its_exact_zero(geometry):
    result = mx.solve(mx.minimize(FIT, over=W), solver=Projected(geometry=geometry))
    np.testing.assert_allclose(result.vector, [0.75, 0.25, 0.0], atol=1e-7)
    assert result.status is mx.Status.OPTIMAL
    if geometry == "euclidean":
        assert result.vector[2] == 0.0


def test_gradient_steps_come_to_where_newton_steps_do_in_more_of_them():
    problem = mx.minimize(mx.sum(mx.exp(np.array([[4.0, 0, 1], [0, 3, 0], [1, 0, 6]]) @ W)), over=W, subject_to=[W["web"] <= 0.2])
    by_newton, by_gradient = (mx.solve(problem, solver=Projected(newton=newton, tolerance=1e-10)) for newton in (True, False))
    np.testing.assert_allclose(by_gradient.vector, by_newton.vector, atol=1e-6)
    assert len(by_newton.trace.weights) < len(by_gradient.trace.weights)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.booleans())
def test_every_step_is_feasible_and_the_answer_is_as_good_as_the_best(seed, newton):
    rng = np.random.default_rng(seed)
    A, row = rng.normal(size=(5, 3)), rng.normal(size=3)
    constraints = [W <= [0.8, 0.7, 0.6], row @ W <= row.mean() + 0.05]
    problem = mx.minimize(mx.sum(mx.exp(A @ W)) - mx.sum_squares(W), over=W, subject_to=constraints)
    result = mx.solve(problem, solver=Projected(newton=newton))
    assert result.status.solved
    assert np.abs(result.trace.weights.sum(axis=1) - 1).max() <= 1e-10
    assert (result.trace.weights @ row).max() <= row.mean() + 0.05 + 1e-9
    assert result.value <= result.trace["value"].min() + 1e-7
    assert result.check.gap <= 1e-7
    assert result.check.feasible


def test_a_local_optimum_is_called_stationary_and_depends_on_the_start():
    hills = mx.maximize(mx.sum_squares(W), over=W)
    found = {}
    for name in DOMAINS:
        start = {n: 0.8 if n == name else 0.1 for n in DOMAINS}
        result = mx.solve(hills, start=start)
        assert result.status is mx.Status.STATIONARY
        found[name] = result.weights[name]
    assert found == pytest.approx(dict.fromkeys(DOMAINS, 1.0))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_start_at_a_corner_can_be_left(geometry):
    result = mx.solve(mx.minimize(mx.kl(W, DOMAINS.natural), over=W), solver=Projected(geometry=geometry), start=[0.0, 0.0, 1.0])
    np.testing.assert_allclose(result.vector, DOMAINS.natural, atol=1e-4)


def test_a_budget_ends_with_the_best_point_and_a_result_goes_on_from_there():
    problem = mx.minimize(mx.kl(W, DOMAINS.natural) + mx.exp(3 * W["code"]), over=W)
    short = mx.solve(problem, solver=Projected(geometry="entropic"), budget=mx.Budget(steps=2))
    assert short.status is mx.Status.BUDGET
    assert len(short.trace) == 2
    assert short.check.gap > 1e-6
    longer = mx.solve(problem, solver=Projected(), start=short)
    assert longer.status is mx.Status.OPTIMAL
    assert longer.value < short.value


def test_a_value_that_is_not_finite_ends_the_run_with_the_last_good_weights():
    problem = mx.minimize(-mx.log(W["web"] - 0.5) + mx.exp(W["code"]) * mx.square(W["books"]), over=W)
    result = mx.solve(problem, solver=Projected())
    assert result.status is mx.Status.FAILED
    assert "the objective (nan) is not finite at step 1" in result.message
    assert result.check.gap is None
    assert "the objective is nan there" in str(result.check)
    mended = mx.solve(problem, solver=Projected(), start=[0.8, 0.1, 0.1])
    assert mended.status is mx.Status.STATIONARY


def test_settings_are_checked_when_the_solver_is_made():
    with pytest.raises(mx.InputError, match=r"the geometry is 'flat'; it is 'entropic' \(mirror steps\) or 'euclidean' \(projections\)"):
        Projected(geometry="flat")
