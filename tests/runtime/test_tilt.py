"""Entropic steps under tied weights: closed answers, SLSQP, and the conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import mixopt as mx
from mixopt.runtime.region import Region
from mixopt.runtime.simplex import mirror
from mixopt.runtime.tilt import tilted

NAMES = ["a", "b", "c", "d"]
W = mx.Mixture(mx.Domains(NAMES))


def region(*constraints):
    return Region.compile(W, constraints, {})


def test_without_constraints_it_is_the_mirror_step():
    centre, tilt = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.5, -0.2, 0.0, 1.0])
    np.testing.assert_allclose(tilted(region(), centre, tilt), mirror(centre, tilt, 1.0), atol=1e-15)


def test_a_group_that_is_capped_keeps_its_conditionals():
    """KL projection onto w_a + w_b <= 0.3: both groups are rescaled, and within them nothing changes."""
    centre = np.array([0.4, 0.3, 0.2, 0.1])
    found = tilted(region(mx.mass(W, ["a", "b"]) <= 0.3), centre, np.zeros(4))
    np.testing.assert_allclose(found, [0.3 * 4 / 7, 0.3 * 3 / 7, 0.7 * 2 / 3, 0.7 / 3], atol=1e-12)


def test_weights_that_are_tied_meet_at_their_geometric_mean():
    centre = np.array([0.5, 0.125, 0.2, 0.175])
    found = tilted(region(mx.equal(W["a"], W["b"])), centre, np.zeros(4))
    expected = np.array([0.25, 0.25, 0.2, 0.175])
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-12)


def test_a_constraint_that_does_not_bind_changes_nothing():
    centre, tilt = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.0, 0.0, 0.2])
    np.testing.assert_allclose(tilted(region(W["a"] + W["b"] <= 0.9), centre, tilt), mirror(centre, tilt, 1.0), atol=1e-15)


def test_constraints_twice_over_and_at_once_with_bounds():
    """The same row twice, beside a bound: the dual is flat, the weights are not."""
    found = tilted(region(W["a"] + W["b"] <= 0.3, W["a"] + W["b"] <= 0.3, W["a"] <= 0.1), np.full(4, 0.25), np.zeros(4))
    np.testing.assert_allclose(found, [0.1, 0.2, 0.35, 0.35], atol=1e-10)


def test_a_region_without_interior_is_reached_all_the_same():
    found = tilted(region(W["a"] + W["b"] <= 0.0), np.full(4, 0.25), np.zeros(4))
    np.testing.assert_allclose(found, [0, 0, 0.5, 0.5], atol=1e-8)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 1))
def test_it_is_the_minimum_that_slsqp_finds(seed, inequalities, equalities):
    draw = np.random.default_rng(seed)
    inside, centre, tilt = draw.dirichlet(np.ones(4)), draw.dirichlet(np.ones(4)) + 1e-3, draw.normal(size=4)
    centre /= centre.sum()
    rows = draw.normal(size=(inequalities + equalities, 4))
    room = np.where(np.arange(len(rows)) < inequalities, 0.02, 0.0)
    constraints = [
        (mx.constant(row) @ W <= float(row @ inside + slack)) if slack else mx.equal(mx.constant(row) @ W, float(row @ inside))
        for row, slack in zip(rows, room, strict=True)
    ]
    own = region(*constraints)
    found = tilted(own, centre, tilt)
    assert max(own.residuals(found).values()) <= 1e-8
    assert found.sum() == pytest.approx(1, abs=1e-12)

    def cost(u):
        u = np.clip(u, 1e-300, None)
        return float(tilt @ u + (u * np.log(u / centre)).sum())

    sides = [{"type": "eq", "fun": lambda u: u.sum() - 1}]
    for row, slack in zip(rows, room, strict=True):
        kind = "ineq" if slack else "eq"
        sides.append({"type": kind, "fun": lambda u, row=row, slack=slack: float(row @ inside + slack - row @ u)})
    other = minimize(cost, inside, bounds=[(1e-12, 1)] * 4, constraints=sides, method="SLSQP", options={"ftol": 1e-14, "maxiter": 500})
    assert cost(found) <= cost(other.x) + 1e-7
