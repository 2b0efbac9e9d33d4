"""Rules by gradients against their sources' formulas written by hand, and against the same method with a learner of ours."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.problems import aioli, doge, grape, online_doge, pike, r_and_b
from mixopt.rules.pike import least
from mixopt.solvers import OneStep

K = 3


@pytest.fixture
def domains():
    return mx.Domains(["a", "b", "c"])


def softmax(x):
    found = np.exp(np.asarray(x) - np.max(x))
    return found / found.sum()


def quadratics(targets=None):
    """Losses |theta - c_i|^2 / 2 in float64, whose gradients are theta - c_i."""
    centres = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    losses = {"train": lambda p: (p - centres).square().sum(1) / 2}
    if targets is not None:
        goals = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 1.0]], dtype=torch.float64)
        losses["val"] = (lambda p: (p - goals).square().sum(1) / 2, targets)
    return mx.FunctionLearner(torch.full((3,), 0.5, dtype=torch.float64), losses, optimizer=lambda leaves: torch.optim.SGD(leaves, lr=0.05))


@pytest.mark.parametrize("faithful_to", [None, "paper", "survey"])
@pytest.mark.parametrize("apart", [False, True], ids=["own", "targets"])
def test_online_doge_has_the_weights_of_doge(domains, apart, faithful_to):
    """The solver of the bilevel problem by one step, first order in it, and the online rule are two ways to one mixture."""
    targets = mx.Domains(["s", "t"]) if apart else None
    learner = quadratics(targets)
    how = {"mu": 0.05, "step_size": 0.05, "steps": 6, "faithful_to": faithful_to, "name": "val" if apart else "train"}
    problem = doge(domains, targets, **how).problem
    one = mx.solve(problem, learner, solver=OneStep(step_size=0.05, rate=1 / 0.05, steps=6, average="mean"))
    method = online_doge(domains, targets, **how)
    two = mx.solve(method.problem, learner, solver=replace(method.solver, average="mean"))
    assert two.vector == pytest.approx(one.vector, rel=1e-9)
    assert abs(two.vector - 1 / 3).max() > 1e-3


def test_online_doge_in_a_loop_of_the_users(domains):
    schedule = mx.online(online_doge(domains, mu=0.1, step_size=0.1))
    score = np.array([0.3, -0.2, 0.5])
    schedule.observe(alignment=score)
    assert schedule.w == pytest.approx(softmax(score))
    schedule.observe(alignment=score, learning_rate=0.2)
    assert schedule.w == pytest.approx(softmax(3 * score))
    schedule.observe(gram=np.diag([3.0, 0.0, 0.0]))
    assert schedule.w == pytest.approx(softmax(3 * score + [1.0, 0, 0]))


def test_online_doge_needs_a_score_and_lengths(domains):
    with pytest.raises(mx.InputError, match="neither alignment nor gram"):
        mx.online(online_doge(domains)).observe(learning_rate=0.1)
    with pytest.raises(mx.InputError, match="observe norms"):
        mx.online(online_doge(domains, faithful_to="code")).observe(alignment=[1.0, 2.0, 3.0])
    with pytest.raises(mx.InputError, match="follows 'paper'"):
        online_doge(domains, faithful_to="draft")
    for change in ({"mu": 0.0}, {"step_size": float("inf")}, {"smoothing": 1.0}):
        with pytest.raises(mx.InputError):
            online_doge(domains, **change)


def test_r_and_b_is_a_softmax_without_memory(domains):
    goal = np.array([0.5, 0.3, 0.2])
    gram = np.array([[2.0, 0.5, -1.0], [0.5, 1.0, 0.0], [-1.0, 0.0, 3.0]])
    schedule = mx.online(r_and_b(domains, goal, rate=0.7, every=2))
    assert not schedule.observe(gram=gram)
    schedule.observe(gram=3 * gram)
    score = gram @ goal
    expected = softmax(0.7 * score / np.linalg.norm(score))
    assert schedule.w == pytest.approx(expected)
    schedule.observe(alignment=score, step=4)
    assert schedule.w == pytest.approx(expected)
    assert schedule.w.max() / schedule.w.min() <= np.exp(2**0.5 * 0.7)
    schedule.observe(alignment=np.zeros(3), step=6)
    assert schedule.w == pytest.approx(expected)
    with pytest.raises(mx.InputError):
        r_and_b(domains, rate=0.0)


def test_grape_moves_tasks_before_domains(domains):
    tasks = mx.Domains(["s", "t"])
    gram, losses = np.array([[1.0, 0.0], [0.5, 2.0], [-1.0, 1.0]]), np.array([2.0, 4.0])
    schedule = mx.online(grape(domains, tasks, rate=0.5, task_rate=0.3, every=1, task_every=2))
    gains = gram / losses
    w, z = np.full(3, 1 / 3), np.full(2, 1 / 2)
    for move in range(1, 7):
        schedule.observe(gram=gram, val=losses)
        if move % 2 == 0:
            z = 0.999 * softmax(np.log(z) - 0.3 * (w @ gains)) + 0.0005
        w = softmax(np.log(w) + 0.5 * gains @ z)
        assert schedule.w == pytest.approx(w)
    assert schedule.state_dict()["memory"]["tasks"].numpy() == pytest.approx(z)
    with pytest.raises(mx.InputError, match="divides by it"):
        mx.online(grape(domains, tasks, every=1)).observe(gram=gram, val=[0.0, 1.0])
    with pytest.raises(mx.InputError, match="follows"):
        grape(domains, tasks, faithful_to="survey")
    with pytest.raises(mx.InputError, match="whole number"):
        grape(domains, tasks, task_every=0)


def test_grape_goes_to_the_saddle_of_its_game(domains):
    """With frozen gains the game max_w min_z w' R z is a matrix game; its averages reach the value that a linear program finds."""
    from scipy.optimize import linprog

    tasks = mx.Domains(["s", "t"])
    gains = np.array([[1.0, 0.0], [0.2, 0.9], [0.3, 0.3]])
    schedule = mx.online(grape(domains, tasks, rate=0.05, task_rate=0.05, every=1, task_every=1, faithful_to="paper"))
    for _ in range(3000):
        schedule.observe(gram=gains, val=[1.0, 1.0])
    mean = np.array(list(schedule.mean.values()))
    best = linprog([0, 0, 0, -1], A_ub=np.hstack([-gains.T, np.ones((2, 1))]), b_ub=[0, 0], A_eq=[[1, 1, 1, 0]], b_eq=[1])
    assert (gains.T @ mean).min() == pytest.approx(-best.fun, abs=0.02)


def test_pike_by_hand(domains):
    signal, noise = np.array([0.5, 0.2, -0.1]), np.array([4.0, 1.0, 2.0])
    schedule = mx.online(pike(domains, gain=2.0, damping=0.5, batch=4, every=1))
    schedule.observe(signal=signal, noise=noise)
    assert schedule.w == pytest.approx(softmax(2 * np.maximum(signal, 0) - 0.5 * noise / 8))
    schedule.observe(gram=np.diag([1.0, 0.0, 0.0]))
    assert schedule.w == pytest.approx(softmax(2 * np.maximum(signal, 0) - 0.5 * noise / 8 + [2.0, 0, 0]))
    with pytest.raises(mx.InputError, match="neither signal nor gram"):
        schedule.observe(noise=noise)
    for change in ({"gain": 0.0}, {"damping": -1.0}, {"batch": 0}, {"form": "fair"}):
        with pytest.raises(mx.InputError):
            pike(domains, **change)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 10)), min_size=1, max_size=8))
def test_the_exact_pike_step_meets_its_optimality_conditions(rows):
    slopes, bends = np.array(rows).T
    w = least(slopes, bends)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1)
    price = slopes + bends * w
    held = w > 1e-9
    assert price[held] == pytest.approx(price[held].min(), abs=1e-6)
    assert (price[~held] >= price[held].min() - 1e-6).all()


def test_the_exact_pike_step_through_a_schedule(domains):
    schedule = mx.online(pike(domains, gain=1.0, damping=0.0, curvature=1.0, every=1, form="exact"))
    schedule.observe(signal=[1.0, 2.0, 3.0])
    # minimise -s w + s w^2 / 2: s_i (w_i - 1) equal where w_i > 0
    price = np.array([1.0, 2.0, 3.0]) * (schedule.w - 1)
    assert price[schedule.w > 0] == pytest.approx(price[schedule.w > 0][0])
    before = schedule.w
    schedule.observe(signal=[0.0, 0.0, 0.0])
    assert schedule.w == pytest.approx(before)


METHODS = [
    lambda d: online_doge(d, mu=0.05, step_size=0.05, steps=5),
    lambda d: online_doge(d, mu=0.05, step_size=0.05, steps=5, faithful_to="code"),
    lambda d: r_and_b(d, every=2, steps=5),
    lambda d: pike(d, gain=0.1, every=2, steps=5),
    lambda d: pike(d, gain=0.1, every=2, steps=5, form="exact"),
]


@pytest.mark.parametrize("make", METHODS)
def test_each_method_runs_with_a_learner_and_keeps_to_constraints(domains, make):
    result = mx.solve(make(domains), quadratics())
    assert result.vector.sum() == pytest.approx(1)
    assert result.vector.min() >= 0
    w = mx.Mixture(domains)
    schedule = mx.online(make(domains), every=1, subject_to=[w["a"] <= 0.2])
    for i in range(4):
        schedule.observe(gram=np.diag([5.0 + i, 1.0, 1.0]), **({"norms": [2.0, 1.0, 1.0]} if "norms" in schedule.needs else {}))
        assert schedule.w[0] <= 0.2 + 1e-9
        assert schedule.w.sum() == pytest.approx(1, abs=1e-12)


def test_methods_with_targets_run_with_a_learner(domains):
    tasks = mx.Domains(["s", "t"])
    learner = quadratics(tasks)
    grown = mx.solve(grape(domains, tasks, rate=0.1, every=1, task_every=2, steps=6), learner)
    assert grown.vector.sum() == pytest.approx(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probed = mx.solve(aioli(domains, tasks, every=1, hold=3, steps=14), learner)
    assert probed.vector.sum() == pytest.approx(1)


def test_a_collapse_is_warned_of(domains):
    schedule = mx.online(pike(domains, gain=1.0, every=1))
    for _ in range(4):
        schedule.observe(signal=[1.0, 0.0, 0.0])
    with pytest.warns(UserWarning, match="collapsing on 'a'"):
        schedule.observe(signal=[1.0, 0.0, 0.0])


@pytest.mark.filterwarnings("ignore:the weights are collapsing:UserWarning")
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=K, max_size=K), min_size=1, max_size=4),
    st.sampled_from(["doge", "code", "r_and_b", "pike"]),
)
def test_weights_stay_on_the_simplex_whatever_the_scores(rows, name):
    domains = mx.Domains(["a", "b", "c"])
    makes = {
        "doge": online_doge,
        "code": lambda d: online_doge(d, faithful_to="code"),
        "r_and_b": lambda d: r_and_b(d, every=1),
        "pike": lambda d: pike(d, every=1),
    }
    schedule = mx.online(makes[name](domains))
    for row in rows:
        told = {"signal": row} if name == "pike" else {"alignment": row, **({"norms": [1.0, 2.0, 3.0]} if name == "code" else {})}
        schedule.observe(**told)
        assert schedule.w.min() >= 0
        assert schedule.w.sum() == pytest.approx(1, abs=1e-12)
