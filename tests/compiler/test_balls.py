"""Inner weights in a ball about a prior: the value by another program, the worst weights, the price by finite differences, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mixopt as mx

cp = pytest.importorskip("cvxpy")

TASKS = ["chat", "math", "facts", "law"]
W, Z = mx.Mixture(["web", "code", "books"]), mx.Mixture(TASKS, "z")
A = np.array([[1.0, -0.5, 0.2], [-0.3, 0.8, 0.1], [0.4, 0.1, -0.9], [0.2, 0.3, 0.4]])
COSTS = mx.exp(A @ W)
PRIOR = np.array([0.4, 0.3, 0.2, 0.1])
BALLS = {
    "kl": (lambda r: mx.kl(Z, PRIOR) <= r, lambda z, r: cp.sum(cp.rel_entr(z, PRIOR)) <= r),
    "euclidean": (lambda r: mx.norm(Z - PRIOR) <= r, lambda z, r: cp.norm(z - PRIOR) <= r),
    "total variation": (lambda r: r >= 0.5 * mx.norm(PRIOR - Z, 1), lambda z, r: cp.norm(z - PRIOR, 1) <= 2 * r),
    "largest": (lambda r: mx.norm(Z - PRIOR, math.inf) / 2 <= r, lambda z, r: cp.norm(z - PRIOR, "inf") <= 2 * r),
    "chi-square": (
        lambda r: mx.sum_squares((Z - PRIOR) / np.sqrt(PRIOR)) <= r,
        lambda z, r: cp.sum_squares((z - PRIOR) / np.sqrt(PRIOR)) <= r,
    ),
    "about nothing": (lambda r: mx.norm(Z) <= 0.5 + r, lambda z, r: cp.norm(z) <= 0.5 + r),
}


def worst(ball, *further, sense=1):
    if sense > 0:
        return mx.minimize(mx.maximize(Z @ COSTS, over=Z, subject_to=[ball.named("ball"), *further]), over=W)
    return mx.maximize(mx.minimize(-(Z @ COSTS), over=Z, subject_to=[ball.named("ball"), *further]), over=W)


def inner(costs, limits) -> tuple[float, np.ndarray]:
    z = cp.Variable(4)
    value = cp.Problem(cp.Maximize(costs @ z), [z >= 0, cp.sum(z) == 1, *limits(z)]).solve(solver="CLARABEL")
    return float(value), z.value


@pytest.mark.parametrize("sense", [1, -1])
@pytest.mark.parametrize("name", BALLS)
def test_the_value_and_the_worst_weights_are_those_of_the_inner_program(name, sense):
    ball, theirs = BALLS[name]
    result = mx.solve(worst(ball(0.08), sense=sense))
    costs = np.exp(A @ result.vector)
    value, _ = inner(costs, lambda z: [theirs(z, 0.08)])
    z = np.array(list(result[Z].values()))
    assert result.status is mx.Status.OPTIMAL
    assert sense * result.value == pytest.approx(value, abs=1e-6)
    assert z @ costs == pytest.approx(value, abs=1e-5)
    assert theirs(cp.Constant(z), 0.08 + 1e-5).value(1e-7), "the worst weights lie in the ball"
    assert set(result.duals) == {"z", "ball"}


@pytest.mark.parametrize("name", BALLS)
def test_no_other_mixture_has_a_smaller_worst_case(name):
    ball, theirs = BALLS[name]
    result = mx.solve(worst(ball(0.08)))
    for w in np.random.default_rng(0).dirichlet(np.ones(3), 3):
        near = 0.9 * result.vector + 0.1 * w
        assert inner(np.exp(A @ near), lambda z: [theirs(z, 0.08)])[0] >= result.value - 1e-6


@pytest.mark.parametrize(("name", "radius"), [("kl", 0.05), ("total variation", 0.06), ("largest", 0.03), ("chi-square", 0.07)])
def test_the_dual_of_a_ball_is_the_slope_of_the_value(name, radius):
    ball, _ = BALLS[name]
    step = 1e-4
    slope = (mx.solve(worst(ball(radius + step))).value - mx.solve(worst(ball(radius - step))).value) / (2 * step)
    assert mx.solve(worst(ball(radius))).duals["ball"] == pytest.approx(slope, abs=2e-3)


def test_a_ball_stands_beside_linear_limits_and_takes_a_parameter():
    radius, cap = mx.parameter("r", nonneg=True), (Z <= 0.45).named("cap")
    ready = mx.plan(worst(mx.kl(Z, PRIOR) <= radius, cap))
    for r in (0.01, 0.2):
        result = ready.run(given={"r": r})
        value, _ = inner(np.exp(A @ result.vector), lambda z, r=r: [cp.sum(cp.rel_entr(z, PRIOR)) <= r, z <= 0.45])
        assert result.value == pytest.approx(value, abs=1e-6)
        assert set(result.duals["cap"]) == set(TASKS)


def test_a_ball_without_room_is_the_prior_and_a_wide_one_the_largest_cost():
    assert mx.solve(worst(mx.norm(Z - PRIOR) <= 0.0)).value == pytest.approx(mx.solve(mx.minimize(PRIOR @ COSTS, over=W)).value, abs=1e-6)
    assert mx.solve(worst(mx.kl(Z, PRIOR) <= 5)).value == pytest.approx(mx.solve(mx.minimize(mx.max(COSTS), over=W)).value, abs=1e-6)


@pytest.mark.parametrize(
    "ball",
    [
        mx.norm(Z - PRIOR) >= 0.1,
        mx.norm(Z - PRIOR) <= -0.1,
        mx.norm(Z - PRIOR) <= mx.parameter("r"),
        mx.norm(Z * Z) <= 0.1,
        -mx.norm(Z) <= 0.1,
        mx.kl(PRIOR, Z) <= 0.1,
        mx.equal(mx.norm(Z), 0.1),
    ],
)
def test_what_is_no_ball_is_refused_with_what_is(ball):
    with pytest.raises(mx.ProblemError, match=r"is not linear in 'z', and no ball; it is linear, or a ball: norm\(e\) <= r"):
        mx.plan(worst(ball))
