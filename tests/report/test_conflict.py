"""Conflicts: the least set of constraints at fault by name, how far each would have to give way, and nothing where they can be met."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import mixopt as mx
from mixopt.solvers import Conic, Projected

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W = mx.Mixture(DOMAINS)
IDLE = [(W["code"] <= 0.9).named("idle cap"), (W["code"] >= 0.01).named("idle floor")]


def infeasible(constraints, solver=None):
    result = mx.solve(mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=constraints), solver=solver)
    assert result.status is mx.Status.INFEASIBLE
    return result


CASES = {
    "bounds": (
        [(W["web"] >= 0.6).named("floor"), *IDLE, (W["web"] <= 0.3).named("cap")],
        "no weights satisfy 'floor' and 'cap' together; they would if 'floor' gave way by 0.3 or 'cap' gave way by 0.3",
    ),
    "a group": (
        [(W["web"] >= 0.6).named("floor"), *IDLE, (mx.mass(W, ["code", "books"]) >= 0.7).named("rest")],
        "no weights satisfy 'floor' and 'rest' together; they would if 'floor' gave way by 0.3 or 'rest' gave way by 0.3",
    ),
    "an unnamed one": ([*IDLE, W <= 0.2], "no weights satisfy 'w <= 0.2'; they would if 'w <= 0.2' gave way by 0.1333"),
    "an equality": (
        [mx.equal(W["web"], 1.5).named("all of it"), *IDLE],
        "no weights satisfy 'all of it'; they would if 'all of it' gave way by 0.5",
    ),
    "three": (
        [(W["web"] <= 0.2).named("a"), (W["code"] <= 0.3).named("b"), (W["books"] <= 0.1).named("c"), (W["web"] <= 0.9).named("d")],
        "no weights satisfy 'a', 'b' and 'c' together; they would if 'a' gave way by 0.4 or 'b' gave way by 0.4 or 'c' gave way by 0.4",
    ),
    "convex": ([(mx.sum_squares(W) <= 0.2).named("even"), *IDLE], "no weights satisfy 'even'; they would if 'even' gave way by 0.1333"),
    "a ball": (
        [(mx.kl(W, [0.25, 0.25, 0.5]) <= 0.05).named("near"), *IDLE, (W["web"] >= 0.5).named("web")],
        "no weights satisfy 'near' and 'web' together; they would if 'near' gave way by 0.09384 or 'web' gave way by 0.106",
    ),
}


@pytest.mark.parametrize(("constraints", "said"), CASES.values(), ids=CASES)
def test_the_constraints_at_fault_are_named_with_what_each_would_have_to_give(constraints, said):
    """Closed: 1 - (0.2 + 0.3 + 0.1); 1/3 - 1/5; KL((1/2, 1/2) || (1/4, 3/4)) - 0.05 = log(2)/2 + log(2/3)/2 - 0.05.

    The largest x with KL((x, 1 - x) || (1/4, 3/4)) <= 0.05 is 0.39395.
    """
    result = infeasible(constraints)
    assert result.message == said
    named = {repr(c.label) for c in constraints if repr(c.label) in said}
    assert {repr(name) for name in result.conflict} == named
    assert said in str(result)


def test_units_do_not_decide_what_conflicts():
    tokens = 1e12 * W["web"]
    result = infeasible([(tokens <= 2e11).named("tokens"), *IDLE, (W["web"] >= 0.4).named("floor")])
    assert result.conflict == ("tokens", "floor")
    assert "'tokens' gave way by 2e+11 or 'floor' gave way by 0.2" in result.message


def test_any_solver_and_form_tells_the_conflict():
    constraints = [(W["web"] >= 0.6).named("floor"), *IDLE, (W["web"] <= 0.3).named("cap")]
    assert infeasible(constraints, Projected()).conflict == ("floor", "cap")
    torch = pytest.importorskip("torch")
    eye = torch.eye(3, dtype=torch.float64)
    learner = mx.FunctionLearner(torch.zeros(3, dtype=torch.float64), {"train": lambda x: (x - eye).square().sum(1)})
    theta = mx.model()
    game = mx.minimize(mx.maximize(W @ mx.losses(theta, DOMAINS), over=W, subject_to=constraints), over=theta)
    result = mx.solve(game, learner)
    assert result.status is mx.Status.INFEASIBLE
    assert result.conflict == ("floor", "cap")


def test_parameters_count_at_their_given_numbers():
    plan = mx.plan(mx.minimize(mx.sum_squares(W), over=W, subject_to=[(mx.parameter("cap") >= W).named("cap"), *IDLE]))
    assert plan.run(given={"cap": 0.5}).conflict == ()
    assert plan.run(given={"cap": 0.3}).conflict == ("cap",)


def test_an_objective_that_is_finite_nowhere_is_no_conflict():
    result = mx.solve(mx.minimize(-mx.log(W["web"] - 2), over=W, subject_to=IDLE), solver=Conic())
    assert result.status is mx.Status.INFEASIBLE
    assert result.conflict == ()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_a_conflict_is_infeasible_and_every_proper_part_of_it_is_not(seed):
    """Against linear programs of HiGHS over all subsets."""
    rng = np.random.default_rng(seed)
    k, rows = 4, 6
    w = mx.Mixture([f"d{i}" for i in range(k)])
    A, b = rng.normal(size=(rows, k)), rng.normal(scale=0.5, size=rows)
    relations = [(A[i] @ w <= b[i]).named(str(i)) for i in range(rows)]

    def meets(chosen) -> bool:
        chosen = list(chosen)
        return linprog(np.zeros(k), A[chosen], b[chosen], np.ones((1, k)), [1.0], method="highs").status == 0

    result = mx.solve(mx.minimize(mx.sum_squares(w), over=w, subject_to=relations))
    assert (result.status is mx.Status.INFEASIBLE) == (not meets(range(rows)))
    found = [int(name) for name in result.conflict]
    if result.status is mx.Status.INFEASIBLE:
        assert found
        assert not meets(found)
        assert all(meets(part) for part in combinations(found, len(found) - 1) if part)


def test_variables_and_stages_are_unknowns_too():
    t, stages = mx.variable("t"), mx.Mixture(["x", "y"], "a", stages=2)
    above = mx.minimize(t, over=(W, t), subject_to=[(W["web"] >= t + 1.2).named("more"), (t >= 0).named("sign"), (t <= 5).named("idle")])
    assert mx.solve(above).message == (
        "no weights satisfy 'more' and 'sign' together; they would if 'more' gave way by 0.2 or 'sign' gave way by 0.2"
    )
    limits = [
        (stages[0]["x"] >= 0.9).named("start"),
        (stages[1]["x"] <= 0.1).named("end"),
        (mx.norm(stages[1] - stages[0], 1) <= 0.5).named("slowly"),
        (stages[0]["y"] <= 0.8).named("idle"),
    ]
    result = mx.solve(mx.minimize(mx.sum_squares(stages[1]), over=stages, subject_to=limits))
    assert result.conflict == ("start", "end", "slowly")
    assert "'end' gave way by 0.55 or 'slowly' gave way by 1.1" in result.message


def test_limits_on_supports_conflict_too():
    limits = [mx.cardinality(W, 2).named("few"), *IDLE, (W <= 0.4).named("caps")]
    result = infeasible(limits)
    assert result.conflict == ("few", "caps")
    assert result.message == "no weights satisfy 'few' and 'caps' together; they would if 'caps' gave way by 0.1"
