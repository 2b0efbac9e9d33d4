"""Saddles pushed by measurements: equal to those that train, what they need, one step by hand."""

import numpy as np
import pytest
import torch

import mixopt as mx
from mixopt.errors import InputError, ProblemError, RefusalError
from mixopt.solvers import AdaGradNorm, BestResponse, ChiSquare, DescentAscent, Entropic, Normalised, Tail

from .games import DOMAINS, REFERENCE, K, game, learner


@pytest.mark.parametrize(
    "solver",
    [
        DescentAscent(rate=0.3),
        DescentAscent(rate=0.3, smoothing=0.01, average="last"),
        DescentAscent(rate=0.3, temperature=0.2, order="simultaneous"),
        DescentAscent(rate=0.1, optimistic=True),
        DescentAscent(rate=0.1, geometry="euclidean"),
        DescentAscent(rate=Normalised(0.2)),
        DescentAscent(rate=0.3, schedule=AdaGradNorm(), model_rate=0.1),
        BestResponse(Entropic(0.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("history", [False, True])
def test_weights_pushed_by_measurements_are_those_of_the_solver_that_trains(solver, history):
    w = mx.Mixture(DOMAINS)
    problem = game(w["web"] <= 0.6, history=history)
    pulled = mx.solve(problem, learner(), solver=solver, given=REFERENCE, budget=mx.Budget(steps=12))
    schedule = mx.online(problem, solver, REFERENCE)
    rows = []
    for losses in pulled.trace["losses"]:
        assert schedule.observe(train=torch.tensor(losses))
        rows.append(schedule.w)
    if isinstance(solver, DescentAscent) and isinstance(solver.schedule, AdaGradNorm):
        np.testing.assert_allclose(rows, pulled.trace.weights, atol=1e-12)
    else:
        np.testing.assert_allclose(rows, pulled.trace.weights, atol=1e-14)


@pytest.mark.filterwarnings("ignore:the weights are collapsing")
@pytest.mark.parametrize("ball", [None, Tail(0.5), ChiSquare(0.4)], ids=str)
def test_best_responses_pushed_are_those_of_the_solver_that_trains(ball):
    pulled = mx.solve(game(), learner(), solver=BestResponse(ball), given=REFERENCE, budget=mx.Budget(steps=6))
    assert_pushed_alike(game(), BestResponse(ball), pulled)


@pytest.mark.parametrize("geometry", ["entropic", "euclidean"])
def test_weights_that_constraints_tie_are_those_of_the_solver_that_trains(geometry):
    w, solver = mx.Mixture(DOMAINS), DescentAscent(rate=0.3, geometry=geometry, smoothing=0.01)
    problem = game(w["web"] + w["code"] <= 0.6)
    pulled = mx.solve(problem, learner(), solver=solver, given=REFERENCE, budget=mx.Budget(steps=6))
    assert_pushed_alike(problem, solver, pulled)


def assert_pushed_alike(problem, solver, pulled):
    schedule = mx.online(problem, solver, REFERENCE)
    for losses, weights in zip(pulled.trace["losses"], pulled.trace.weights, strict=True):
        schedule.observe(train=torch.tensor(losses))
        np.testing.assert_allclose(schedule.w, weights, atol=1e-12)


def test_what_the_weights_do_not_enter_need_not_be_observed():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    apart = 0.1 * mx.sum_squares(theta) + mx.loss(theta, "val")
    payoff = w @ (mx.losses(theta, DOMAINS) - mx.parameter("reference", K)) - 0.1 * mx.kl(w, [0.2, 0.3, 0.5])
    schedule = mx.online(mx.minimize(mx.maximize(apart + payoff, over=w), over=theta), None, REFERENCE)
    assert list(schedule.needs) == ["train"]
    alone = mx.online(mx.minimize(mx.maximize(payoff, over=w), over=theta), None, REFERENCE)
    for one in (schedule, alone):
        one.observe(train=[1.0, 2.0, 3.0])
    assert (schedule.w == alone.w).all()
    with pytest.raises(RefusalError, match="a summand apart"):
        mx.online(mx.minimize(mx.maximize(w @ (mx.losses(theta, DOMAINS) * mx.sum_squares(theta)), over=w), over=theta))


def test_a_parameter_may_have_the_name_of_what_is_measured_where_it_has_a_number():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    problem = mx.minimize(mx.maximize(w @ (mx.losses(theta, DOMAINS) - mx.parameter("train", K)), over=w), over=theta)
    named, plain = mx.online(problem, None, {"train": [0.1, 0.2, 0.3]}), mx.online(game(), None, REFERENCE)
    for one in (named, plain):
        one.observe(train=[1.0, 2.0, 3.0])
    assert (named.w == plain.w).all()
    with pytest.raises(ProblemError, match="rename the parameter"):
        mx.online(problem)


def test_one_step_by_hand():
    schedule = mx.online(game(), DescentAscent(rate=2.0, smoothing=0.1), REFERENCE)
    assert list(schedule.needs) == ["train"]
    assert schedule.observe(train={"books": 0.9, "web": 1.0, "code": 0.5})
    raised = np.exp(2.0 * np.array([0.9, 0.3, 0.6]))
    np.testing.assert_allclose(schedule.w, 0.9 * raised / raised.sum() + 0.1 / 3, atol=1e-15)
    assert schedule.weights == dict(zip(DOMAINS, schedule.w.tolist(), strict=True))


def test_an_absent_domain_counts_as_the_solver_says():
    carry = mx.online(game(), DescentAscent(absent="carry", unseen=0.0), REFERENCE)
    carry.observe(train=[1.0, 2.0, 3.0])
    before = carry.w
    carry.observe(train=[1.0, 99.0, 3.0], counts={"train": [1, 0, 1]})
    score = np.array([0.9, 1.8, 2.7])
    np.testing.assert_allclose(carry.w, before * np.exp(score) / (before * np.exp(score)).sum(), atol=1e-14)
    zero = mx.online(game(), DescentAscent(absent="zero"), REFERENCE)
    zero.observe(train={"web": 1.0, "books": 3.0}, counts={"train": {"web": 1, "books": 1}})
    raised = np.exp([0.9, 0.0, 2.7])
    np.testing.assert_allclose(zero.w, raised / raised.sum(), atol=1e-14)


def test_a_move_at_every_evaluation():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    gap = mx.losses(theta, DOMAINS, "val") - mx.parameter("target", K)
    problem = mx.minimize(mx.maximize(mx.surrogate(w @ gap, gradient=w @ mx.losses(theta, DOMAINS)), over=w), over=theta)
    schedule = mx.online(problem, None, {"target": [1.0, 1.0, 1.0]}, every=mx.Every(seen="val"))
    assert list(schedule.needs) == ["val"]
    assert schedule.observe(val=[2.0, 1.0, 1.0])
    with pytest.raises(InputError, match="needs \\(val\\)"):
        mx.online(problem, None, {"target": [1.0, 1.0, 1.0]}, every=mx.Every(seen="vall"))


def test_needs_name_what_the_payoff_measures():
    w, theta = mx.Mixture(DOMAINS), mx.model()
    token = mx.domain_mean(mx.pos(mx.tokens(theta) - mx.tokens(mx.model("reference"))), DOMAINS)
    slopes = mx.gram(theta, DOMAINS, mx.loss(theta, "val"))
    value = token + 0.1 * slopes + 0.0 * mx.losses(mx.model("reference"), DOMAINS) + mx.parameter("bonus", K)
    problem = mx.minimize(mx.maximize(mx.surrogate(w @ value, gradient=w @ mx.losses(theta, DOMAINS)), over=w), over=theta)
    schedule = mx.online(problem)
    assert list(schedule.needs) == ["excess", "gram", "reference", "bonus"]
    assert "pos(tokens(theta" in str(schedule.needs["excess"])
    schedule.observe(excess=[1.0, 0.0, 0.0], gram=[0.0, 10.0, 0.0], reference=[5.0, 6.0, 7.0], bonus=[0.0, 0.0, 2.0])
    np.testing.assert_allclose(schedule.w, np.exp([1, 1, 2]) / np.exp([1, 1, 2]).sum(), atol=1e-14)
