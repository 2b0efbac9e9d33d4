"""Warm starts: each solver of programs goes on from a result, or its message says that it does not."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.solvers import Conic, Grid, Lagrangian, Projected, Simulation, WaterFilling

pytest.importorskip("cvxpy")

W = mx.Mixture(["a", "b", "c"])
TARGET = np.array([0.6, 0.3, 0.1])
NEAR = mx.minimize(mx.sum_squares(W - TARGET) + 0.1 * mx.sum(mx.exp(W)), over=W)
BALL = mx.minimize(W["a"], over=W, subject_to=[(mx.kl(W, [0.5, 0.3, 0.2]) <= 0.05).named("near")])
APART = mx.minimize(mx.sum(mx.exp(-W * [1.0, 2.0, 3.0])), over=W)


@pytest.mark.parametrize(("problem", "solver"), [(NEAR, Projected()), (NEAR, Projected("entropic")), (BALL, Lagrangian())], ids=str)
def test_descents_go_on_from_a_result_of_the_plan(problem, solver):
    plan = mx.plan(problem, solver=solver)
    first = plan.run()
    again = plan.run(start=first)
    assert "start" not in again.message
    assert again.trace["gap"][0] < first.trace["gap"][0]
    np.testing.assert_allclose(again.vector, first.vector, atol=1e-5)


@pytest.mark.parametrize(("problem", "solver"), [(NEAR, Conic()), (NEAR, Grid()), (NEAR, Simulation()), (APART, WaterFilling())], ids=str)
def test_the_others_say_that_they_do_not(problem, solver):
    plan = mx.plan(problem, solver=solver)
    first = plan.run()
    again = plan.run(start=first)
    assert f"start is not used: {type(solver).__name__} does not go on from weights that it is given" in again.message
    assert "start" not in first.message
    np.testing.assert_array_equal(again.vector, first.vector)
