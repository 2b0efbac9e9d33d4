"""Inner optima over weights that have a closed form: the value, the inner weights, the prices, and what is refused with why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import mixopt as mx
from mixopt.compiler.linear import at_zero, coefficients
from mixopt.compiler.rewrites import rewritten
from mixopt.forms import Program
from mixopt.runtime.program import Function
from mixopt.solvers import Projected

pytest.importorskip("cvxpy")

DOMAINS = ["web", "code", "books"]
TASKS = ["chat", "math", "facts", "law"]
W, Z = mx.Mixture(DOMAINS), mx.Mixture(TASKS, "z")
A = np.array([[1.0, -0.5, 0.2], [-0.3, 0.8, 0.1], [0.4, 0.1, -0.9], [0.2, 0.3, 0.4]])
COSTS = mx.exp(A @ W)


def worst(payoff, inner=(), outer=()):
    return mx.minimize(mx.maximize(payoff, over=Z, subject_to=inner), over=W, subject_to=outer)


def vector(dual) -> np.ndarray:
    assert list(dual) == TASKS
    return np.array(list(dual.values()))


def best_response(costs: np.ndarray, **limits) -> float:
    return -linprog(-costs, A_eq=np.ones((1, len(costs))), b_eq=[1.0], method="highs", **limits).fun


def test_a_matrix_game_has_the_value_and_both_strategies_of_its_linear_programs():
    result = mx.solve(worst(Z @ A @ W))
    primal = linprog([0, 0, 0, 1], np.c_[A, -np.ones(4)], np.zeros(4), [[1, 1, 1, 0]], [1], bounds=[(0, None)] * 3 + [(None, None)])
    z = vector(result.duals["z"])
    assert result.status is mx.Status.OPTIMAL
    assert result.value == pytest.approx(primal.fun, abs=1e-9)
    np.testing.assert_allclose(result.vector, primal.x[:3], atol=1e-6)
    assert (A @ result.vector).max() == pytest.approx(result.value, abs=1e-7), "no z does better against w"
    assert z.sum() == pytest.approx(1, abs=1e-8)
    assert (A.T @ z).min() == pytest.approx(result.value, abs=1e-7), "no w does better against z"


def test_rock_paper_scissors_is_played_evenly_by_both():
    names = ["rock", "paper", "scissors"]
    w, z = mx.Mixture(names), mx.Mixture(names, "z")
    wins = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    result = mx.solve(mx.minimize(mx.maximize(z @ wins @ w, over=z), over=w))
    assert result.value == pytest.approx(0, abs=1e-8)
    np.testing.assert_allclose([result.vector, list(result.duals["z"].values())], np.full((2, 3), 1 / 3), atol=1e-6)


def test_the_worst_of_convex_costs_is_their_largest_and_the_outer_problem_is_stationary_for_the_inner_weights():
    result = mx.solve(worst(Z @ COSTS, outer=[(W["code"] <= 0.3).named("cap")]))
    z, at = vector(result.duals["z"]), np.exp(A @ result.vector)
    assert result.value == pytest.approx(at.max(), abs=1e-8)
    assert z @ at == pytest.approx(at.max(), abs=1e-7)
    slope = A.T @ (z * at)
    gap = slope @ result.vector - (0.3 * slope[1] + 0.7 * min(slope[0], slope[2]) if slope[1] < min(slope[0], slope[2]) else slope.min())
    assert gap == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.4, 0.5, 0.75, 1.0])
def test_a_cap_on_the_inner_weights_is_the_tail_of_the_costs(share):
    result = mx.solve(worst(Z @ COSTS, [(1 / (share * 4) >= Z).named("cap")]))
    direct = mx.solve(mx.minimize(mx.tail(COSTS, share), over=W))
    assert result.value == pytest.approx(direct.value, abs=1e-7)
    assert vector(result.duals["z"]).max() <= 1 / (share * 4) + 1e-6
    at = np.exp(A @ result.vector)
    assert result.value == pytest.approx(best_response(at, bounds=(0, 1 / (share * 4))), abs=1e-7)
    assert vector(result.duals["z"]) @ at == pytest.approx(result.value, abs=1e-6)


@pytest.mark.parametrize("turned", [False, True], ids=["min-max", "max-min"])
def test_any_linear_constraints_on_the_inner_weights_and_their_prices(turned):
    cap = mx.parameter("cap", nonneg=True)

    def solved(e=0.0, f=0.0):
        inner = [
            (mx.mass(Z, ["chat", "math"]) <= cap).named("group"),
            mx.equal(Z["law"], 0.05 + f).named("law"),
            (Z["facts"] >= 2 * Z["math"] - 0.1).named("order"),
        ]
        one = mx.minimize(mx.maximize(Z @ COSTS, over=Z, subject_to=inner), over=W)
        other = mx.maximize(mx.minimize(-(Z @ COSTS), over=Z, subject_to=inner), over=W)
        return mx.plan(other if turned else one).run(given={"cap": 0.4 + e})

    result, sign = solved(), -1 if turned else 1
    rows, rights = [[1, 1, 0, 0], [0, 2, -1, 0]], [0.4, 0.1]
    at = np.exp(A @ result.vector)
    assert sign * result.value == pytest.approx(best_response(at, A_ub=rows, b_ub=rights, bounds=[(0, 1)] * 3 + [(0.05, 0.05)]), abs=1e-7)
    z = vector(result.duals["z"])
    assert z @ at == pytest.approx(sign * result.value, abs=1e-6)
    assert z[3] == pytest.approx(0.05, abs=1e-6)
    h = 1e-4
    assert result.duals["group"] == pytest.approx(sign * (solved(h).value - solved(-h).value) / (2 * h), abs=1e-4)
    assert sign * result.duals["law"] * sign == pytest.approx((solved(0, h).value - solved(0, -h).value) / (2 * h) * sign, abs=1e-4)


PRIOR = np.array([0.4, 0.3, 0.2, 0.1])
ENTROPIC = {
    "entropy": (mx.entropy(Z) * 0.2, np.full(4, 1.0), 0.2),
    "KL": (-0.5 * mx.kl(Z, PRIOR), PRIOR, 0.5),
    "a fraction": (-(mx.kl(Z, PRIOR) / 4), PRIOR, 0.25),
    "both": (0.1 * mx.entropy(Z) - 0.1 * mx.kl(Z, PRIOR), np.sqrt(PRIOR), 0.2),
}


@pytest.mark.parametrize(("term", "prior", "T"), ENTROPIC.values(), ids=ENTROPIC)
def test_an_entropic_term_gives_log_sum_exp_and_a_softmax(term, prior, T):
    problem = worst(Z @ COSTS + term)
    result, descent = mx.solve(problem), mx.solve(problem, solver=Projected())
    at = np.exp(A @ result.vector)
    weights = prior * np.exp(at / T)
    assert result.value == pytest.approx(T * np.log(weights.sum()), abs=1e-9)
    np.testing.assert_allclose(vector(result.duals["z"]), weights / weights.sum(), atol=1e-9)
    assert descent.value == pytest.approx(result.value, abs=1e-8)
    np.testing.assert_allclose(vector(descent.duals["z"]), vector(result.duals["z"]), atol=1e-5)


T, BETA = mx.parameter("T", nonneg=True), mx.parameter("beta", nonneg=True)
GIVEN = {
    "both": (T * mx.entropy(Z) - 0.1 * mx.kl(Z, PRIOR), 0.1 * mx.entropy(Z) - 0.1 * mx.kl(Z, PRIOR), {"T": 0.1}),
    "twice": (-(2 * T) * mx.kl(Z, PRIOR), -0.6 * mx.kl(Z, PRIOR), {"T": 0.3}),
    "inverse": (-(mx.kl(Z, mx.parameter("q", 4, nonneg=True)) / BETA), -0.25 * mx.kl(Z, PRIOR), {"beta": 4.0, "q": PRIOR}),
}


@pytest.mark.parametrize(("term", "written", "numbers"), GIVEN.values(), ids=GIVEN)
def test_a_temperature_may_be_a_parameter(term, written, numbers):
    result, same = mx.solve(worst(Z @ COSTS + term), given=numbers), mx.solve(worst(Z @ COSTS + written))
    assert result.status is mx.Status.OPTIMAL
    assert result.value == pytest.approx(same.value, abs=1e-8)
    assert result.duals["z"] == pytest.approx(same.duals["z"], abs=1e-6)


def test_one_plan_serves_several_temperatures_and_refuses_0():
    plan = mx.plan(worst(Z @ COSTS + T * mx.entropy(Z)))
    assert "log-sum-exp at temperature T" in str(plan)
    for degree in (0.05, 0.5):
        result = plan.run(given={"T": degree})
        at = np.exp(A @ result.vector)
        assert result.value == pytest.approx(degree * np.log(np.exp(at / degree).sum()), abs=1e-9)
    with pytest.raises(mx.InputError, match="the temperature 'T' of 'z' is 0 at the numbers given; it is > 0"):
        plan.run(given={"T": 0.0})


@pytest.mark.parametrize("term", [None, 0.2 * mx.entropy(Z)], ids=["epigraph", "log-sum-exp"])
def test_the_inner_weights_are_an_answer_on_the_simplex(term):
    result = mx.solve(worst(Z @ COSTS if term is None else Z @ COSTS + term))
    assert list(result[Z]) == TASKS
    assert sum(result[Z].values()) == pytest.approx(1, abs=1e-15)
    assert min(result[Z].values()) >= 0
    assert result[Z] == pytest.approx(result.duals["z"], abs=1e-6)
    assert result[W] == result.weights
    with pytest.raises(mx.ProblemError, match=r"the result has weights for .w.*, z., not for 'u'"):
        result[mx.Mixture(TASKS, "u")]


def test_the_turned_entropic_game_has_the_same_answer():
    one = mx.solve(worst(Z @ COSTS - 0.3 * mx.kl(Z, PRIOR)))
    other = mx.solve(mx.maximize(mx.minimize(0.3 * mx.kl(Z, PRIOR) - Z @ COSTS, over=Z), over=W))
    assert other.value == pytest.approx(-one.value, abs=1e-9)
    np.testing.assert_allclose(other.vector, one.vector, atol=1e-5)
    assert other.duals["z"] == pytest.approx(one.duals["z"], abs=1e-5)


PAYOFFS = {
    "a difference": (Z - [0.25] * 4) @ COSTS + 0.5 * mx.sum_squares(W),
    "by domain": Z["chat"] * mx.exp(W["web"]) + 2 * mx.mass(Z, ["math", "law"]) * mx.square(W["code"]) / 3,
    "stacked": mx.stack([mx.sum(Z * COSTS), Z["law"]]) @ [1.0, 2.0] - mx.mean(Z[1:3]),
    "left and right": mx.sum(A.T @ Z * W) + Z @ [1.0, 2, 3, 4] - (-Z) @ COSTS,
}


@pytest.mark.parametrize("payoff", PAYOFFS.values(), ids=PAYOFFS)
def test_coefficients_and_rest_give_the_payoff_back(payoff):
    rng = np.random.default_rng(0)
    costs, rest = coefficients(payoff, Z), at_zero(payoff, Z)
    for _ in range(3):
        w, z = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4))
        at = Function(costs, W, {}).value(w)
        left = 0.0 if rest is None else Function(rest, W, {}).value(w)
        whole = Function(payoff, (W, Z), {}).value(np.concatenate([w, z]))
        assert z @ at + left == pytest.approx(whole, abs=1e-12)


def test_offsets_count_once():
    result = mx.solve(worst((Z - [0.25] * 4) @ (A @ W) + 0.5 * mx.sum_squares(W)))
    at = A @ result.vector
    assert result.value == pytest.approx(at.max() - at.mean() + 0.5 * (result.vector**2).sum(), abs=1e-7)


def test_the_plan_says_what_was_done():
    plan = mx.plan(worst(Z @ COSTS))
    assert isinstance(plan.form, Program)
    assert "Route   inner maximum over 'z' of a linear payoff -> 't' with exp(<4x3 numbers> @ w) <= t (exact; the duals of 'z'" in str(plan)
    assert "maximize over z" in str(plan), "the problem is shown as it was written"
    soft = mx.plan(worst(Z @ COSTS + 0.1 * mx.entropy(Z)))
    assert "-> log-sum-exp at temperature 0.1 (exact; 'z' is its softmax)" in str(soft)


def test_new_unknowns_do_not_take_a_name_that_is_there():
    t = mx.variable("t")
    problem = mx.minimize(mx.maximize(Z @ COSTS + t, over=Z), over=(W, t), subject_to=[t >= mx.sum_squares(W)])
    result = mx.solve(problem)
    assert result[t] == pytest.approx((result.vector**2).sum(), abs=1e-6)
    assert result.value == pytest.approx(np.exp(A @ result.vector).max() + result[t], abs=1e-6)


REFUSED = {
    "both the same": (lambda: mx.minimize(mx.minimize(Z @ COSTS, over=Z), over=W), r"both levels minimize, which is one level"),
    "bent": (lambda: worst(mx.sum_squares(Z * COSTS)), r"'sum_squares\(.*\)' is not linear in the inner weights"),
    "a wrong sign": (lambda: worst(Z @ COSTS - mx.entropy(Z)), "needs it concave: its sign is the other way round"),
    "entropic and capped": (lambda: worst(Z @ COSTS + mx.entropy(Z), [(Z <= 0.5).named("cap")]), r"the inner constraints \(cap\) leave no"),
    "a wrong level": (lambda: worst(Z @ COSTS, outer=[(Z <= 0.5).named("cap")]), "'cap' stands on the wrong level"),
    "tied": (lambda: worst(Z @ COSTS, [(Z["chat"] <= W["web"]).named("tie")]), "'tie' ties the two levels"),
    "a bent constraint": (lambda: worst(Z @ COSTS, [mx.sum(mx.exp(Z)) <= 5]), "'sum.exp.z.. <= 5' is not linear in 'z', and no ball"),
    "an open temperature": (
        lambda: worst(Z @ COSTS + mx.parameter("T") * mx.entropy(Z)),
        "'T' in .* may be negative; declare it with nonneg=True",
    ),
    "weights as a temperature": (lambda: worst(Z @ COSTS + W["web"] * mx.entropy(Z)), "otherwise than as a number times it"),
    "no inner weights": (lambda: worst(mx.sum(COSTS)), "does not depend on 'z'"),
    "a taken name": (lambda: worst(Z @ COSTS, outer=[(W["web"] <= 0.5).named("z")]), "a constraint has the name 'z'"),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_closed_form_here_is_refused_with_the_reason(make, words):
    with pytest.raises(mx.ProblemError, match=words):
        mx.plan(make())


def test_an_inner_level_without_weights_is_told():
    plan = mx.plan(worst(Z @ COSTS, [(mx.parameter("cap") >= Z).named("tight")]))
    assert plan.run(given={"cap": 0.3}).status is mx.Status.OPTIMAL
    with pytest.raises(
        mx.ProblemError, match=r"the inner level is over no weights at all: the upper bounds sum to 0.4, below 1, by .*'tight'"
    ):
        plan.run(given={"cap": 0.1})


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_any_inner_polytope_has_the_value_of_its_own_linear_program(seed, m):
    rng = np.random.default_rng(seed)
    z, G, inside = mx.Mixture([f"t{i}" for i in range(m)], "z"), rng.normal(size=(3, m)), rng.dirichlet(np.ones(m))
    h, costs = G @ inside + rng.uniform(0, 0.2, 3), rng.normal(size=(m, 3))
    problem = mx.minimize(mx.maximize(z @ mx.exp(costs @ W), over=z, subject_to=[(G @ z <= h).named("rows")]), over=W)
    result = mx.solve(problem)
    at, weights = np.exp(costs @ result.vector), np.array(list(result.duals["z"].values()))
    assert result.status is mx.Status.OPTIMAL
    assert result.value == pytest.approx(best_response(at, A_ub=G, b_ub=h), abs=1e-6)
    assert weights @ at == pytest.approx(result.value, abs=1e-5)
    assert (G @ weights - h).max() <= 1e-5
    assert min(result.duals["rows"].values()) >= -1e-9


def test_the_worst_validation_loss_of_a_bilevel_problem():
    """The same answer as with the closed form written by hand."""
    torch = pytest.importorskip("torch")
    at = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.5, -0.5]], dtype=torch.float64)
    goal = torch.tensor([[0.6, 0.2], [0.1, 0.5]], dtype=torch.float64)
    losses = {"train": lambda x: (x - at).square().sum(1), "val": lambda x: (x - goal).square().sum(1)}
    learner = mx.FunctionLearner(torch.zeros(2, dtype=torch.float64), losses)
    theta, v = mx.model(), mx.Mixture(["a", "b"], "v")
    reached = mx.losses(mx.argmin(W @ mx.losses(theta, DOMAINS), over=theta), ["a", "b"], name="val")
    nested = mx.solve(mx.minimize(mx.maximize(v @ reached + 0.1 * mx.entropy(v), over=v), over=W), learner)
    direct = mx.solve(mx.minimize(mx.logsumexp(reached, 0.1), over=W), learner)
    np.testing.assert_allclose(nested.vector, direct.vector, atol=1e-12)
    assert "max of what it weights" in str(mx.plan(mx.minimize(mx.maximize(v @ reached, over=v), over=W), learner))
    with pytest.raises(mx.ProblemError, match="which a bilevel problem does not take"):
        mx.plan(mx.minimize(mx.maximize(v @ reached, over=v, subject_to=[v <= 0.7]), over=W), learner)


def test_other_problems_come_back_as_they_are():
    for problem in (
        mx.minimize(mx.sum(COSTS), over=W),
        mx.minimize(mx.maximize(W @ mx.losses(mx.model(), DOMAINS), over=W), over=mx.model()),
    ):
        assert rewritten(problem).problem is problem


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 6))
def test_random_games_have_equal_values_from_both_sides(seed, k, m):
    rng = np.random.default_rng(seed)
    w, z = mx.Mixture([f"d{i}" for i in range(k)]), mx.Mixture([f"t{i}" for i in range(m)], "z")
    payoff = rng.normal(size=(m, k))
    low = mx.solve(mx.minimize(mx.maximize(z @ payoff @ w, over=z), over=w))
    high = mx.solve(mx.maximize(mx.minimize(z @ payoff @ w, over=w), over=z))
    assert low.value == pytest.approx(high.value, abs=1e-7)
    np.testing.assert_allclose(list(high.duals["w"].values()) @ payoff.T @ high.vector, high.value, atol=1e-6)
