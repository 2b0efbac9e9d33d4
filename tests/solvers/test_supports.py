"""Which domains to use: agreement with every support tried one by one, what the certificate says, and what is refused."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest
from scipy.optimize import minimize

import mixopt as mx
from mixopt.language.latex import latex
from mixopt.solvers import Conic, Projected

pytest.importorskip("cvxpy")

K = 6
NAMES = [f"d{i}" for i in range(K)]
W = mx.Mixture(NAMES)
DRAW = np.random.default_rng(3)
MATRIX, GOAL = DRAW.normal(size=(4, K)), DRAW.normal(size=4)
QUADRATIC = mx.sum_squares(mx.constant(MATRIX) @ W - GOAL)


def by_hand(most: int, least: float, linear: np.ndarray | None = None) -> float:
    """The least value over all supports, each by SLSQP on its own."""
    values = []
    for on in chain.from_iterable(combinations(range(K), n) for n in range(1, most + 1)):
        if len(on) * least > 1:
            continue
        part = MATRIX[:, on]

        def value(x, on=on, part=part):
            return linear[list(on)] @ x if linear is not None else ((part @ x - GOAL) ** 2).sum()

        sums = {"type": "eq", "fun": lambda x: x.sum() - 1}
        start = np.full(len(on), 1 / len(on))
        found = minimize(value, start, bounds=[(least, 1)] * len(on), constraints=sums, options={"ftol": 1e-14, "maxiter": 300})
        values.append(found.fun)
    return min(values)


@pytest.mark.parametrize(("most", "least"), [(2, 0.0), (3, 0.2), (6, 0.3), (1, 0.0)])
def test_the_best_support_is_the_best_of_all(most, least):
    limits = [mx.cardinality(W, at_most=most)] + ([mx.used(W, at_least=least)] if least else [])
    result = mx.solve(mx.minimize(QUADRATIC, over=W, subject_to=limits))
    assert result.status is mx.Status.OPTIMAL
    assert result.value == pytest.approx(by_hand(most, least), abs=1e-7)
    on = result.vector[result.vector > 0]
    assert len(on) <= most
    assert on.min() >= least - 1e-9
    assert "no other choice of domains is better by more than" in result.message
    assert "branch and bound over supports" in result.message
    assert "hold the domains that are used fixed" in str(result.check)
    assert result.check.feasible
    assert result.check.kkt <= 1e-6


def test_a_linear_objective_goes_to_highs():
    cost = np.arange(1.0, K + 1)
    limits = [(W <= 0.4).named("cap"), mx.used(W, at_least=0.25).named("worth it"), mx.cardinality(W, at_most=3).named("few")]
    result = mx.solve(mx.minimize(W @ cost, over=W, subject_to=limits))
    assert "HiGHS' branch and bound" in result.message
    assert result.value == pytest.approx(0.4 * 1 + 0.35 * 2 + 0.25 * 3)
    np.testing.assert_allclose(result.vector, [0.4, 0.35, 0.25, 0, 0, 0], atol=1e-7)
    assert result.check.constraints["few"] == 0
    assert set(result.duals) == {"cap"}


def test_rules_for_some_domains_and_for_stages():
    p = mx.Mixture(NAMES, name="p", stages=2)
    some = mx.cardinality(p[1][["d0", "d1", "d2"]], at_most=1)
    result = mx.solve(mx.minimize(mx.sum_squares(p[0]) + mx.sum_squares(p[1]), over=p, subject_to=[some]))
    first, second = (np.array(list(row.values())) for row in result[p])
    np.testing.assert_allclose(first, 1 / K, atol=1e-6)
    assert (second[:3] > 0).sum() == 1
    np.testing.assert_allclose(np.sort(second)[2:], 0.25, atol=1e-6)


def test_a_rerun_searches_again_without_compiling():
    q = mx.parameter("q", K)
    plan = mx.plan(mx.minimize(mx.sum_squares(W - q), over=W, subject_to=[mx.cardinality(W, at_most=2)]))
    for best in ((0, 1), (3, 4)):
        target = np.full(K, 0.05)
        target[list(best)] = 0.4
        assert {i for i, w in enumerate(plan.run(given={"q": target}).vector) if w > 0} == set(best)


def test_no_choice_and_too_many_nodes_are_told():
    limits = [(W <= 0.3).named("cap"), mx.cardinality(W, at_most=3).named("few")]
    result = mx.solve(mx.minimize(QUADRATIC, over=W, subject_to=limits))
    assert result.status is mx.Status.INFEASIBLE
    assert result.message == "no weights satisfy 'cap' and 'few' together; they would if 'cap' gave way by 0.03333"
    short = mx.solve(mx.minimize(mx.sum_squares(W), over=W, subject_to=[mx.cardinality(W, at_most=2)]), solver=Conic(nodes=1))
    assert short.status is mx.Status.BUDGET
    assert "no choice of domains was found to be feasible so far" in short.message


def test_they_are_written_as_they_are_read():
    few, worth = mx.cardinality(W, at_most=3), mx.used(W[["d0", "d1"]], at_least=0.05)
    assert str(few) == "cardinality(w) <= 3"
    assert str(worth) == "least_used(w[d0, d1]) >= 0.05"
    assert latex(few) == r"\lVert w \rVert_{0} \le 3"
    assert latex(worth).startswith(r"\min\nolimits_{+}")


REFUSED = {
    "a share": (lambda: mx.cardinality(W, at_most=0.5), "cardinality is at most 0.5; a number of domains is a whole number >= 1"),
    "no share": (lambda: mx.used(W, at_least=3), "a weight that is used is at least 3; a share is a number in (0, 1]"),
    "an expression": (lambda: mx.cardinality(2 * W, at_most=3), "is of the weights of a mixture, or of some of its domains"),
    "one weight": (lambda: mx.used(W["d0"], at_least=0.1), "'w[d0]' is neither; write used(w, ...)"),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_in_words(make, said):
    with pytest.raises(mx.ProblemError) as refusal:
        make()
    assert said in str(refusal.value)


def test_others_refuse_and_a_count_in_the_objective_is_told_apart():
    plan = mx.plan(mx.minimize(QUADRATIC, over=W, subject_to=[mx.cardinality(W, at_most=2)]))
    assert plan.choice.chosen == "Conic()"
    assert "Projected refuses: constraint 'cardinality(w) <= 2' is not convex" in str(plan)
    with pytest.raises(mx.RefusalError, match="is not convex"):
        mx.solve(plan.problem, solver=Projected())
    counted = mx.plan(mx.minimize(QUADRATIC + mx.cardinality(W, at_most=1).left, over=W))
    assert "it stands alone in a constraint, made by cardinality(w, at_most=...)" in str(counted)
