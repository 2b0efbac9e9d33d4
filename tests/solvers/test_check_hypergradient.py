"""check_hypergradient: right, biased, wrong and refused engines are told apart, on a toy with closed answers and on sampled data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.hypergradients import differences
from mixopt.solvers import ConjugateGradients, Implicit, Unrolled, ValueFunction

from .small import validation

POINT = [0.4, 0.3, 0.2, 0.1]


def test_differences_are_exact_for_polynomials_of_the_fourth_degree():
    def value(u):
        return u[0] ** 4 + 3 * u[0] * u[1] - u[1] ** 3

    slopes, precision = differences(value, np.array([0.7, 0.3]), 1e-2)
    assert slopes == pytest.approx([4 * 0.7**3 + 0.9, 2.1 - 0.27], abs=1e-10)
    assert 0 < precision < 1e-2


def test_a_weight_of_zero_is_only_raised():
    seen = []

    def value(u):
        seen.append(u.min())
        return float(np.exp(u[0]) + u[1] ** 2)

    slopes, _ = differences(value, np.array([0.0, 1.0]), 1e-4)
    assert slopes == pytest.approx([1.0, 2.0], abs=1e-9)
    assert min(seen) == 0.0


@pytest.mark.parametrize("at", [POINT, [0.0, 0.5, 0.5, 0.0]])
def test_all_engines_by_default_and_what_is_said_of_each(toy, at):
    check = mx.check_hypergradient(toy.problem(), toy.learner, at=at)
    assert check.differences == pytest.approx(toy.gradient(at), rel=1e-6, abs=1e-8)
    implicit, unrolled, value = check.rows
    assert implicit.verdict == "right"
    assert implicit.error < 1e-6
    assert implicit.euler < 1e-8
    assert implicit.gradient == pytest.approx(toy.gradient(at), rel=1e-8)
    assert value.verdict == "right"
    assert unrolled.verdict.startswith("right for what it descends (1 unrolled step of 0.1, exact), which is")
    assert unrolled.own < 1e-6
    assert unrolled.euler > 0.1
    assert check.wrong == ()
    assert implicit.cost.hessian_products > 0
    assert value.cost.hessian_products == 0


def test_the_sense_is_the_user_s(toy):
    check = mx.check_hypergradient(mx.maximize(1 - toy.upper, over=toy.w), toy.learner, at=POINT, solvers=[Implicit()])
    assert check.differences == pytest.approx(-toy.gradient(POINT), rel=1e-6)
    assert check.rows[0].gradient == pytest.approx(-toy.gradient(POINT), rel=1e-6)
    assert check.rows[0].verdict == "right"


def test_a_direct_term_is_within_the_identity(toy):
    problem = mx.minimize(toy.upper + 0.3 * mx.sum_squares(toy.w), over=toy.w)
    check = mx.check_hypergradient(problem, toy.learner, at=POINT, solvers=[Implicit()])
    assert check.rows[0].verdict == "right"
    assert check.rows[0].euler < 1e-8


def test_a_direct_term_that_depends_on_the_model_is_within_the_identity(toy):
    theta = mx.model()
    trained = mx.argmin(toy.w @ mx.losses(theta, toy.domains) + 0.1 * mx.sum_squares(theta), over=theta)
    problem = mx.minimize(toy.w @ mx.losses(trained, toy.domains) + mx.loss(trained, "val"), over=toy.w)
    row = mx.check_hypergradient(problem, toy.learner, at=POINT, solvers=[Implicit()]).rows[0]
    assert row.verdict == "right"
    assert row.euler < 1e-8


def test_without_a_regulariser_the_identity_says_zero():
    centres = torch.tensor([[0.0, 0.0], [2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    losses = {"train": lambda p: ((p - centres) ** 2).sum(1), "val": lambda p: ((p - 0.7) ** 2).sum()}
    row = mx.check_hypergradient(*validation(losses, names="abc"), solvers=[Implicit()]).rows[0]
    assert row.euler < 1e-12
    assert abs(row.gradient.sum()) < 1e-10


def test_damping_is_told_as_the_cause(toy):
    damped = Implicit(system=ConjugateGradients(damping=0.5))
    check = mx.check_hypergradient(toy.problem(), toy.learner, at=POINT, solvers=[damped, Implicit()])
    assert check.wrong == (check.rows[0],)
    assert "Its damping bends it" in check.rows[0].verdict
    assert check.rows[0].error == pytest.approx(0.5 / 1.75, rel=1e-4)
    assert check.rows[0].cosine == pytest.approx(1)


class _Wrong(torch.autograd.Function):
    """x**2 with a backward pass that is 10 % too large."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(context, g):
        (x,) = context.saved_tensors
        return 2.2 * g * x


def test_a_wrong_derivative_of_the_user_s_loss_is_found():
    centres = torch.tensor([[0.0, 0.0], [2.0, 1.0], [1.0, 3.0]], dtype=torch.float64)
    losses = {"train": lambda p: ((p - centres) ** 2).sum(1), "val": lambda p: _Wrong.apply(p - 0.7).sum()}
    check = mx.check_hypergradient(*validation(losses, names="abc", ridge=0.1), solvers=[Implicit()])
    assert check.rows[0].error == pytest.approx(0.1, rel=1e-3)
    assert "gradcheck" in check.wrong[0].verdict


def test_a_refusal_is_a_row_and_a_penalty_s_bias_a_bias(toy):
    gauss, coarse = Implicit(curvature="gauss-newton"), ValueFunction(penalty=2)
    check = mx.check_hypergradient(toy.problem(), toy.learner, solvers=[gauss, coarse])
    assert check.rows[0].verdict.startswith("refused: Implicit refuses")
    assert check.rows[1].verdict.startswith("right for what it descends (the value function")
    text = str(check)
    assert text.splitlines()[0].startswith("against finite differences of the upper objective, the lower level trained again, good to")
    assert "no Gauss-Newton products" in text
    assert "own error" in check._repr_html_()


def test_one_solver_is_no_list_and_a_program_has_no_hypergradient(toy):
    with pytest.raises(mx.InputError, match="give a list of them"):
        mx.check_hypergradient(toy.problem(), toy.learner, solvers=Implicit())
    with pytest.raises(mx.InputError, match="bilevel"):
        mx.check_hypergradient(mx.minimize(mx.sum_squares(toy.w), over=toy.w), toy.learner)


def test_a_sampled_learner_is_held_against_what_training_does():
    """Two domains of a bigram model, the validation set from the first: training more on it is what helps."""
    draw = np.random.default_rng(0)
    tokens = {"a": draw.integers(0, 4, 400), "b": draw.integers(4, 8, 400)}
    torch.manual_seed(0)
    learner = mx.TorchLearner(
        torch.nn.Sequential(torch.nn.Embedding(8, 8), torch.nn.Linear(8, 8)),
        {"train": tokens, "val": {"a": tokens["a"]}},
        context=8,
        optimizer=lambda leaves: torch.optim.SGD(leaves, lr=0.1),
    )
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    problem = mx.minimize(mx.mean(mx.losses(mx.argmin(w @ mx.losses(theta, ["a", "b"]), over=theta), ["a"], name="val")), over=w)
    check = mx.check_hypergradient(problem, learner, solvers=[Unrolled(steps=1), ValueFunction()], steps=5)
    assert check.target == "the evaluation loss after 5 training steps"
    assert check.precision < 0.1
    for row in check.rows:
        assert row.verdict.startswith("points where training leads (cosine 1.00)")
        assert np.isnan(row.error)
