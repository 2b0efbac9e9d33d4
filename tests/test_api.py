"""The verbs on programs: plan, solve and compare, with starts, given numbers, budgets and methods."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.solvers import Conic, Implicit, Projected

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W = mx.Mixture(DOMAINS)
TARGET = mx.parameter("target", 3)
FIT = mx.minimize(mx.sum_squares(W - TARGET), over=W, subject_to=[(W["web"] <= mx.parameter("cap", nonneg=True)).named("cap")])


def test_one_plan_runs_with_many_numbers():
    plan = mx.plan(FIT)
    for cap in (0.3, 0.6):
        result = plan.run(given={"target": [0.8, 0.1, 0.1], "cap": cap})
        np.testing.assert_allclose(result.vector, [cap, (1 - cap) / 2, (1 - cap) / 2], atol=1e-6)


@pytest.mark.parametrize("start", [{"web": 0, "code": 1, "books": 0}, [0, 1, 0], np.array([0.0, 1.0, 0.0])], ids=["names", "list", "array"])
def test_a_start_is_where_the_first_step_leaves_from(start):
    hills = mx.maximize(mx.sum_squares(W), over=W)
    assert mx.solve(hills, start=start).weights["code"] == 1.0


def test_a_start_outside_the_constraints_is_moved_into_them():
    problem = mx.maximize(mx.sum_squares(W), over=W, subject_to=[W["code"] <= 0.7])
    result = mx.solve(problem, start=[0.05, 0.95, 0.0])
    assert result.weights["code"] == pytest.approx(0.7)
    assert result.check.feasible


def test_a_result_of_the_same_mixture_starts_another_problem_and_one_of_another_is_refused():
    first = mx.solve(mx.minimize(mx.kl(W, DOMAINS.natural), over=W))
    again = mx.solve(mx.minimize(mx.kl(W, DOMAINS.natural), over=W), solver=Projected(), start=first)
    assert again.trace["value"][0] <= first.value + 1e-6
    other = mx.Mixture(["web", "code"])
    with pytest.raises(
        mx.InputError, match=r"start is a result for 'w' over \(web, code, books\), but the problem's 'w' is over \(web, code\)"
    ):
        mx.solve(mx.minimize(mx.sum_squares(other), over=other), start=first)


def test_maximising_is_minimising_the_negative():
    up = mx.solve(mx.maximize(mx.entropy(W) - W["web"], over=W))
    down = mx.solve(mx.minimize(-mx.entropy(W) + W["web"], over=W))
    assert up.value == pytest.approx(-down.value, abs=1e-9)
    np.testing.assert_allclose(up.vector, down.vector, atol=1e-6)


def test_a_comparison_holds_results_and_refusals():
    table = mx.compare(FIT, None, [Conic(), Projected(), Implicit()], given={"target": [0.8, 0.1, 0.1], "cap": 0.5})
    assert [row.result is not None for row in table.rows] == [True, True, False]
    assert "Implicit refuses this program: it takes bilevel problems" in table.rows[2].refusal
    assert table.results[0].value == pytest.approx(table.results[1].value, abs=1e-8)


def test_an_interruption_ends_a_comparison_and_keeps_what_is_finished(monkeypatch):
    step, seen = Projected.step, []

    def stopped(self, task, state):
        seen.append(task.seed)
        if task.seed == 1:
            raise KeyboardInterrupt
        return step(self, task, state)

    monkeypatch.setattr(Projected, "step", stopped)
    table = mx.compare(mx.minimize(mx.sum_squares(W), over=W), None, [Projected(), Projected(geometry="entropic")], seeds=range(3))
    assert [row.result.status for row in table.rows] == [mx.Status.OPTIMAL, mx.Status.INTERRUPTED]
    assert 2 not in seen


def test_an_interruption_of_the_check_keeps_the_weights(monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mixopt.planned.judged", stopped)
    result = mx.solve(mx.minimize(mx.sum_squares(W), over=W), solver=Projected())
    assert result.status is mx.Status.INTERRUPTED
    assert result.vector == pytest.approx(np.full(3, 1 / 3))
    assert result.check is None
    assert "no check: it was interrupted" in str(result)


def test_a_method_brings_its_solver_and_an_argument_overrides_it():
    method = mx.Method(mx.minimize(mx.sum_squares(W), over=W), Projected(geometry="entropic"), "spread")
    assert mx.solve(method).solver == "Projected(geometry='entropic')"
    assert mx.solve(method, solver=Conic()).solver == "Conic()"
    assert str(method).startswith("spread: Projected(geometry='entropic')\nminimize over w")
    assert mx.compare(method.problem, None, [method]).rows[0].solver == "spread"


def test_a_watcher_sees_every_look_and_may_interrupt():
    seen = []

    def watch(progress):
        seen.append(progress)
        if len(seen) == 3:
            raise KeyboardInterrupt

    problem = mx.minimize(mx.kl(W, DOMAINS.natural) + mx.exp(3 * W["code"]), over=W)
    result = mx.solve(problem, solver=Projected(geometry="entropic", tolerance=1e-14), watch=watch)
    assert result.status is mx.Status.INTERRUPTED
    assert [p.step for p in seen] == [1, 2, 3]
    assert seen[-1].weights.sum() == pytest.approx(1)
    assert result.value == pytest.approx(min(p.info["value"] for p in seen))


def test_the_same_call_gives_the_same_answer():
    problem = mx.minimize(mx.sum(mx.exp(np.arange(9.0).reshape(3, 3) @ W)), over=W)
    one, two = mx.solve(problem, solver=Projected()), mx.solve(problem, solver=Projected())
    np.testing.assert_array_equal(one.trace.weights, two.trace.weights)


def test_a_single_domain_has_one_answer():
    alone = mx.Mixture(["only"])
    for solver in (Conic(), Projected(), Projected(geometry="entropic")):
        result = mx.solve(mx.minimize(mx.exp(alone["only"]), over=alone), solver=solver)
        assert result.weights == {"only": 1.0}
        assert result.status is mx.Status.OPTIMAL


def test_hypergradients_are_of_bilevel_problems():
    with pytest.raises(mx.InputError, match="hypergradients are of bilevel problems, and this is a program"):
        mx.hypergradient(mx.minimize(mx.sum_squares(W), over=W), None)
