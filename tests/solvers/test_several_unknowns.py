"""Programs in more than one mixture: auxiliary variables, several mixtures and stages, with closed answers and certificates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

import mixopt as mx
from mixopt.compiler.classify import classify
from mixopt.report.check import program_check
from mixopt.report.result import fingerprint
from mixopt.runtime.layout import Layout
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region
from mixopt.solvers import Conic, Projected

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W = mx.Mixture(DOMAINS)
TARGET = np.array([0.7, 0.2, 0.1])
LOSSES = np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [2.0, 2.0, 1.0]])


def test_the_worst_of_several_losses_by_an_epigraph_variable():
    """min over (w, t) of t with L w <= t: the value of a matrix game, and its other player in the duals."""
    t = mx.variable("t")
    result = mx.solve(mx.minimize(t, over=(W, t), subject_to=[(mx.constant(LOSSES) @ W <= t).named("worst")]))
    direct = mx.solve(mx.minimize(mx.max(mx.constant(LOSSES) @ W), over=W))
    assert result.status is mx.Status.OPTIMAL
    assert result[t] == pytest.approx(direct.value, abs=1e-7)
    assert isinstance(result[t], float)
    assert sum(result.duals["worst"].values()) == pytest.approx(1, abs=1e-7), "stationarity in t"
    assert result.check.feasible
    assert result.check.kkt <= 1e-8
    assert result.weights == result[W]


def test_a_variable_takes_up_what_a_cap_leaves_and_its_bounds_hold():
    """min |w - target|^2 + |z|^2 with w_web <= 0.4 + z: by SLSQP on the five numbers."""
    z = mx.variable("z", 2, lower=[0.0, 0.05], upper=0.08)
    objective = mx.sum_squares(W - TARGET) + mx.sum_squares(z)
    result = mx.solve(mx.minimize(objective, over=(z, W), subject_to=[(W["web"] <= 0.4 + z[0]).named("soft cap")]))
    found = minimize(
        lambda x: ((x[:3] - TARGET) ** 2).sum() + (x[3:] ** 2).sum(),
        np.full(5, 0.05),
        bounds=[(0, 1)] * 3 + [(0, 0.08), (0.05, 0.08)],
        constraints=[{"type": "eq", "fun": lambda x: x[:3].sum() - 1}, {"type": "ineq", "fun": lambda x: 0.4 + x[3] - x[0]}],
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose([*result.vector, *result[z]], found.x, atol=2e-6)
    np.testing.assert_allclose(result[z], [0.08, 0.05], atol=1e-9)
    assert result.check.kkt <= 1e-7
    assert result.check.simplex <= 1e-12
    assert result.trace.weights.shape == (1, 3)


def test_a_certificate_sees_that_a_variable_is_not_stationary():
    t = mx.variable("t")
    problem = mx.minimize(mx.square(t - 1) + mx.sum_squares(W), over=(W, t))
    form = classify(problem)
    region = Region.compile((W, t), (), {})
    check, _ = program_check(form, region, np.array([1 / 3, 1 / 3, 1 / 3, 1.5]), {})
    assert check.kkt == pytest.approx(1.0), "2 (1.5 - 1)"
    assert region.names == ("w[web]", "w[code]", "w[books]", "t")


def test_mixture_reuse_fixes_the_ratios_within_a_group():
    """w_F = rho p_F with rho a variable (Olmix's reuse): the group keeps its proportions, its mass is free."""
    rho, kept = mx.variable("rho", nonneg=True, upper=1.0), ["code", "books"]
    reuse = mx.equal(W[kept], rho * mx.constant([0.75, 0.25], kept)).named("reuse")
    result = mx.solve(mx.minimize(mx.sum_squares(W - TARGET), over=(W, rho), subject_to=[reuse]))
    assert result.weights["code"] == pytest.approx(3 * result.weights["books"], abs=1e-9)
    assert result[rho] == pytest.approx(result.weights["code"] + result.weights["books"], abs=1e-9)
    by_hand = minimize(lambda r: ((np.array([1 - r[0], 0.75 * r[0], 0.25 * r[0]]) - TARGET) ** 2).sum(), [0.3], tol=1e-12)
    assert result[rho] == pytest.approx(by_hand.x[0], abs=1e-6)
    assert result.check.kkt <= 1e-7


def test_two_mixtures_of_different_domains_share_a_budget():
    v = mx.Mixture(["a", "b"], name="v")
    goal = mx.sum_squares(W - TARGET) + mx.sum_squares(v - [0.9, 0.1])
    problem = mx.minimize(goal, over=(W, v), subject_to=[(W["web"] + v["a"] <= 1.2).named("shared")])
    result = mx.solve(problem)
    assert sum(result[v].values()) == pytest.approx(1, abs=1e-12)
    assert result[W]["web"] + result[v]["a"] == pytest.approx(1.2, abs=1e-7)
    assert result.check.kkt <= 1e-7
    assert result.duals["shared"] > 0.1
    with pytest.raises(mx.ProblemError, match=r"the problem has the mixtures \(w, v\); write result\[w\] for one of them"):
        _ = result.weights
    assert "v[a]" in str(result)


def test_a_curriculum_moves_step_by_step():
    """Stages from the natural to a target with bounded steps: each at the nearest point that the chain allows."""
    p = mx.Mixture(DOMAINS, name="p", stages=3)
    steps = [(mx.norm(p[t + 1] - p[t], 1) <= 0.2).named(f"step {t}") for t in range(2)]
    start = mx.equal(p[0], DOMAINS.natural).named("start")
    result = mx.solve(mx.minimize(mx.sum_squares(p[2] - [0.1, 0.1, 0.8]), over=p, subject_to=[start, *steps]))
    rows = np.array([list(row.values()) for row in result[p]])
    assert rows.shape == (3, 3)
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(rows[0], DOMAINS.natural, atol=1e-8)
    assert np.abs(np.diff(rows, axis=0)).sum(axis=1) == pytest.approx([0.2, 0.2], abs=1e-6)
    assert result[p[2]] == result[p][2]
    assert result.check.feasible
    assert result.vector.shape == (9,)


def test_stages_that_share_nothing_are_separate_problems():
    p = mx.Mixture(DOMAINS, name="p", stages=2)
    targets = [TARGET, [0.2, 0.2, 0.6]]
    result = mx.solve(mx.minimize(sum(mx.sum_squares(row - t) for row, t in zip(p, targets, strict=True)), over=p))
    np.testing.assert_allclose(result.vector, np.concatenate(targets), atol=1e-6)
    assert result.check.gap <= 1e-6


def test_a_conflict_across_stages_is_found():
    p = mx.Mixture(DOMAINS, name="p", stages=2)
    limits = [(p[0]["web"] <= 0.2).named("first"), (p[1]["web"] >= 0.9).named("last"), (mx.norm(p[1] - p[0], 1) <= 0.5).named("slow")]
    result = mx.solve(mx.minimize(mx.sum_squares(p[0]), over=p, subject_to=limits))
    assert result.status is mx.Status.INFEASIBLE
    with pytest.raises(mx.ProblemError, match="there are no weights"):
        _ = result[p]


def test_an_unbounded_variable_is_told():
    t = mx.variable("t")
    result = mx.solve(mx.minimize(t + mx.sum_squares(W), over=(W, t)))
    assert result.status is mx.Status.STUCK
    assert "the objective improves without end; bound the variables" in result.message


def test_saved_results_and_starts_go_by_symbol(tmp_path):
    v, z = mx.Mixture(["a", "b"], name="v"), mx.variable("z")
    problem = mx.minimize(mx.sum_squares(W - TARGET) + mx.sum_squares(v) + mx.square(z - 2), over=(W, v, z))
    result = mx.solve(problem)
    result.save(tmp_path / "saved.json")
    for start in (result, tmp_path / "saved.json", {"w": result[W], "v": result[v]}):
        np.testing.assert_allclose(mx.solve(problem, start=start).vector, result.vector, atol=1e-9)
    with pytest.raises(mx.InputError, match=r"start is a dict with the weights of each of the mixtures \(w, v\)"):
        mx.solve(problem, start=result[W])
    y = mx.variable("z", upper=5.0)
    bounded = mx.minimize(mx.sum_squares(W - TARGET) + mx.sum_squares(v) + mx.square(y - 2), over=(W, v, y))
    assert fingerprint(problem) != fingerprint(bounded)


def test_the_plan_names_all_unknowns_and_why_others_refuse():
    z = mx.variable("z", nonneg=True)
    plan = mx.plan(mx.minimize(mx.sum_squares(W) + z, over=(W, z)))
    assert "program in (w, z): convex objective" in str(plan)
    assert "Projected refuses: it moves one mixture, and this problem also has the unknowns (z); Conic takes them" in str(plan)
    with pytest.raises(mx.RefusalError, match="it moves one mixture"):
        mx.solve(plan.problem, solver=Projected())
    assert isinstance(plan.solver, Conic)


THETA = mx.model()
BAD = {
    "an unknown not named": (
        lambda: mx.minimize(mx.sum_squares(W) + mx.variable("z"), over=W),
        "the objective uses the variable 'z', which the problem is not over; write over=(w, z)",
    ),
    "an unknown in a constraint only": (
        lambda: mx.minimize(mx.sum_squares(W), over=W, subject_to=[W["web"] <= mx.variable("z")]),
        "constraint 'w[web] <= z' is on 'z', not on the problem's 'w'; write over=(w, z)",
    ),
    "variables alone": (
        lambda: mx.minimize(mx.variable("z"), over=mx.variable("z")),
        "minimize over (z) has no mixture to find; name it too: over=(w, ...)",
    ),
    "an idle unknown": (
        lambda: mx.minimize(mx.sum_squares(W), over=(W, mx.variable("z"))),
        "'z' occurs in neither the objective nor a constraint, so nothing decides it; leave it out of over",
    ),
    "a mixture not named": (
        lambda: mx.minimize(mx.sum_squares(W) + mx.sum_squares(mx.Mixture(DOMAINS, name="v")), over=W),
        "the objective uses the mixtures (w, v), but the problem is over 'w'",
    ),
    "a variable in a saddle": (
        lambda: mx.minimize(mx.maximize(W @ mx.losses(THETA, DOMAINS), over=(W, mx.variable("z"))), over=THETA),
        "'maximize' is over (w, z); each level of a saddle or bilevel problem has one symbol, a mixture or a model",
    ),
    "stages in a bilevel problem": (
        lambda: mx.minimize(
            mx.mean(mx.losses(mx.argmin(W @ mx.losses(THETA, DOMAINS), over=THETA), DOMAINS, name="val")),
            over=mx.Mixture(DOMAINS, stages=2),
        ),
        "'minimize' is over (w), where 'w' has 2 stages; each level of a saddle or bilevel problem has one symbol",
    ),
}


@pytest.mark.parametrize(("make", "said"), BAD.values(), ids=BAD)
def test_what_is_none_of_this_is_refused_in_words(make, said):
    with pytest.raises(mx.ProblemError) as refusal:
        mx.plan(make())
    assert said in str(refusal.value)


def test_gradients_in_several_unknowns_agree_with_finite_differences():
    v, z, s = mx.Mixture(["a", "b"], name="v"), mx.variable("z", 2), mx.variable("s")
    expr = mx.sum_squares(W - TARGET) * mx.exp(z[0]) + mx.kl(v, [0.5, 0.5]) * s + mx.square(z @ v)
    function = Function(expr, (W, v, s, z), {})
    x = np.array([0.5, 0.3, 0.2, 0.6, 0.4, 1.3, -0.4, 0.7])
    numeric = [(function.value(x + h) - function.value(x - h)) / 2e-6 for h in 1e-6 * np.eye(8)]
    np.testing.assert_allclose(function.gradient(x), numeric, atol=1e-8)


def test_a_layout_knows_whose_each_entry_is():
    z = mx.variable("z", lower=-2.0, upper=-1.0)
    layout = Layout.of((W, z))
    np.testing.assert_array_equal(layout.middle(), [1 / 3, 1 / 3, 1 / 3, -1])
    np.testing.assert_allclose(layout.exact(np.array([0.5, 0.6, -1e-12, -3.0])), [5 / 11, 6 / 11, 0, -2], atol=1e-15)
    assert layout.off(np.array([0.5, 0.3, 0.2, -2.5])) == pytest.approx(0.5)
    assert layout.values(np.array([1.0, 0.0, 0.0, -1.0]))[z] == -1.0
