"""The audit of a direction: finite differences against closed answers, and how noise is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.runtime.audit import agreement, cosine
from mixopt.solvers import Implicit, Unrolled

CENTRES = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
GOAL = torch.tensor([0.9, 0.4], dtype=torch.float64)
DOMAINS = mx.Domains(["a", "b", "c"])
RATE = 0.2


def problem():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    return mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, DOMAINS), over=theta), "val"), over=w)


def learner():
    return mx.FunctionLearner(
        torch.zeros(2, dtype=torch.float64),
        losses={"train": lambda p: ((p - CENTRES) ** 2).sum(1) / 2, "val": lambda p: ((p - GOAL) ** 2).sum() / 2},
        optimizer=lambda tensors: torch.optim.SGD(tensors, lr=RATE),
    )


def outcome_by_hand(w, steps):
    """theta_K = (1 - (1 - rate)^K) sum_i w_i c_i from zero, so the slope of the loss in w_i is <theta_K - goal, (1 - ...) c_i>."""
    share = 1 - (1 - RATE) ** steps
    centres = CENTRES.numpy()
    g = share * centres @ (share * w @ centres - GOAL.numpy())
    return g - g.mean()


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_finite_differences_equal_the_closed_slope(steps):
    w = np.array([0.5, 0.2, 0.3])
    found = mx.audit(problem(), learner(), at=w, solver=Implicit(), steps=steps)
    assert found.outcome == pytest.approx(outcome_by_hand(w, steps), abs=1e-9)
    assert found.agreement == pytest.approx(1)


def test_unrolling_the_same_steps_agrees_wholly_and_the_implicit_direction_once_training_is_long():
    unrolled = mx.audit(problem(), learner(), solver=Unrolled(steps=4, step_size=RATE), steps=4)
    assert unrolled.cosine == pytest.approx(1, abs=1e-9)
    short, long = (mx.audit(problem(), learner(), solver=Implicit(), steps=n).cosine for n in (1, 80))
    assert long == pytest.approx(1, abs=1e-6)
    assert short < 0.99
    assert long > short


def test_an_audit_is_of_bilevel_problems_only():
    w = mx.Mixture(DOMAINS)
    with pytest.raises(mx.InputError, match="bilevel"):
        mx.audit(mx.minimize(mx.sum_squares(w), over=w), learner())


@pytest.mark.parametrize("settings", [{"steps": 0}, {"epsilon": 0.0}, {"epsilon": 1.5}])
def test_an_audit_needs_steps_and_a_difference(settings):
    with pytest.raises(mx.InputError, match=r"steps are at least 1, and epsilon is in \(0, 1\)"):
        mx.audit(problem(), learner(), **settings)


def test_cosines_are_taken_on_the_simplex():
    assert cosine(np.array([1.0, 2.0, 3.0]), np.array([11.0, 12.0, 13.0])) == pytest.approx(1)
    assert np.isnan(cosine(np.ones(3), np.array([1.0, 2.0, 3.0])))
    assert np.isnan(agreement(np.ones((1, 3))))
    assert agreement(np.array([[1.0, 0, -1], [-1.0, 0, 1]])) == pytest.approx(-1)
