"""The constraints that users write most, through Conic: optimum, dual as the rate of improvement, certificate, feasibility."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.solvers import Conic

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books", "math"], tokens=[6e11, 2e11, 1.5e11, 5e10])
W = mx.Mixture(DOMAINS)
NATURAL = DOMAINS.natural
COST = np.array([2.0, 1.0, 1.6, 1.2])
LINEAR = W @ COST
FIT = mx.sum_squares(W - [0.05, 0.05, 0.2, 0.7])
WORST = mx.max(mx.constant(np.array([[3.0, 1, 2, 2], [1, 3, 2, 1], [2, 2, 1, 3]])) @ W)
MAKE = {
    "a KL ball": lambda r: mx.kl(W, NATURAL) <= 0.05 + r,
    "a KL ball the other way": lambda r: mx.kl(mx.constant(NATURAL), W) <= 0.05 + r,
    "an L1 ball": lambda r: mx.norm(W - NATURAL, 1) <= 0.1 + r,
    "an L2 ball": lambda r: mx.norm(W - NATURAL) <= 0.1 + r,
    "a largest change": lambda r: mx.norm(W - NATURAL, np.inf) <= 0.05 + r,
    "the mass of a group": lambda r: mx.mass(W, ["code", "math"]) <= 0.3 + r,
    "a ratio of two domains": lambda r: W["math"] <= 0.5 * W["web"] + r,
    "a floor on the entropy": lambda r: mx.entropy(W) >= 1.3 - r,
    "repetition": lambda r: W["math"] <= 4 * 5e10 / 1e12 + r,
    "an average cost": lambda r: mx.sum(W * [1.0, 4.0, 2.0, 5.0]) <= 2.2 + r,
}
GOALS = {"linear": LINEAR, "quadratic": FIT, "with a kink": WORST}


def solved(goal: mx.Expr, make, relaxation: float) -> mx.Result:
    return mx.solve(mx.minimize(goal, over=W, subject_to=[make(relaxation).named("r")]), solver=Conic())


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_it_is_met_certified_and_its_dual_is_the_rate(make, goal):
    result = solved(goal, make, 0.0)
    assert result.status is mx.Status.OPTIMAL
    assert result.check.feasible
    assert result.check.gap is not None
    assert result.check.gap <= 2e-5, "of the first order in the error of the weights, where a constraint bends"
    assert result.check.kkt is None or result.check.kkt <= 5e-5
    step = 1e-4
    rate = (solved(goal, make, -step).value - solved(goal, make, step).value) / (2 * step)
    above = (solved(goal, make, -step).value - result.value) / step
    below = (result.value - solved(goal, make, step).value) / step
    if abs(above - below) < 1e-2 * (1 + abs(rate)):  # not at a corner, where the dual is one of many
        assert result.duals["r"] == pytest.approx(rate, abs=5e-3 * (1 + abs(rate)))


def test_an_equality_of_groups_and_a_fixed_domain():
    limits = [mx.equal(mx.mass(W, ["code", "math"]), mx.mass(W, ["web"])).named("even"), mx.equal(W["books"], 0.2).named("fixed")]
    result = mx.solve(mx.minimize(FIT, over=W, subject_to=limits), solver=Conic())
    assert result.weights["books"] == pytest.approx(0.2, abs=1e-8)
    assert result.weights["code"] + result.weights["math"] == pytest.approx(0.4, abs=1e-8)
    assert result.check.kkt <= 1e-7


def test_a_trust_region_with_its_radius_given_at_each_run():
    radius, centre = mx.parameter("radius", nonneg=True), mx.parameter("centre", 4, nonneg=True)
    plan = mx.plan(mx.minimize(LINEAR, over=W, subject_to=[(mx.norm(W - centre, 1) <= radius).named("trust")]))
    for r in (0.0, 0.1, 0.4):
        result = plan.run(given={"radius": r, "centre": NATURAL})
        assert np.abs(result.vector - NATURAL).sum() == pytest.approx(r, abs=1e-6)
        assert result.value == pytest.approx(NATURAL @ COST - r / 2 * (2.0 - 1.0), abs=1e-6), "from the dearest to the cheapest"
