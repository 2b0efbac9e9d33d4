"""Programs of each atom by ``Conic``, exact and without a warning: closed answers, and the value that ``Projected`` reaches."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.runtime.program import Function
from mixopt.solvers import Conic, Projected

pytest.importorskip("cvxpy")

W = mx.Mixture(["a", "b", "c"])
C = np.array([1.0, 2.0, 4.0])
LOSSES = np.array([[1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [4.0, 2.0, 0.5], [0.5, 2.5, 2.0]])


def solved(objective, *limits, maximise=False):
    make = mx.maximize if maximise else mx.minimize
    result = mx.solve(make(objective, over=W, subject_to=list(limits)), solver=Conic())
    assert result.status is mx.Status.OPTIMAL
    assert result.check.gap <= 5e-5 * (1 + abs(result.value))
    return np.array(list(result.weights.values())), result.value


@pytest.mark.parametrize("p", [1.5, np.pi, 3, 5, 6])
def test_a_power_above_one_by_its_stationary_point(p):
    """min sum c w^p: w_i in proportion to c_i^(-1/(p-1)); pi has no short fraction, so an approximation would show."""
    w, value = solved(C @ mx.power(W, p))
    expected = C ** (-1 / (p - 1))
    expected /= expected.sum()
    np.testing.assert_allclose(w, expected, atol=2e-5)
    assert value == pytest.approx(C @ expected**p, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("p", [0.3, 0.5, 1 / np.e])
def test_a_power_below_one_by_its_stationary_point(p):
    w, _ = solved(C @ W**p, maximise=True)
    expected = C ** (1 / (1 - p))
    np.testing.assert_allclose(w, expected / expected.sum(), atol=2e-5)


@pytest.mark.parametrize("p", [-0.5, -1, -np.sqrt(2)])
def test_a_power_below_zero_by_its_stationary_point(p):
    """Additive power laws: min sum c w^-a, w_i in proportion to c_i^(1/(1+a))."""
    w, _ = solved(C @ W**p)
    expected = C ** (1 / (1 - p))
    np.testing.assert_allclose(w, expected / expected.sum(), atol=2e-5)


def test_an_even_power_has_two_sides():
    """|x - 0.5|^6 below and above; cvxpy's own rules would hold x to one side for an exponent that is no power of two."""
    w, _ = solved(mx.sum((W - [0.7, 0.0, 0.6]) ** 6 + (W - [0.2, 0.5, 0.0]) ** 6))
    np.testing.assert_allclose(w, least([[0.7, 0.0, 0.6], [0.2, 0.5, 0.0]]), atol=1e-4)


def least(centres):
    """The weights of least total sixth power of their distances from the centres, by SciPy."""
    from scipy.optimize import minimize

    found = minimize(
        lambda w: sum(np.sum((w - c) ** 6) for c in np.array(centres)),
        np.ones(3) / 3,
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return found.x


@pytest.mark.parametrize("p", [1.5, 3, 2 * np.e])
def test_the_least_norm_of_scaled_weights(p):
    """min |c w|_p: with u = c w, u_i^(p-1) c_i is the same for all."""
    w, _ = solved(mx.norm(C * W, p))
    expected = C ** (-p / (p - 1))
    np.testing.assert_allclose(w, expected / expected.sum(), atol=2e-5)


def test_where_rounding_forbids_tight_tolerances_the_solvers_own_are_taken():
    """The second attempt must not inherit the settings of the first, which cvxpy keeps with the solver."""
    shifted = W - 0.25
    bowl = shifted + mx.quad_form(shifted, LOSSES[:3].T @ LOSSES[:3])
    solved(mx.sum(bowl * 0.5 + mx.max(bowl)))
    twisted = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0], [-1.0, 0.25, -0.5]])
    bowl = shifted + mx.quad_form(shifted, twisted.T @ twisted)
    _, value = solved(mx.sum(bowl * 0.5 + mx.max(bowl)))
    assert value == pytest.approx(0.6784445690, abs=1e-8)


@pytest.mark.parametrize("of", [mx.log, mx.sqrt, lambda x: -mx.rel_entropy(0.5, x), lambda x: 2 * (mx.log(x) - 1)])
def test_an_entry_that_is_not_taken_does_not_narrow_the_domain(of):
    """Only a's own argument must be positive: b and c may fall below 0.3."""
    w, _ = solved(of(W - 0.3)["a"], maximise=True)
    np.testing.assert_allclose(w, [1, 0, 0], atol=1e-6)


def test_a_tail_is_the_largest_payoff_of_capped_weights():
    """CVaR by its dual: the value is that of a linear program over adversaries v <= 1/(share n)."""
    from scipy.optimize import linprog

    for share in (0.25, 0.4, 0.5, 0.8, 1.0):
        w, value = solved(mx.tail(LOSSES @ W, share))
        dual = linprog(-(LOSSES @ w), A_eq=np.ones((1, 4)), b_eq=[1], bounds=(0, 1 / (share * 4)))
        assert value == pytest.approx(-dual.fun, abs=1e-8)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("weights", [[1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 0.2, 0.3]])
def test_a_weighted_tail_is_the_largest_payoff_below_each_entry_s_part(share, weights):
    """As above with caps p_i / share; the value is the optimum of the whole linear program in w, t and the excesses, too."""
    from scipy.optimize import linprog

    caps = np.array(weights) / np.sum(weights) / share
    w, value = solved(mx.tail(LOSSES @ W, share, weights))
    dual = linprog(-(LOSSES @ w), A_eq=np.ones((1, 4)), b_eq=[1], bounds=[(0, c) for c in caps])
    assert value == pytest.approx(-dual.fun, abs=1e-8)
    whole = linprog(
        [0, 0, 0, 1, *caps],
        A_ub=np.hstack([LOSSES, -np.ones((4, 1)), -np.eye(4)]),
        b_ub=np.zeros(4),
        A_eq=[[1, 1, 1, 0, 0, 0, 0, 0]],
        b_eq=[1],
        bounds=[(0, None)] * 3 + [(None, None)] + [(0, None)] * 4,
    )
    assert value == pytest.approx(whole.fun, abs=1e-7)
    result = mx.solve(mx.minimize(mx.square(mx.tail(mx.pos(LOSSES @ W), share, weights)), over=W))  # its sign is known to the cone as well
    assert result.status is mx.Status.OPTIMAL
    assert result.check.gap is not None
    assert result.check.gap <= 1e-6


def test_logsumexp_meets_the_entropy_that_it_is_dual_to():
    """max w @ x + T H(w) = T log sum exp(x / T)."""
    x, temperature = np.array([0.3, -0.2, 0.9]), 0.2
    _, value = solved(W @ x + temperature * mx.entropy(W), maximise=True)
    assert value == pytest.approx(temperature * np.log(np.exp(x / temperature).sum()), abs=1e-9)
    w, smooth = solved(mx.logsumexp(LOSSES @ W, 0.3))
    assert smooth == pytest.approx(0.3 * np.log(np.exp(LOSSES @ w / 0.3).sum()), rel=1e-9, abs=1e-8)
    assert smooth <= mx.solve(mx.minimize(mx.logsumexp(LOSSES @ W, 0.3), over=W), solver=Projected()).value + 1e-8


def test_relative_entropy_of_two_expressions_summed_is_the_divergence():
    limit = (W["a"] <= 0.2).named("cap")
    w, value = solved(mx.sum(mx.rel_entropy(W, [0.5, 0.25, 0.25])), limit)
    np.testing.assert_allclose(w, [0.2, 0.4, 0.4], atol=2e-5)
    assert value == pytest.approx(0.2 * np.log(0.4) + 0.8 * np.log(1.6), abs=1e-9)


@pytest.mark.parametrize(
    "objective",
    [
        mx.sum(mx.softplus(LOSSES @ W - 2)),
        mx.sum(mx.huber(LOSSES @ W - 2, 0.3)),
        mx.max(mx.stack([mx.exp(W["a"]), 2 * W[1:], mx.sum_squares(W) + 0.5])),
        -mx.sum(mx.sqrt(LOSSES @ W)),
    ],
    ids=str,
)
def test_no_other_mixture_is_better(objective):
    w, value = solved(objective)
    function = Function(objective, W, {})
    near = np.abs(w + np.random.default_rng(0).normal(scale=1e-2, size=(200, 3)))
    others = [*np.random.default_rng(0).dirichlet(np.ones(3), 200), *near / near.sum(1, keepdims=True)]
    assert all(function.value(v) >= value - 1e-8 for v in others)


def test_a_weighted_tail_of_given_numbers_is_run_again_and_limits_too():
    """One plan, several numbers: each run equals a fresh one and closes its own gap; a tail in a constraint has a dual."""
    costs = LOSSES @ W + mx.parameter("c", 4)
    cap = (mx.tail(W, 0.4, [1, 1, 2]) <= 0.6).named("cap")
    plan = mx.plan(mx.minimize(mx.tail(costs, 0.3, [1, 2, 3, 4]) + 0.1 * mx.sum_squares(W), over=W, subject_to=[cap]))
    for seed in range(3):
        given = {"c": np.random.default_rng(seed).normal(size=4)}
        result = plan.run(given=given)
        assert result.status is mx.Status.OPTIMAL
        assert result.value == pytest.approx(mx.solve(plan.problem, given=given).value, abs=1e-8)
        assert result.check.gap <= 1e-6
        assert result.check.feasible
        assert result.duals["cap"] >= 0
