"""Constraints that are multiplied out or counted in a unit of their own: answers, duals and conflicts are the user's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.compiler.limits import plain_limits
from mixopt.language.symbols import parameter
from mixopt.solvers import Projected

pytest.importorskip("cvxpy")

TOKENS = np.array([8e11, 1.5e11, 5e10])
DOMAINS = mx.Domains(["web", "code", "books"], tokens=TOKENS)
W = mx.Mixture(DOMAINS)
PULL = mx.sum_squares(W - [0.1, 0.2, 0.7])


def solved(*limits, objective=PULL, **given):
    return mx.solve(mx.minimize(objective, over=W, subject_to=limits), given=given or None)


def assert_same(counted: mx.Result, plain: mx.Result, label: str, factor: float) -> None:
    assert counted.status is plain.status is mx.Status.OPTIMAL
    np.testing.assert_allclose(counted.vector, plain.vector, atol=1e-6)
    ours, theirs = counted.duals[label], plain.duals[label]
    ours, theirs = (np.array(list(d.values())) if isinstance(d, dict) else d for d in (ours, theirs))
    np.testing.assert_allclose(np.multiply(ours, factor), theirs, atol=1e-6)


@pytest.mark.parametrize("solver", [None, Projected()])
def test_caps_in_tokens_are_caps_in_weights(solver):
    caps = [(1e12 * W <= 4 * TOKENS).named("caps")]
    counted = mx.solve(mx.minimize(PULL, over=W, subject_to=caps), solver=solver)
    assert_same(counted, solved((W <= 4e-12 * TOKENS).named("caps")), "caps", 1e12)
    assert counted.check.feasible
    assert "units of 1e+12" in str(mx.plan(mx.minimize(PULL, over=W, subject_to=caps)))


def test_repeated_tokens_and_a_kinked_constraint_in_large_units():
    repeated = (mx.sum(mx.pos(1e12 * W - TOKENS)) <= 1e11).named("repeated")
    counted = solved(repeated)
    assert_same(counted, solved((mx.sum(mx.pos(W - TOKENS / 1e12)) <= 0.1).named("repeated")), "repeated", 1e12)
    assert float(np.maximum(1e12 * counted.vector - TOKENS, 0).sum()) == pytest.approx(1e11, rel=1e-6)


def test_small_units_and_a_parameter_for_the_budget():
    budget = parameter("budget", nonneg=True)
    plain = solved((W <= 4e-12 * TOKENS).named("caps"))
    assert_same(solved((budget * W <= 4 * TOKENS).named("caps"), budget=1e12), plain, "caps", 1e12)
    assert_same(solved((1e-9 * W <= 4e-21 * TOKENS).named("caps")), plain, "caps", 1e-9)


def test_large_numbers_beside_the_weights_change_nothing():
    loose = mx.minimize(PULL, over=W, subject_to=[(W <= [1e9, 0.2, 1e9]).named("caps")])
    assert plain_limits(loose).problem is loose


def test_stages_in_tokens():
    p = mx.Mixture(DOMAINS, name="p", stages=2)
    goal = mx.sum_squares(p[0] - [0.1, 0.2, 0.7]) + mx.sum_squares(p[1] - [0.1, 0.2, 0.7])
    result = mx.solve(mx.minimize(goal, over=p, subject_to=[7e11 * p[0] + 3e11 * p[1] <= 4 * TOKENS]))
    assert result.status is mx.Status.OPTIMAL
    assert 0.7 * result[p[0]]["books"] + 0.3 * result[p[1]]["books"] == pytest.approx(0.2, abs=1e-6)


def test_a_conflict_gives_way_in_the_users_numbers():
    result = solved((1e12 * W[["web", "code"]] >= 6e11).named("floor"))
    assert result.status is mx.Status.INFEASIBLE
    assert result.conflict == ("floor",)
    assert "'floor' gave way by 1e+11" in result.message
    ratio = solved((W["web"] / W["code"] <= 1).named("ratio"), (W["web"] >= 0.6).named("floor"))
    assert ratio.conflict == ("ratio", "floor")
    assert "'ratio' gave way" not in ratio.message


@pytest.mark.parametrize(
    ("ratio", "line"),
    [
        (W["books"] / W["code"] <= 2, W["books"] <= 2 * W["code"]),
        (W["code"] / W["books"] >= 0.5, W["code"] >= 0.5 * W["books"]),
        (0.5 <= W["code"] / W["books"], W["code"] >= 0.5 * W["books"]),  # noqa: SIM300
        (mx.equal(W["books"] / W["code"], 2), mx.equal(W["books"], 2 * W["code"])),
        (mx.mass(W, ["books"]) / mx.mass(W, ["web", "code"]) <= 1, W["books"] <= W["web"] + W["code"]),
        (mx.max(W) / mx.min(W) <= 3, mx.max(W) <= 3 * mx.min(W)),
        (mx.exp(mx.entropy(W)) >= 2.5, mx.entropy(W) >= np.log(2.5)),
        (2.5 <= mx.exp(mx.entropy(W)), mx.entropy(W) >= np.log(2.5)),  # noqa: SIM300
        (1 / mx.sum_squares(W) >= 2.5, mx.sum_squares(W) <= 0.4),
    ],
)
def test_a_ratio_of_weights_is_a_line(ratio, line):
    counted, plain = solved(ratio), solved(line)
    assert counted.status is mx.Status.OPTIMAL
    np.testing.assert_allclose(counted.vector, plain.vector, atol=1e-6)
    assert counted.check.gap == pytest.approx(0, abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.2, 3))
def test_the_dual_of_a_ratio_is_the_slope_of_the_value(bound):
    def value(c):
        return solved((W["books"] / W["code"] <= c).named("ratio")).value

    step = 1e-4
    slope = (value(bound + step) - value(bound - step)) / (2 * step)
    assert solved((W["books"] / W["code"] <= bound).named("ratio")).duals["ratio"] == pytest.approx(-slope, abs=1e-4)


def test_the_dual_of_a_number_of_domains_is_the_slope_of_the_value():
    def result(least):
        return solved((mx.exp(mx.entropy(W)) >= least).named("domains"))

    slope = (result(2.601).value - result(2.599).value) / 0.002
    assert result(2.6).duals["domains"] == pytest.approx(slope, rel=1e-3)
    assert "'domains' -> 'entropy(w) >= 0.955511' (exact)" in str(
        mx.plan(mx.minimize(PULL, over=W, subject_to=[(mx.exp(mx.entropy(W)) >= 2.6).named("domains")]))
    )


def test_a_vector_of_ratios_has_a_dual_for_each_entry():
    many = (W[["books", "web"]] / W["code"] <= [2, 0.1]).named("ratios")
    result = solved(many)
    v, dual = result.weights, result.duals["ratios"]
    assert v["books"] / v["code"] == pytest.approx(2, abs=1e-5)
    assert v["web"] / v["code"] == pytest.approx(0.1, abs=1e-5)
    assert set(dual) == {"books", "web"}
    assert min(dual.values()) > 0


def test_ratios_on_a_saddle_and_what_is_left_alone():
    theta = mx.model()
    game = mx.maximize(W @ mx.losses(theta, DOMAINS), over=W, subject_to=[(W["web"] / W["code"] <= 2).named("ratio")])
    (limit,) = plain_limits(mx.minimize(game, over=theta)).problem.objective.subject_to
    assert str(limit) == "w[web] <= 2*w[code]"
    assert limit.label == "ratio"
    for relation in (W["web"] / (W["code"] - 0.5) <= 2, W["web"] / W["code"] <= W["books"], W / DOMAINS.natural <= 2):
        problem = mx.minimize(PULL, over=W, subject_to=[relation])
        assert plain_limits(problem).problem is problem
