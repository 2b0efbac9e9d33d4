"""Worst losses above a bilevel problem: the kink of max stalls descent, and what the plan names in its place does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.compiler.plan import SMOOTH
from mixopt.solvers import Implicit, Unrolled

NAMES = ("a", "b", "c")
CENTRES = np.array([[0.0, 0.0], [1.0, 0.0], [0.3, 0.9]])
W, Z, THETA = mx.Mixture(NAMES), mx.Mixture(NAMES, "z"), mx.model()
TRAINED = mx.argmin(W @ mx.losses(THETA, NAMES), over=THETA)
WORST = mx.losses(TRAINED, NAMES, name="val")


def learner():
    """l_i = |theta - c_i|^2 in training and validation, so that theta*(w) = sum_i w_i c_i."""
    c = torch.tensor(CENTRES)
    return mx.FunctionLearner(torch.zeros(2, dtype=torch.float64), dict.fromkeys(("train", "val"), lambda p: ((p - c) ** 2).sum(1)))


def optimum():
    """The smallest circle about an acute triangle: its centre in barycentric coordinates [3], and its radius squared."""
    centre = np.linalg.solve(2 * (CENTRES[1:] - CENTRES[0]), (CENTRES[1:] ** 2).sum(1))
    return np.linalg.solve(np.vstack([CENTRES.T, np.ones(3)]), [*centre, 1.0]), float(centre @ centre)


@pytest.mark.parametrize("t", [1e-2, 1e-3])
@pytest.mark.parametrize(
    "smooth",
    [
        lambda t: mx.minimize(mx.logsumexp(WORST, t), over=W),
        lambda t: mx.minimize(mx.logsumexp(WORST / t) * t, over=W),
        lambda t: mx.minimize(mx.maximize(Z @ WORST + t * mx.entropy(Z), over=Z), over=W),
        lambda t: mx.maximize(-mx.logsumexp(WORST, t), over=W),
    ],
    ids=["logsumexp", "by hand", "an entropic term", "maximised"],
)
def test_the_smoothed_worst_loss_is_solved_near_the_least_worst_loss(smooth, t):
    """max(x) <= t logsumexp(x / t) <= max(x) + t log n, so that its optimum is that much above the least worst loss at most."""
    problem, (weights, least) = smooth(t), optimum()
    assert mx.plan(problem, learner()).choice.notes == ()
    result = mx.solve(problem, learner(), solver=Implicit())
    assert result.status is mx.Status.STATIONARY
    assert result.check.gap <= 1e-6
    assert least <= abs(result.value) <= least + t * math.log(3) + 1e-9
    worst = ((result.vector @ CENTRES - CENTRES) ** 2).sum(1).max()
    assert least - 1e-12 <= worst <= least + t * math.log(3)
    np.testing.assert_allclose(result.vector, weights, atol=t)


@pytest.mark.parametrize("problem", [mx.minimize(mx.max(WORST), over=W), mx.minimize(mx.maximize(Z @ WORST, over=Z), over=W)])
def test_the_worst_loss_itself_is_not_certified_and_the_plan_names_the_mend(problem):
    plan = mx.plan(problem, learner(), solver=Implicit(outer_steps=30))
    assert SMOOTH["max"] in str(plan)
    result = plan.run()
    assert not result.status.solved
    assert result.check.gap > 1e-3


def test_smoothing_goes_with_other_engines_too():
    problem = mx.minimize(mx.logsumexp(WORST, 1e-2), over=W)
    result = mx.solve(problem, learner(), solver=Unrolled(steps=60, step_size=0.2))
    np.testing.assert_allclose(result.vector, optimum()[0], atol=1e-2)


@pytest.mark.parametrize(
    ("kink", "smooth", "low", "high"),
    [
        (mx.max, lambda x, t: mx.logsumexp(x, t), 0.0, lambda t: t * math.log(3)),
        (mx.min, lambda x, t: -mx.logsumexp(-x, t), lambda t: -t * math.log(3), 0.0),
        (lambda x: mx.sum(mx.pos(x)), lambda x, t: mx.sum(mx.softplus(x / t) * t), 0.0, lambda t: 3 * t * math.log(2)),
        (lambda x: mx.sum(mx.abs(x)), lambda x, t: mx.sum(mx.huber(x, t) / t), lambda t: -3 * t / 2, 0.0),
    ],
    ids=["max", "min", "pos", "abs"],
)
@pytest.mark.parametrize("t", [0.01, 0.3])
def test_what_takes_the_place_of_a_kink_is_as_near_as_is_said(kink, smooth, low, high, t):
    from mixopt.runtime.program import Function

    shifted = W - np.array([0.4, 0.3, 0.3])
    a, b = Function(kink(shifted), W, {}), Function(smooth(shifted, t), W, {})
    for w in np.random.default_rng(0).dirichlet(np.ones(3), 50):
        least, most = (bound(t) if callable(bound) else bound for bound in (low, high))
        assert least - 1e-12 <= b.value(w) - a.value(w) <= most + 1e-12
