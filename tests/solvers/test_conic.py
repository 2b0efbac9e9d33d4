"""Conic programs: closed answers, duals and their signs, infeasibility, agreement with descent, and the law's optima on real runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.solvers import Conic, Projected

pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W = mx.Mixture(DOMAINS)
NATURAL = mx.kl(W, DOMAINS.natural)
REGMIX = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "regmix"


def test_a_cap_on_natural_proportions_moves_the_rest_proportionally():
    result = mx.solve(mx.minimize(NATURAL, over=W, subject_to=[(W["web"] <= 0.5).named("cap")]))
    assert result.status is mx.Status.OPTIMAL
    np.testing.assert_allclose(result.vector, [0.5, 0.375, 0.125], atol=2e-6)
    assert result.duals["cap"] == pytest.approx(np.log(4), abs=1e-5), "d/dc of KL((c, 1 - c) || (0.8, 0.2)) at c = 0.5, negated"
    assert result.check.gap <= 1e-5
    assert result.check.kkt <= 1e-5
    assert result.check.feasible
    assert sum(result.weights.values()) == pytest.approx(1, abs=1e-12)


def test_the_largest_entropy_is_uniform_and_its_value_keeps_its_sense():
    result = mx.solve(mx.maximize(mx.entropy(W), over=W), solver=Conic())
    np.testing.assert_allclose(result.vector, np.full(3, 1 / 3), atol=1e-6)
    assert result.value == pytest.approx(np.log(3), abs=1e-10)


def value_at(make, relaxation: float) -> float:
    return mx.solve(make(relaxation), solver=Conic()).value


FIT = mx.sum_squares(W - [0.7, 0.2, 0.1])
RELAXED = {
    "minimise, <=": (lambda e: mx.minimize(FIT, over=W, subject_to=[(W["web"] <= 0.4 + e).named("r")]), -1),
    "minimise, >=": (lambda e: mx.minimize(FIT, over=W, subject_to=[(W["books"] >= 0.3 - e).named("r")]), -1),
    "maximise, <=": (lambda e: mx.maximize(-FIT, over=W, subject_to=[(W["web"] <= 0.4 + e).named("r")]), 1),
    "maximise, >=": (lambda e: mx.maximize(-FIT, over=W, subject_to=[(W["books"] >= 0.3 - e).named("r")]), 1),
    "minimise, convex <=": (lambda e: mx.minimize(FIT, over=W, subject_to=[(mx.sum_squares(W) <= 0.4 + e).named("r")]), -1),
    "minimise, slack": (lambda e: mx.minimize(FIT, over=W, subject_to=[(W["web"] <= 0.9 + e).named("r")]), -1),
}


@pytest.mark.parametrize(("make", "sign"), RELAXED.values(), ids=RELAXED)
def test_an_inequality_has_a_dual_of_at_least_zero_that_is_the_rate_of_improvement(make, sign):
    dual = mx.solve(make(0.0), solver=Conic()).duals["r"]
    rate = (value_at(make, 1e-4) - value_at(make, -1e-4)) / 2e-4
    assert dual >= -1e-9
    assert rate == pytest.approx(sign * dual, abs=2e-5)


@pytest.mark.parametrize("level", [0.4, 0.85], ids=["below", "above"])
def test_the_dual_of_an_equality_is_signed_for_left_minus_right(level):
    """Loosening left - right == 0 to left - right == e changes the least value by -dual e."""

    def make(e):
        return mx.minimize(FIT, over=W, subject_to=[mx.equal(W["web"], level + e).named("r")])

    dual = mx.solve(make(0.0), solver=Conic()).duals["r"]
    assert (value_at(make, 1e-4) - value_at(make, -1e-4)) / 2e-4 == pytest.approx(-dual, abs=2e-5)
    assert (dual > 0) == (level < 0.7)


def test_duals_of_a_vector_relation_go_by_domain_and_of_an_unnamed_one_by_its_text():
    result = mx.solve(mx.minimize(FIT, over=W, subject_to=[W <= [0.4, 0.5, 0.6]]), solver=Conic())
    duals = result.duals["w <= [0.4, 0.5, 0.6]"]
    assert list(duals) == ["web", "code", "books"]
    assert duals["web"] == pytest.approx(0.9, abs=1e-6), "2 (0.7 - 0.4) and the sum's multiplier 0.3"
    assert duals["code"] == pytest.approx(0, abs=1e-7)


def test_the_certificates_multipliers_are_those_of_the_solver():
    caps = [(W <= [0.4, 0.5, 0.6]).named("caps"), mx.equal(W["code"] - W["books"], 0.2).named("tie")]
    problem = mx.minimize(FIT, over=W, subject_to=caps)
    conic, descent = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Projected())
    assert conic.duals["tie"] == pytest.approx(descent.duals["tie"], abs=1e-5)
    assert conic.duals["caps"] == pytest.approx(descent.duals["caps"], abs=1e-5)


@pytest.mark.parametrize(
    "constraints",
    [
        [(W["web"] >= 0.6).named("floor"), (W["web"] <= 0.3).named("cap")],
        [(W["web"] >= 0.6).named("floor"), (mx.mass(W, ["code", "books"]) >= 0.6).named("rest")],
        [(mx.sum_squares(W) <= 0.4).named("even"), (W["web"] >= 0.7).named("floor")],
    ],
    ids=["bounds", "rows", "convex"],
)
def test_infeasible_constraints_are_a_status_that_names_them(constraints):
    result = mx.solve(mx.minimize(NATURAL, over=W, subject_to=constraints))
    assert result.status is mx.Status.INFEASIBLE
    assert not result.status.usable
    assert result.vector is None
    assert result.value is None
    assert all(repr(c.name) in result.message for c in constraints)
    assert "INFEASIBLE" in str(result)
    with pytest.raises(mx.ProblemError, match="there are no weights: no weights satisfy "):
        result.weights  # noqa: B018


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_conic_and_projected_agree(seed, k):
    rng = np.random.default_rng(seed)
    w = mx.Mixture([f"d{i}" for i in range(k)])
    A, target = rng.normal(size=(4, k)), rng.dirichlet(np.ones(k)) + 0.01
    objective = mx.mean(mx.exp(A @ w)) + 0.1 * mx.kl(w, target / target.sum())
    problem = mx.minimize(objective, over=w, subject_to=[w <= 1.5 / k, A[0] @ w <= A[0].mean()])
    conic, descent = mx.solve(problem, solver=Conic()), mx.solve(problem, solver=Projected(tolerance=1e-10))
    assert conic.status is descent.status is mx.Status.OPTIMAL
    assert conic.value == pytest.approx(descent.value, abs=1e-7)
    np.testing.assert_allclose(conic.vector, descent.vector, atol=2e-4)
    assert conic.check.gap <= 1e-3
    assert descent.check.gap <= 1e-8


def test_parameters_are_numbers_of_a_run_not_of_the_plan():
    plan = mx.plan(mx.minimize(NATURAL, over=W, subject_to=[W["web"] <= mx.parameter("cap")]))
    weights = [plan.run(given={"cap": cap}).weights["web"] for cap in (0.2, 0.4, 0.9)]
    np.testing.assert_allclose(weights, [0.2, 0.4, 0.8], atol=1e-5)


def test_a_factor_that_may_be_negative_is_named_with_the_mend():
    w = mx.Mixture(["a", "b"])
    problem = mx.minimize(mx.sum_squares(w) + mx.parameter("rate") * mx.kl(w, [0.5, 0.5]), over=w)
    with pytest.raises(mx.RefusalError, match=r"if 'rate' is never negative, write parameter\('rate', nonneg=True\)"):
        mx.solve(problem, solver=Conic(), given={"rate": 1.0})


def test_an_objective_that_is_finite_nowhere_is_infeasible_and_says_so():
    w = mx.Mixture(["a", "b"])
    result = mx.solve(mx.minimize(-mx.log(w["a"] - 2), over=w))
    assert result.status is mx.Status.INFEASIBLE
    assert "the objective is finite at no weights" in result.message


def test_a_conic_solver_that_is_not_there_is_named():
    with pytest.raises(mx.InputError, match=r"no conic solver 'CLARABLE'.*did you mean 'CLARABEL'"):
        mx.solve(mx.minimize(NATURAL, over=W), solver=Conic(solver="CLARABLE"))


def test_options_reach_the_solver_and_a_limit_is_no_optimum():
    result = mx.solve(mx.minimize(NATURAL, over=W, subject_to=[W["web"] <= 0.5]), solver=Conic(options={"max_iter": 2}))
    assert result.status is mx.Status.BUDGET
    assert result.message == "CLARABEL: user_limit"
    assert result.check.gap > 1e-6, "the certificate does not take the solver's word"


def test_law_optima_on_real_runs():
    """The reference optima of methods/laws.md, section 1, found there by cvxpy on a fit of its own."""
    if not REGMIX.exists():
        pytest.skip("needs the RegMix runs of the shared folder")
    runs = mx.Runs.from_csv(REGMIX / "train_mixture_1m.csv", REGMIX / "train_pile_loss_1m.csv")
    law, w = mx.laws.Exponential.fit(runs), mx.Mixture(runs.domains)
    prior = json.loads((REGMIX / "pile_prior.json").read_text())["prior"]
    natural = np.array([next(v for n, v in prior.items() if n.endswith(name)) for name in runs.domains])
    natural /= natural.sum()
    average, kl = mx.mean(law(w)), 0.05 * mx.kl(w, natural)
    cases = {
        "average": (mx.minimize(average, over=w), 4.54221),
        "capped": (mx.minimize(average, over=w, subject_to=[(w <= 4 * natural).named("caps")]), 4.54844),
        "with KL": (mx.minimize(average + kl, over=w), 4.56250),
        "Pile-CC with KL": (mx.minimize(law["the_pile_pile_cc"](w) + kl, over=w), 5.26461),
        "worst": (mx.minimize(mx.max(law(w)), over=w), 5.27733),
    }
    found = {name: mx.solve(problem) for name, (problem, _) in cases.items()}
    assert all(result.status is mx.Status.OPTIMAL for result in found.values())
    assert {n: r.value for n, r in found.items()} == pytest.approx({n: v for n, (_, v) in cases.items()}, abs=2e-5)
    assert {n: r.check.gap for n, r in found.items()} == pytest.approx(dict.fromkeys(cases, 0.0), abs=1e-5)
    assert found["Pile-CC with KL"].vector.max() == pytest.approx(0.558, abs=1e-3)


def test_a_number_over_what_is_never_negative_is_convex_and_solved_to_optimality():
    """min sum_i c_i / w_i on the simplex: w_i proportional to sqrt(c_i), value (sum_i sqrt(c_i))^2."""
    w, c = mx.Mixture(["a", "b", "c"]), np.array([1.0, 4.0, 9.0])
    result = mx.solve(mx.minimize(mx.sum(c / w), over=w), solver=Conic())
    assert result.status is mx.Status.OPTIMAL
    np.testing.assert_allclose(result.vector, np.sqrt(c) / 6, atol=1e-5)
    assert result.value == pytest.approx(36, abs=1e-5)
    p = mx.parameter("p", nonneg=True)
    ready = mx.plan(mx.minimize(p / (w["a"] + 0.1) + mx.sum_squares(w), over=w))
    assert [ready.run(given={"p": x}).status.name for x in (0.0, 0.5)] == ["OPTIMAL", "OPTIMAL"]
