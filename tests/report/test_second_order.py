"""The curvature of an answer along the weights that are free: its face, its value against closed ones, and what a saddle point says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.report.second_order import free_directions, least_curvature
from mixopt.runtime.region import Region
from mixopt.solvers import Implicit, Unrolled

W = mx.Mixture(["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("limits", "w", "rank"),
    [
        ([], [0.25, 0.25, 0.25, 0.25], 3),
        ([], [0.5, 0.5, 0.0, 0.0], 1),
        ([], [1.0, 0.0, 0.0, 0.0], 0),
        ([W["a"] <= 0.5], [0.5, 0.2, 0.2, 0.1], 2),
        ([W["a"] <= 0.6], [0.5, 0.2, 0.2, 0.1], 3),
        ([mx.mass(W, ["a", "b"]) <= 0.7], [0.5, 0.2, 0.2, 0.1], 2),
        ([mx.mass(W, ["a", "b"]) <= 0.8], [0.5, 0.2, 0.2, 0.1], 3),
        ([mx.equal(W["c"], 2 * W["d"]), W["a"] <= 0.5], [0.5, 0.2, 0.2, 0.1], 1),
    ],
)
def test_the_face_is_what_the_active_constraints_leave_free(limits, w, rank):
    region, at = Region.compile(W, limits, {}), np.array(w)
    basis = free_directions(region, at, 1e-6)
    assert basis.shape == (4, rank)
    assert basis.T @ basis == pytest.approx(np.eye(rank))
    for move in basis.T:
        for sign in (1, -1):
            moved = at + 1e-3 * sign * move
            assert moved.sum() == pytest.approx(1)
            assert moved[at == 0] == pytest.approx(0, abs=1e-12)
            assert max(region.residuals(moved).values(), default=0.0) <= 1e-9


def test_a_bent_constraint_many_domains_and_several_unknowns_have_no_face():
    assert free_directions(Region.compile(W, [mx.kl(W, [0.25] * 4) <= 0.1], {}), np.full(4, 0.25), 1e-6) is None
    many = mx.Mixture([f"d{i}" for i in range(17)])
    assert free_directions(Region.compile(many, [], {}), np.full(17, 1 / 17), 1e-6) is None
    assert free_directions(Region.compile((W, mx.variable("z")), [], {}), np.append(np.full(4, 0.25), 0.0), 1e-6) is None


def test_the_least_curvature_is_that_along_the_free_directions():
    """Of sum_i a_i w_i^2 / 2 over two used weights it is (a_1 + a_2) / 2; a corner has none."""
    a, three = np.array([1.0, -4.0, 7.0]), mx.Mixture(["a", "b", "c"])
    region = Region.compile(three, [], {})
    for w, expected in (([0.5, 0.5, 0.0], -1.5), ([0.5, 0.0, 0.5], 4.0)):
        basis = free_directions(region, np.array(w), 1e-6)
        assert least_curvature(lambda u: a * u, np.array(w), basis, 1e-4) == pytest.approx(expected)
    assert least_curvature(lambda u: a * u, np.array([1.0, 0.0, 0.0]), free_directions(region, np.eye(3)[0], 1e-6), 1e-4) is None


def quadratic(sign, **learner):
    """theta = sum_i w_i e_i, above it sign / 2 |theta - t|^2 with t uniform: its Hessian is sign I, its only stationary point t."""
    target = torch.full((3,), 1 / 3, dtype=torch.float64)
    corners = torch.eye(3, dtype=torch.float64)
    losses = {"train": lambda p: ((p - corners) ** 2).sum(1) / 2, "val": lambda p: sign * ((p - target) ** 2).sum() / 2}
    w, theta = mx.Mixture(["a", "b", "c"]), mx.model()
    trained = mx.argmin(w @ mx.losses(theta, ["a", "b", "c"]), over=theta)
    return w, mx.loss(trained, "val"), mx.FunctionLearner(torch.zeros(3, dtype=torch.float64), losses)


@pytest.mark.parametrize("solver", [Implicit(), Unrolled(steps=None)], ids=str)
def test_a_certificate_tells_a_minimum_from_a_saddle_point(solver):
    w, upper, learner = quadratic(1)
    result = mx.solve(mx.minimize(upper, over=w), learner, solver=solver)
    assert result.check.curvature == pytest.approx(1, abs=1e-4)
    assert "least curvature 1.0e+00" in str(result.check)
    w, upper, learner = quadratic(-1)
    result = mx.solve(mx.minimize(upper, over=w), learner, solver=solver)  # uniform is stationary, and the worst of all weights
    assert result.status is mx.Status.STATIONARY
    assert result.check.curvature == pytest.approx(-1, abs=1e-4)
    assert "so this is no minimum: go on from other weights" in str(result.check)
    corner = mx.solve(mx.minimize(upper, over=w), learner, solver=solver, start=[0.8, 0.1, 0.1])
    assert corner.check.curvature is None
    turned = mx.solve(mx.maximize(upper, over=w), learner, solver=solver)
    assert turned.check.curvature == pytest.approx(1, abs=1e-4)


def test_a_run_that_is_not_solved_has_none():
    w, upper, learner = quadratic(1)
    result = mx.solve(mx.minimize(upper, over=w), learner, solver=Implicit(outer_steps=1, tolerance=1e-15), start=[0.8, 0.1, 0.1])
    assert not result.status.solved
    assert result.check.curvature is None
