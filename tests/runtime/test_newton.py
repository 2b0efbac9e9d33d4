"""Projected Newton steps: their model against scipy, their speed against spectral ones, and where they are not taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import mixopt as mx
from mixopt.runtime.descent import begin, spectral_step
from mixopt.runtime.newton import MOST, curvatures, newton_step
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region
from mixopt.solvers import Conic, Projected

from .test_quasi_newton import LIMITS, Counted, K, W, descended


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from(sorted(LIMITS)))
def test_the_least_point_of_a_quadratic_has_no_direction_down(seed, kind):
    rng = np.random.default_rng(seed)
    region = Region.compile(W, LIMITS[kind], {})
    root, g = rng.normal(size=(K, K)), 3 * rng.normal(size=K)
    H, w = root @ root.T + 0.01 * np.eye(K), region.project(rng.dirichlet(np.ones(K)))
    u = region.bottom(w, g, H, region.lower)
    slope = g + H @ (u - w)
    assert max(region.layout.off(u), *region.residuals(u).values(), 0.0) <= 1e-12
    assert slope @ u - slope @ region.lowest(slope) <= 1e-9 * (1 + np.abs(slope).max())


def test_a_model_that_bends_downwards_has_no_least_point():
    region = Region.compile(W, [], {})
    with pytest.raises(np.linalg.LinAlgError):
        region.bottom(np.full(K, 1 / K), np.zeros(K), -np.eye(K), region.lower)


@pytest.mark.parametrize("kind", LIMITS)
def test_it_reaches_scipy_s_optimum_in_few_steps(kind):
    region, oracle = Region.compile(W, LIMITS[kind], {}), Counted()
    at, gap = descended(newton_step, oracle, region, steps=12)
    assert gap <= 1e-9
    limits = [{"type": "eq", "fun": lambda w: w.sum() - 1}]
    if kind == "linear":
        limits += [{"type": "ineq", "fun": lambda w: region.h - region.G @ w}, {"type": "eq", "fun": lambda w: region.A @ w - region.b}]
    box = np.column_stack([region.lower, np.minimum(region.upper, 1.0)])
    best = minimize(
        oracle.value, region.start(None), jac=oracle.gradient, bounds=box, constraints=limits, options={"ftol": 1e-14, "maxiter": 500}
    )
    assert at.value <= best.fun + 1e-7  # with multipliers of 80, SLSQP is off its constraints by more than 1e-10


def test_second_derivatives_hold_at_small_weights_and_at_a_weight_of_one():
    w = np.array([1e-5, 0.2, 1 - 0.2 - 1e-5])
    symbol = mx.Mixture(["web", "code", "books"])
    function = Function(mx.kl(symbol, [0.2, 0.3, 0.5]), symbol, {})
    np.testing.assert_allclose(curvatures(function, w, function.gradient(w)), np.diag(1 / w), rtol=1e-3, atol=1e-5)
    edge = Function(-mx.sqrt(1 - symbol["web"]), symbol, {})
    at = np.array([1.0, 0.0, 0.0]) - [1e-3, 0, 0]
    assert np.isfinite(curvatures(edge, at, edge.gradient(at))).all()


def test_weights_that_a_divergence_keeps_small_are_found_without_a_visit_to_zero():
    share = np.array([0.9, 0.1 - 1e-7, 1e-7])
    symbol = mx.Mixture(["web", "code", "books"])
    result = mx.solve(mx.minimize(mx.kl(symbol, share), over=symbol), solver=Projected())
    assert (result.trace.weights > 0).all()
    assert len(result.trace) <= 12
    np.testing.assert_allclose(result.vector, share, rtol=1e-3)


def test_a_law_with_a_divergence_and_caps_takes_few_steps_to_conic_s_answer():
    rng = np.random.default_rng(0)
    A, q = rng.normal(-0.5, 0.7, (13, 17)), rng.dirichlet(np.full(17, 2.0))
    w = mx.Mixture([f"d{i}" for i in range(17)])
    problem = mx.minimize(mx.mean(mx.exp(mx.constant(A) @ w)) + 0.05 * mx.kl(w, q), over=w, subject_to=[(w <= 4 * q).named("caps")])
    result = mx.solve(problem, solver=Projected())
    assert len(result.trace) <= 10  # 253 by spectral steps
    assert result.value == pytest.approx(mx.solve(problem, solver=Conic()).value, abs=1e-8)
    assert result.check.gap <= 1e-8


@pytest.mark.parametrize("case", ["downwards", "many", "ball"])
def test_where_no_newton_step_is_taken_it_is_spectral(case):
    k = MOST + 1 if case == "many" else K
    w = mx.Mixture([f"d{i}" for i in range(k)])
    goal = mx.sum_squares(w - 0.3 * np.arange(k))
    objective = -goal if case == "downwards" else goal
    ball = [mx.norm(w - 1 / k) <= 0.1] if case == "ball" else []
    region, function = Region.compile(w, ball, {}), Function(objective, w, {})
    at = begin(function, np.full(k, 1 / k))
    new, other = newton_step(function, region, at), spectral_step(function, region, at)
    np.testing.assert_array_equal(new.w, other.w)


def test_projected_takes_few_steps_over_a_hundred_domains_too():
    rng = np.random.default_rng(0)
    A, q = rng.normal(-0.5, 0.7, (5, 100)), rng.dirichlet(np.full(100, 2.0))
    w = mx.Mixture([f"d{i}" for i in range(100)])
    problem = mx.minimize(mx.mean(mx.exp(mx.constant(A) @ w)) + 0.05 * mx.kl(w, q), over=w)
    result = mx.solve(problem, solver=Projected())
    assert result.status is mx.Status.OPTIMAL  # spectral steps end short of it after thousands
    assert len(result.trace) <= 12
