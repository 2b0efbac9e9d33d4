"""Unrolled against the K-step outcome computed by hand, by finite differences, and by what it reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, RefusalError
from mixopt.forms import Abilities
from mixopt.solvers import Inner, Unrolled

from_zero = [0.4, 0.3, 0.2, 0.1]


def outcome(toy, w, steps, size, rho=0.25):
    """The upper value after plain gradient steps from zero, in numpy."""
    from_here = np.zeros(2)
    centres = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    for _ in range(steps):
        from_here = from_here - size * ((np.sum(w) + rho) * from_here - centres.T @ w)
    return 0.5 * float(np.sum((from_here - [0.9, 0.5]) ** 2))


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("size", [0.05, 0.6])
def test_the_gradient_is_that_of_the_k_step_outcome(toy, steps, size):
    w, shift = np.array(from_zero), 1e-6 * np.eye(4)
    differences = [(outcome(toy, w + s, steps, size) - outcome(toy, w - s, steps, size)) / 2e-6 for s in shift]
    gradient = mx.hypergradient(toy.problem(), toy.learner, at=w, solver=Unrolled(steps=steps, step_size=size))
    assert gradient == pytest.approx(differences, abs=1e-8)


def test_one_step_by_hand(toy):
    """theta_1 = s sum w_i c_i, so dF/dw_i = s <c_i, theta_1 - t>."""
    centres = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    theta = 0.3 * centres.T @ from_zero
    gradient = mx.hypergradient(toy.problem(), toy.learner, at=from_zero, solver=Unrolled(steps=1, step_size=0.3))
    assert gradient == pytest.approx(0.3 * centres @ (theta - [0.9, 0.5]), rel=1e-12)


def test_many_steps_give_the_implicit_gradient(toy):
    gradient = mx.hypergradient(toy.problem(), toy.learner, at=from_zero, solver=Unrolled(steps=80, step_size=0.5))
    assert gradient == pytest.approx(toy.gradient(from_zero), rel=1e-9)


def test_the_answer_is_optimal_for_the_k_step_outcome(toy):
    result = mx.solve(toy.problem(), toy.learner, solver=Unrolled(steps=2, step_size=0.3))
    best = min(outcome(toy, w, 2, 0.3) for w in np.random.default_rng(0).dirichlet(np.ones(4) / 2, 4000))
    assert result.status is mx.Status.STATIONARY
    assert outcome(toy, result.vector, 2, 0.3) <= best + 1e-9
    assert result.trace["value"][-1] == pytest.approx(outcome(toy, result.vector, 2, 0.3))


def test_steps_that_diverge_are_said_with_the_mend(toy):
    result = mx.solve(toy.problem(), toy.learner, solver=Unrolled(steps=2000, step_size=4.0))
    assert result.status is mx.Status.FAILED
    assert "diverged; lower step_size" in result.message
    assert result.vector.tolist() == [0.25] * 4
    assert result.trace.weights.shape == (0, 4)


def test_more_than_one_step_needs_double_backward(toy):
    form = mx.plan(toy.problem()).form
    weak = Abilities(exact=False, double_backward=False, gauss_newton=True)
    assert Unrolled(steps=1).refuses(form, weak) == ()
    assert "differentiated twice; use ValueFunction() or, with a sampled" in Unrolled(steps=2).refuses(form, weak)[0]
    for none in (Abilities(exact=True, double_backward=False, gauss_newton=True), Abilities(exact=False, double_backward=False)):
        assert "differentiated twice; use ValueFunction()" in Unrolled(steps=1).refuses(form, none)[0]
    with pytest.raises(RefusalError, match="bilevel"):
        mx.solve(mx.minimize(mx.sum_squares(toy.w), over=toy.w), solver=Unrolled())


@pytest.mark.parametrize("mode", ["reverse", "checkpointed", "forward"])
def test_to_convergence_it_is_the_implicit_gradient_whatever_the_start_and_the_first_step(toy, mode):
    for step_size in (0.1, 30.0):
        solver = Unrolled(steps=None, step_size=step_size, mode=mode)
        assert mx.hypergradient(toy.problem(), toy.learner, at=from_zero, solver=solver) == pytest.approx(toy.gradient(from_zero), rel=1e-7)
    if mode == "forward":
        return  # the same numbers, dearer
    result = mx.solve(toy.problem(), toy.learner, solver=Unrolled(steps=None, mode=mode))
    assert result.status is mx.Status.STATIONARY
    assert result.check.gap < 1e-6
    assert result.value == pytest.approx(mx.solve(toy.problem(), toy.learner).value, abs=1e-9)


def test_a_start_that_is_the_minimum_is_unrolled_until_it_is_forgotten():
    """No step is needed to converge there, and of no step the derivative is 0."""
    start = torch.tensor([1.0, 0.5], dtype=torch.float64)
    centres = torch.tensor([[0.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    scales = torch.tensor([1.0, 20.0], dtype=torch.float64)
    losses = {"train": lambda p: (scales * (p - centres) ** 2).sum(1) / 2, "val": lambda p: ((p - 3) ** 2).sum() / 2}
    learner = mx.FunctionLearner(start, losses)
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    problem = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, ["a", "b"]), over=theta), "val"), over=w)
    by_hand = (centres.numpy() - [1.0, 0.5]) @ (np.array([1.0, 0.5]) - 3)  # scales cancel: theta is the mean of the centres
    assert mx.hypergradient(problem, learner, solver=Unrolled(steps=None)) == pytest.approx(by_hand, rel=1e-6)


def test_what_does_not_converge_is_said_with_the_mend(toy):
    result = mx.solve(toy.problem(), toy.learner, solver=Unrolled(steps=None, inner=Inner(steps=3)))
    assert result.status is not mx.Status.STATIONARY
    assert "after 3 accelerated steps" in result.message
    assert "Give Inner(steps=...)" in result.message


def test_convergence_is_for_exact_learners_and_plain_steps(toy):
    form = mx.plan(toy.problem()).form
    sampled = Abilities(exact=False, double_backward=True)
    assert "on batches it never is; give a number of steps" in Unrolled(steps=None).refuses(form, sampled)[0]
    with pytest.raises(InputError, match="leave step_size or rule out"):
        Unrolled(steps=3, rule="optimizer", step_size=0.3)
    with pytest.raises(InputError, match="which is steps=None; this takes 3"):
        Unrolled(steps=3, inner=Inner(steps=9))
    with pytest.raises(InputError, match="not the learner's optimizer"):
        Unrolled(steps=None, rule="optimizer")
    outcome = mx.loss(mx.trained(toy.w @ mx.losses(mx.model(), toy.domains), over=mx.model(), steps=4), "val")
    with pytest.raises(RefusalError, match="4 training steps, and this unrolls to convergence; leave steps out"):
        mx.solve(mx.minimize(outcome, over=toy.w), toy.learner, solver=Unrolled(steps=None))
    assert "until the lower level has converged" in str(mx.plan(toy.problem(), toy.learner, solver=Unrolled(steps=None)))
