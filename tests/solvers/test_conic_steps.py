"""Convex constraints that are not linear in first-order solvers: every step obeys them, and the answers are those of closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import mixopt as mx
from mixopt.runtime.region import InfeasibleError, Region
from mixopt.runtime.tilt import tilted
from mixopt.solvers import Conic, DescentAscent, Implicit, Projected, Unrolled
from mixopt.solvers.conic_steps import ConicSteps

DOMAINS = mx.Domains(["a", "b", "c"], tokens=[2, 1, 1])
W = mx.Mixture(DOMAINS)
BALL = (mx.kl(W, DOMAINS.natural) <= 0.05).named("trust")


def steps(*constraints):
    return ConicSteps(W, constraints, {})


def test_a_projection_onto_a_ball_around_the_centre_is_radial():
    """||w - 1/3|| <= 0.2 on the simplex: the nearest point lies on the ray from the centre."""
    middle = np.full(3, 1 / 3)
    found = steps(mx.norm(W - middle) <= 0.2).nearest(np.array([0.9, 0.1, 0.0]))
    direction = np.array([0.9, 0.1, 0.0]) - middle
    np.testing.assert_allclose(found, middle + 0.2 * direction / np.linalg.norm(direction), atol=1e-6)


def test_the_entropic_step_in_a_kl_ball_lies_on_the_curve_from_its_centre():
    """argmin <g, u> + KL(u || q) with KL(u || q) <= r is q exp(-s g), normalised, for the s at which the ball is met."""
    g, q = np.array([1.0, -1.0, 0.5]), DOMAINS.natural
    found = steps(BALL).tilted(q, g)
    logs = np.log(found / q)
    slope = (logs[0] - logs[1]) / (g[0] - g[1])
    assert logs[2] - logs[1] == pytest.approx(slope * (g[2] - g[1]), abs=1e-6)
    assert float((found * logs).sum()) == pytest.approx(0.05, abs=1e-7)
    own = Region.compile(W, (BALL,), {})
    np.testing.assert_allclose(tilted(Region(**{**vars_of(own), "steps": steps(BALL)}), q, g), found, atol=1e-9)


def vars_of(region):
    return {name: getattr(region, name) for name in region.__dataclass_fields__}


def test_a_ball_that_is_out_of_reach_is_told():
    far = steps((W["a"] >= 0.99).named("high"), (mx.kl(W, DOMAINS.natural) <= 1e-3).named("near"))
    assert "'high', 'near': no weights satisfy them together" in far.empty
    with pytest.raises(InfeasibleError):
        far.nearest(DOMAINS.natural)


@pytest.mark.parametrize("geometry", ["euclidean", "entropic"])
def test_projected_agrees_with_conic_in_a_trust_region(geometry):
    problem = mx.minimize(mx.constant([1.0, -1.0, 0.3]) @ W + mx.sum_squares(W), over=W, subject_to=[BALL])
    exact, found = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Projected(geometry=geometry))
    assert found.status is mx.Status.OPTIMAL
    assert found.vector == pytest.approx(exact.vector, abs=1e-4)
    assert found.duals["trust"] == pytest.approx(exact.duals["trust"], rel=1e-3)


BEST = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
AIM = torch.tensor([1.5, 0.4], dtype=torch.float64)


def ridge():
    """Training losses |p - best_i|^2 / 2, so that p* = sum_i w_i best_i, and a validation loss |p - aim|^2."""
    return mx.FunctionLearner(
        torch.zeros(2, dtype=torch.float64),
        losses={"train": lambda p: ((p - BEST) ** 2).sum(1) / 2, "val": lambda p: ((p - AIM) ** 2).sum()},
    )


@pytest.mark.parametrize("solver", [Implicit(), Unrolled(steps=60)])
def test_a_bilevel_problem_in_a_trust_region_has_the_answer_of_slsqp(solver):
    theta = mx.model()
    trained = mx.argmin(W @ mx.losses(theta, DOMAINS), over=theta)
    found = mx.solve(mx.minimize(mx.loss(trained, "val"), over=W, subject_to=[BALL]), ridge(), solver=solver)
    q, best, aim = DOMAINS.natural, BEST.numpy(), AIM.numpy()

    def divergence(w):
        return float((w * np.log(np.clip(w, 1e-300, None) / q)).sum())

    sides = [{"type": "eq", "fun": lambda w: w.sum() - 1}, {"type": "ineq", "fun": lambda w: 0.05 - divergence(w)}]

    def loss(w):
        return float(((w @ best - aim) ** 2).sum())

    other = minimize(loss, q, bounds=[(1e-9, 1)] * 3, constraints=sides, method="SLSQP", options={"ftol": 1e-15})
    assert found.vector == pytest.approx(other.x, abs=2e-4)
    assert found.value == pytest.approx(other.fun, abs=1e-6)
    assert found.check.constraints["trust"] <= 1e-6
    assert found.check.kkt <= 1e-3


@pytest.mark.parametrize("geometry", ["euclidean", "entropic"])
def test_a_saddle_keeps_its_weights_in_the_trust_region(geometry):
    theta = mx.model()
    game = mx.minimize(mx.maximize(W @ mx.losses(theta, DOMAINS), over=W, subject_to=[BALL]), over=theta)
    solver = DescentAscent(rate=0.1, geometry=geometry, average="last", steps=150)
    found = mx.solve(game, ridge(), solver=solver)
    for w in found.trace.weights[1:]:
        assert float((w * np.log(w / DOMAINS.natural)).sum()) <= 0.05 + 1e-6
    assert found.check.gap is not None
    assert found.check.gap <= 1e-2


def test_a_constraint_that_is_not_convex_is_refused():
    away = (mx.sum_squares(W) >= 0.4).named("away")
    with pytest.raises(mx.RefusalError, match="constraint 'away' is not convex"):
        mx.solve(mx.minimize(mx.sum_squares(W), over=W, subject_to=[away]), solver=Projected())
