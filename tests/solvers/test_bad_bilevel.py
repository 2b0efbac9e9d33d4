"""Bilevel problems that cannot go well: each is refused, or told with what is wrong and the mend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import LearnerError, ProblemError
from mixopt.solvers import BOME, GPBGD, VPBGD, Implicit, OneStep, Unrolled, ValueFunction

NAMES = ["a", "b"]
START = torch.full((2,), 0.1, dtype=torch.float64)


def goal(p):
    return ((p - 1) ** 2).sum()


def parts():
    return mx.Mixture(NAMES), mx.model()


def problem():
    w, theta = parts()
    return mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, NAMES), over=theta), "val"), over=w)


def solved(train, solver=None, val=goal):
    return mx.solve(problem(), mx.FunctionLearner(START, {"train": train, "val": val}), solver=solver)


@pytest.mark.parametrize(
    "train",
    [
        lambda p: -torch.stack([(p**2).sum(), ((p - 1) ** 2).sum()]),
        lambda p: torch.stack([p[0] + 0.001 * p[1] ** 2, 2 * p[0] + 0.001 * p[1] ** 2]),
        lambda p: torch.stack([p[1] ** 2 - torch.exp(p[0]), p[1] ** 2 - p[0] ** 3]),
    ],
    ids=["concave", "a slope", "exponential"],
)
def test_a_lower_level_without_a_lower_bound_is_told(train):
    result = solved(train)
    assert result.status is not mx.Status.STATIONARY
    assert "the lower level falls without end" in result.message
    assert "sum_squares(theta), or bound the losses below" in result.message


def test_a_loss_that_is_nan_where_training_leads_is_named():
    def train(p):
        return torch.stack([((p - 3) ** 2).sum(), ((p - 2) ** 2).sum() + 0 * torch.log(0.5 - p[0])])

    result = solved(train)
    assert result.status is mx.Status.STUCK
    assert "the loss of (b) is not finite a gradient step further" in result.message


def test_a_loss_that_is_nan_at_the_start_is_refused_with_its_domain():
    def train(p):
        return torch.stack([(p**2).sum(), (p * np.nan).sum()])

    with pytest.raises(LearnerError, match=r"losses must be finite: that of \(domain number 2\)"):
        mx.FunctionLearner(START, {"train": train})
    with pytest.raises(LearnerError, match=r"losses must be finite: that of \(y\)"):
        mx.FunctionLearner(START, {"train": (train, ["x", "y"])})


def test_levels_that_do_not_depend_on_what_they_should_are_refused():
    w, theta = parts()
    with pytest.raises(ProblemError, match=r"does not depend on 'w', so the weights change nothing"):
        mx.plan(mx.minimize(mx.loss(mx.argmin(mx.mean(mx.losses(theta, NAMES)), over=theta), "val"), over=w))
    with pytest.raises(ProblemError, match=r"does not depend on 'theta', so its argmin is every model"):
        mx.argmin(mx.sum_squares(w), over=theta)
    with pytest.raises(LearnerError, match="carries no gradient of the parameters"):
        mx.FunctionLearner(START, {"train": lambda p: torch.stack([p.detach().sum(), p.detach().sum()])})
    with pytest.raises(LearnerError, match="linear in the model, so it has no curvature"):
        solved(lambda p: torch.stack([p.round().sum(), p.round().sum()]))


def test_a_hessian_that_is_not_positive_definite_is_told():
    """The start is a saddle of the lower level, where a Newton step has nowhere to go."""
    train = {"train": lambda p: torch.stack([p[0] ** 2 - p[1] ** 2] * 2), "val": lambda p: p.sum()}
    learner = mx.FunctionLearner(torch.zeros(2, dtype=torch.float64), train)
    with pytest.warns(UserWarning, match="negative curvature"):
        mx.hypergradient(problem(), learner)


@pytest.mark.parametrize("rate", [4.0, 300.0])
def test_an_inner_step_that_diverges_has_its_number(rate):
    result = solved(lambda p: torch.stack([(p**2).sum(), ((p - 1) ** 2).sum()]), Unrolled(steps=500, step_size=rate))
    assert result.status is mx.Status.FAILED
    number = int(result.message.split("no longer finite after ")[1].split()[0])
    grown = abs(1 - 2 * rate)  # the error of theta is multiplied by this in each step, until its square is too large a number
    assert number == pytest.approx(np.log(np.finfo(float).max) / 2 / np.log(grown), abs=2)
    assert f"unrolled steps of {rate:g} diverged; lower step_size" in result.message


def module():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8))


def sampled(repeat, **settings):
    draw = np.random.default_rng(0)
    tokens = {name: draw.integers(0, 8, 100 + 10 * i) for i, name in enumerate(NAMES)}
    other = {"x": tokens["b"] if repeat else draw.integers(0, 8, 110)}
    learner = mx.TorchLearner(module(), {"train": tokens, "val": other}, context=8, **settings)
    w, theta = parts()
    trained = mx.argmin(w @ mx.losses(theta, NAMES), over=theta)
    return mx.minimize(mx.mean(mx.losses(trained, ["x"], name="val")), over=w), learner


def test_a_validation_set_that_is_a_training_domain_is_told_by_plan_and_check():
    words = "'val' holds the training tokens of (x), the same as 'train'"
    for repeat in (True, False):
        it, learner = sampled(repeat)
        result = mx.solve(it, learner, solver=ValueFunction(outer_steps=1))
        assert (words in str(mx.plan(it, learner))) == repeat
        assert any(words in note for note in result.check.notes) == repeat
        assert ("hold other tokens out" in str(result.check)) == repeat


def test_a_module_without_anything_to_train_is_refused():
    frozen = module().requires_grad_(False)
    with pytest.raises(mx.InputError, match="no trainable parameter"):
        mx.TorchLearner(frozen, {"train": {"a": np.arange(20) % 8}}, context=4)


def test_a_regulariser_several_validation_sets_and_any_aggregate_are_one_problem():
    """The worst of two validation losses and a mean of others, by every engine, against finite differences."""
    rows = torch.tensor([[0.5, 1.0], [1.5, -0.5], [0.0, 0.3]], dtype=torch.float64)
    learner = mx.FunctionLearner(
        START,
        {
            "train": lambda p: torch.stack([((p - 1) ** 2).sum(), ((p + 1) ** 2).sum() + p[0] ** 4]),
            "near": lambda p: ((p - rows) ** 2).sum(1),
            "far": lambda p: torch.stack([torch.cos(p).sum(), (p**2).sum()]),
            "one": lambda p: (p[0] - 0.3) ** 2,
        },
    )
    w, theta = parts()
    trained = mx.argmin(w @ mx.losses(theta, NAMES) + 0.05 * mx.sum_squares(theta), over=theta)
    near, far = mx.losses(trained, ["x", "y", "z"], name="near"), mx.losses(trained, ["u", "v"], name="far")
    upper = mx.logsumexp(near, 0.3) + 0.5 * mx.mean(far) ** 2 + mx.loss(trained, "one") * far["v"] + 0.1 * mx.sum_squares(w)
    check = mx.check_hypergradient(mx.minimize(upper, over=w), learner, at=[0.7, 0.3], solvers=[Implicit(), ValueFunction()])
    assert [row.verdict for row in check.rows] == ["right", "right"]
    assert max(row.euler for row in check.rows) < 1e-5


def test_an_upper_level_of_a_model_that_nothing_trains_is_refused():
    w, theta = parts()
    for stranger in (theta, mx.model("other")):
        with pytest.raises(ProblemError, match=r"which nothing trains: .*Use losses\(argmin"):
            mx.plan(mx.minimize(mx.loss(stranger, "val") + mx.sum_squares(w), over=w))


@pytest.mark.parametrize("val", [lambda p: p.sign().sum(), lambda p: 0 * p.sum()], ids=["signs", "a constant"])
@pytest.mark.parametrize("solver", [Implicit(), Unrolled(steps=None), ValueFunction(), VPBGD(steps=3)], ids=lambda s: type(s).__name__)
def test_an_upper_level_without_a_slope_is_told_and_not_called_stationary(val, solver):
    result = solved(lambda p: torch.stack([(p**2).sum(), ((p - 1) ** 2).sum()]), solver, val=val)
    if not isinstance(solver, VPBGD):
        assert result.status is mx.Status.FAILED
        assert result.message.startswith("the upper objective depends neither on the model nor on the weights")
    assert any("has no slope; give one that can be differentiated" in note for note in result.check.notes)


def test_an_upper_level_that_is_flat_at_one_point_alone_is_no_error():
    """The start is its minimum exactly, and the gradient there is 0; nearby it is not."""
    result = solved(lambda p: torch.stack([(p**2).sum(), ((p - 1) ** 2).sum()]), val=lambda p: ((p - 0.5) ** 2).sum())
    assert result.status is mx.Status.STATIONARY
    assert result.check.notes == ()


def test_kinked_training_losses_have_no_curvature_and_no_certificate():
    result = solved(lambda p: torch.stack([p.abs().sum(), (p - 1).abs().sum()]))
    assert result.status is mx.Status.STUCK
    assert "the lower level's Hessian is not positive definite there" in result.message


def test_a_gradient_that_is_not_finite_is_named_by_its_domain():
    """The root's own slope is infinite at 0, where the loss itself is 0."""
    learner = mx.FunctionLearner(
        torch.zeros(2, dtype=torch.float64),
        {"train": lambda p: torch.stack([((p - 1) ** 2).sum(), (p**2).sum().sqrt()]), "val": goal},
    )
    result = mx.solve(problem(), learner)
    assert result.status is mx.Status.FAILED
    assert "the gradient of the loss of (b) is not finite there" in result.message
    assert "(a" not in result.message


@pytest.mark.parametrize("solver", [VPBGD(penalty=1e-9, steps=40), GPBGD(penalty=1e-9, steps=40)], ids=str)
def test_a_penalty_that_is_too_small_to_move_the_weights_is_told(solver):
    result = solved(lambda p: torch.stack([(p**2).sum(), ((p - 1) ** 2).sum()]), solver, val=lambda p: ((p - 0.9) ** 2).sum())
    assert result.status is mx.Status.BUDGET
    assert "the weights moved by no more than" in result.message
    assert "the penalty 1e-09 is too small to move them" in result.message
    assert result.check.gap > 0.1


def test_a_penalty_so_small_that_the_lower_level_is_forgotten_is_told():
    result = solved(lambda p: torch.stack([(p**2).sum(), ((p - 1) ** 2).sum()]), ValueFunction(penalty=1e-10))
    assert result.status is not mx.Status.STATIONARY
    assert "a larger penalty" in result.message


@pytest.mark.parametrize(
    "solver",
    [Unrolled(outer_steps=4), ValueFunction(outer_steps=4), VPBGD(steps=4, rate=0.1), OneStep(steps=4), BOME(steps=4, rate=0.1)],
    ids=lambda s: type(s).__name__,
)
def test_a_domain_that_a_batch_holds_nothing_of_has_a_loss_and_can_come_back(solver):
    """Batches drawn by weights, of which one is 0."""
    it, learner = sampled(False, sampling="weights")
    result = mx.solve(it, learner, solver=solver, start=[1.0, 0.0])
    assert np.isfinite(result.trace["losses"]).all()
    assert np.isfinite(result.trace.weights).all()
    assert result.check.simplex < 1e-9


def test_an_empty_domain_is_refused_by_its_name():
    with pytest.raises(mx.InputError, match="domain 'b' is empty; leave it out"):
        mx.TorchLearner(module(), {"train": {"a": np.arange(50) % 8, "b": np.array([], dtype=int)}}, context=8)


class Poisoned(torch.nn.Module):
    """A bigram model that answers NaN wherever the token 7 stands."""

    def __init__(self):
        super().__init__()
        self.inner = module()

    def forward(self, tokens):
        return self.inner(tokens) + torch.where(tokens == 7, torch.nan, 0.0)[..., None]


@pytest.mark.parametrize("solver", [Unrolled(outer_steps=3), ValueFunction(outer_steps=3), VPBGD(steps=3), OneStep(steps=3)])
def test_a_domain_whose_loss_is_nan_on_batches_is_named_and_the_start_returned(solver):
    draw = np.random.default_rng(0)
    tokens = {"a": draw.integers(0, 7, 100), "b": np.full(110, 7)}
    learner = mx.TorchLearner(Poisoned(), {"train": tokens, "val": {"x": draw.integers(0, 7, 100)}}, context=8)
    w, theta = parts()
    trained = mx.argmin(w @ mx.losses(theta, NAMES), over=theta)
    result = mx.solve(mx.minimize(mx.mean(mx.losses(trained, ["x"], name="val")), over=w), learner, solver=solver)
    assert result.status is mx.Status.FAILED
    assert "the loss of 'b' (nan) is not finite at step 1" in result.message
    assert result.vector.tolist() == [0.5, 0.5]
