"""The lower level by any optimizer, with any regulariser, and several validation sets above it, against closed answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import mixopt as mx
from mixopt.errors import InputError, LearnerError
from mixopt.solvers import VPBGD, Balanced, BestResponse, DescentAscent, Implicit, Inner, SmoothedDescentAscent, Unrolled, ValueFunction

NAMES = ("a", "b", "c", "d")
CENTRES = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
PRIOR, GOALS = np.array([0.5, 1.5]), np.array([[0.9, 0.5], [1.2, 1.4], [0.3, 1.0]])
RIDGE, PULL = 0.25, 0.4
POINT = np.array([0.4, 0.3, 0.2, 0.1])
OPTIMIZERS = {
    "SGD": lambda leaves: torch.optim.SGD(leaves, lr=0.5),
    "momentum": lambda leaves: torch.optim.SGD(leaves, lr=0.3, momentum=0.5, nesterov=True),
    "Adam": lambda leaves: torch.optim.Adam(leaves, lr=0.05, betas=(0.5, 0.9)),
    "AdamW": lambda leaves: torch.optim.AdamW(leaves, lr=0.05, betas=(0.5, 0.9), weight_decay=0.0),
    "Adagrad": lambda leaves: torch.optim.Adagrad(leaves, lr=0.5),
    "LBFGS": lambda leaves: torch.optim.LBFGS(leaves, line_search_fn="strong_wolfe"),
}


def learner(optimizer=None, goals=GOALS):
    """Quadratics about the centres, the prior and the goals, in float64, the parameters a tree."""
    centres, prior, ends = (torch.tensor(x) for x in (CENTRES, PRIOR, goals))
    losses = {
        "train": lambda p: ((torch.cat([p["x"], p["y"]]) - centres) ** 2).sum(1) / 2,
        "prior": lambda p: ((torch.cat([p["x"], p["y"]]) - prior) ** 2).sum() / 2,
        "inside": lambda p: ((torch.cat([p["x"], p["y"]]) - ends[0]) ** 2).sum() / 2,
        "outside": (lambda p: ((torch.cat([p["x"], p["y"]]) - ends[1:]) ** 2).sum(1) / 2, ["far", "near"]),
    }
    return mx.FunctionLearner({n: torch.zeros(1, dtype=torch.float64) for n in "xy"}, losses, optimizer)


def problem(aggregate):
    """An aggregate of three validation losses, under a ridge and a regulariser of the learner's own below."""
    w, theta = mx.Mixture(NAMES), mx.model()
    lower = w @ mx.losses(theta, NAMES) + RIDGE / 2 * mx.sum_squares(theta) + PULL * mx.loss(theta, "prior")
    trained = mx.argmin(lower, over=theta)
    return mx.minimize(aggregate(mx.loss(trained, "inside"), mx.losses(trained, ["far", "near"], name="outside")), over=w)


def reached(w):
    """theta*(w) [2] at free weights, and the three validation losses there."""
    theta = (CENTRES.T @ w + PULL * PRIOR) / (np.sum(w) + RIDGE + PULL)
    return theta, ((theta - GOALS) ** 2).sum(1) / 2


def slope(w, shares):
    """d/dw of shares @ validation losses, by hand."""
    theta, _ = reached(w)
    return (CENTRES - theta) @ (np.asarray(shares) @ (theta - GOALS)) / (np.sum(w) + RIDGE + PULL)


def weighted(inside, outside):
    return 0.5 * inside + 0.2 * outside["far"] + 0.3 * outside["near"]


def worst(inside, outside):
    return mx.maximum(inside, mx.max(outside))


def soft(inside, outside):
    return mx.logsumexp(mx.stack([inside, outside]), 0.1)


@pytest.mark.parametrize(
    ("engine", "name"), [*((Implicit, name) for name in OPTIMIZERS), (ValueFunction, "momentum"), (ValueFunction, "LBFGS")]
)
def test_any_optimizer_of_torch_solves_the_lower_level(engine, name):
    solver = engine(inner=Inner(tolerance=1e-8, steps=3000, by="optimizer"))
    found = mx.hypergradient(problem(weighted), learner(OPTIMIZERS[name]), at=POINT, solver=solver)
    assert found == pytest.approx(slope(POINT, [0.5, 0.2, 0.3]), rel=2e-4, abs=2e-5)  # the penalty multiplies |grad| by 1,000


@pytest.mark.parametrize("engine", [Implicit, ValueFunction])
def test_l_bfgs_solves_it_to_the_tolerance_that_newton_does(engine):
    solver = engine(inner=Inner(tolerance=1e-10, steps=200, by="lbfgs"))
    found = mx.hypergradient(problem(weighted), learner(), at=POINT, solver=solver)
    assert found == pytest.approx(slope(POINT, [0.5, 0.2, 0.3]), rel=1e-5)


def test_l_bfgs_goes_on_where_rounding_hides_the_descent_from_its_search():
    """A logistic loss with a small ridge: values differ by rounding alone while |grad| is still near 1e-8."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 40, 5, generator=draw, dtype=torch.float64)
    losses = {"train": lambda p: torch.nn.functional.softplus(x @ p).mean(1), "val": lambda p: (p**2).sum()}
    exact = mx.FunctionLearner(torch.full((5,), 3.0, dtype=torch.float64), losses)
    w, theta = mx.Mixture(["a", "b"]), mx.model()
    it = mx.minimize(mx.loss(mx.argmin(w @ mx.losses(theta, ["a", "b"]) + 1e-3 * mx.sum_squares(theta), over=theta), "val"), over=w)
    newton, lbfgs = (
        mx.hypergradient(it, exact, solver=Implicit(inner=Inner(tolerance=1e-12, steps=500, by=by))) for by in ("newton", "lbfgs")
    )
    assert lbfgs == pytest.approx(newton, rel=1e-8)


def test_what_an_optimizer_leaves_is_reported():
    with pytest.warns(UserWarning, match=r"\|grad\| = .* after 5 steps of the learner's optimizer, so the hypergradient may be off"):
        mx.hypergradient(problem(weighted), learner(), solver=Implicit(inner=Inner(steps=5, by="optimizer")))
    with pytest.warns(UserWarning, match="after 1 steps of L-BFGS, so the"):
        mx.hypergradient(problem(weighted), learner(), solver=ValueFunction(inner=Inner(steps=1, by="lbfgs")))
    result = mx.solve(problem(weighted), learner(), solver=Implicit(inner=Inner(steps=50, by="lbfgs")))
    assert result.check.inner < 1e-8
    assert result.cost.gradients > 0


@pytest.mark.parametrize("by", ["newton", "lbfgs"])
@pytest.mark.parametrize(
    ("aggregate", "shares"),
    [
        (weighted, lambda v: [0.5, 0.2, 0.3]),
        (worst, lambda v: np.eye(3)[np.argmax(v)]),
        (soft, lambda v: np.exp((v - v.max()) / 0.1) / np.exp((v - v.max()) / 0.1).sum()),
        (lambda inside, outside: mx.mean(outside) + 0.0 * inside, lambda v: [0.0, 0.5, 0.5]),
    ],
    ids=["weighted", "max", "logsumexp", "mean"],
)
def test_several_validation_sets_under_one_aggregate(aggregate, shares, by):
    it, solver = problem(aggregate), Implicit(inner=Inner(steps=200, by=by))
    for w in (POINT, np.array([0.0, 0.2, 0.8, 0.0])):
        found = mx.hypergradient(it, learner(), at=w, solver=solver)
        assert found == pytest.approx(slope(w, shares(reached(w)[1])), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [(weighted, lambda v: v @ [0.5, 0.2, 0.3]), (soft, lambda v: 0.1 * np.log(np.exp(v / 0.1).sum()))],
    ids=["weighted", "logsumexp"],
)
def test_the_optimum_is_that_of_the_closed_form_by_scipy(aggregate, value):
    result = mx.solve(problem(aggregate), learner())
    sum_to_one = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(lambda w: value(reached(w)[1]), np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=sum_to_one, tol=1e-12)
    assert result.value == pytest.approx(best.fun, abs=1e-8)
    assert result.check.gap < 1e-6


def test_a_loop_of_single_steps_does_not_take_l_bfgs():
    with pytest.raises(LearnerError, match=r"searches along a line.*give SGD, Adam"):
        mx.solve(problem(weighted), learner(OPTIMIZERS["LBFGS"]), solver=VPBGD(steps=1))
    w = mx.Mixture(NAMES)
    saddle = mx.minimize(mx.maximize(w @ mx.losses(theta := mx.model(), NAMES), over=w), over=theta)
    for solver in (DescentAscent(steps=1), SmoothedDescentAscent(steps=1), BestResponse(steps=1), Balanced(steps=1)):
        with pytest.raises(LearnerError, match="searches along a line"):
            mx.solve(saddle, learner(OPTIMIZERS["LBFGS"]), solver=solver)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(InputError, match=r"returns a list; a torch\.optim\.Optimizer of the tensors is expected"):
        mx.solve(problem(weighted), learner(lambda leaves: leaves), solver=VPBGD(steps=1))


def test_what_is_no_way_to_solve_it_is_refused():
    with pytest.raises(InputError, match="it is 'newton', 'lbfgs' or 'optimizer'"):
        Inner(by="bfgs")
    with pytest.raises(InputError, match="for Implicit and ValueFunction"):
        Unrolled(steps=None, inner=Inner(by="lbfgs"))
