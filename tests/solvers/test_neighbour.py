"""Programs as cvxpy problems: names, parameters, the same answers and duals, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx

cp = pytest.importorskip("cvxpy")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])
W, THETA = mx.Mixture(DOMAINS), mx.model()
CAP = (W["web"] <= 0.5).named("web cap")


def test_the_answer_and_the_duals_are_the_same():
    problem = mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[CAP, (W >= 0.1).named("floor")])
    found, result = mx.to_cvxpy(problem), mx.solve(problem)
    assert found.solve(solver="CLARABEL") == pytest.approx(result.value, abs=1e-6)
    np.testing.assert_allclose(found.var_dict["w"].value, result.vector, atol=1e-4)
    assert [c.label for c in found.constraints[:2]] == ["web cap", "floor"]
    assert float(found.constraints[0].dual_value) == pytest.approx(result.duals["web cap"], abs=1e-3)
    np.testing.assert_allclose(found.constraints[1].dual_value, list(result.duals["floor"].values()), atol=1e-3)


def test_a_maximised_problem_keeps_its_sense():
    found = mx.to_cvxpy(mx.maximize(mx.entropy(W), over=W, subject_to=[CAP]))
    assert isinstance(found.objective, cp.Maximize)
    assert found.solve(solver="CLARABEL") == pytest.approx(np.log(3), abs=1e-6)


def test_parameters_stay_open_or_get_their_numbers():
    problem = mx.minimize(W @ mx.parameter("cost", 3) + mx.sum_squares(W), over=W)
    opened = mx.to_cvxpy(problem)
    opened.param_dict["cost"].value = np.array([1.0, 0.0, 2.0])
    fixed = mx.to_cvxpy(problem, given={"cost": [1.0, 0.0, 2.0]})
    assert fixed.param_dict == {}
    assert opened.solve(solver="CLARABEL") == pytest.approx(fixed.solve(solver="CLARABEL"), abs=1e-7)
    with pytest.raises(mx.InputError, match=r"lacks \(cost\)"):
        mx.to_cvxpy(problem, given={})


def test_auxiliary_variables_and_stages_keep_their_names():
    t = mx.variable("t", lower=0.0)
    found = mx.to_cvxpy(mx.minimize(t, over=(W, t), subject_to=[(t >= W).named("epigraph")]))
    assert set(found.var_dict) == {"w", "t"}
    assert found.solve(solver="CLARABEL") == pytest.approx(1 / 3, abs=1e-6)
    staged = mx.Mixture(DOMAINS, name="c", stages=2)
    assert set(mx.to_cvxpy(mx.minimize(mx.norm(staged[0] - staged[1]), over=staged)).var_dict) == {"c[0]", "c[1]"}


def test_an_inner_maximum_is_rewritten_first():
    u = mx.Mixture(["a", "b"], name="u")
    law = mx.constant([2.0, 1.0]) + mx.exp(mx.constant([[-1.0, 0.5, 0.2], [0.3, -2.0, 0.1]]) @ W)
    problem = mx.minimize(mx.maximize(u @ law, over=u), over=W)
    assert mx.to_cvxpy(problem).solve(solver="CLARABEL") == pytest.approx(mx.solve(problem).value, abs=1e-6)


def test_whether_it_is_convex_is_for_cvxpy_to_say():
    assert not mx.to_cvxpy(mx.minimize(mx.entropy(W), over=W)).is_dcp()


def test_what_trains_a_model_is_refused():
    game = mx.minimize(mx.maximize(W @ mx.losses(THETA, DOMAINS), over=W), over=THETA)
    with pytest.raises(mx.RefusalError) as error:
        mx.to_cvxpy(game)
    assert str(error.value) == "cvxpy takes programs, and this is a saddle: its losses are known only by training a model"
    with pytest.raises(mx.ProblemError, match="is no convex expression"):
        mx.to_cvxpy(mx.minimize(mx.sum_squares(W), over=W, subject_to=[mx.cardinality(W, 2)]))


def test_a_method_goes_over_as_its_problem():
    w = mx.Mixture(["web", "code"])
    method = mx.Method(mx.minimize(mx.sum_squares(w - np.array([1.0, 0.0])), over=w), mx.solvers.Conic())
    found = mx.to_cvxpy(method)
    assert found.solve(solver="CLARABEL") == pytest.approx(0.0, abs=1e-7)
