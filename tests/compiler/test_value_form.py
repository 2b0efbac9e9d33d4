"""The value-function form: how it is stated and printed, and its derivation against the solver."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.compiler.value_form import value_form

sympy = pytest.importorskip("sympy")
torch = pytest.importorskip("torch")

DOMAINS = mx.Domains(["web", "code"])
W, THETA = mx.Mixture(DOMAINS), mx.model()
LOWER = W @ mx.losses(THETA, DOMAINS) + 0.5 * mx.sum_squares(THETA)
TRAINED = mx.argmin(LOWER, over=THETA)
PROBLEM = mx.minimize(mx.loss(TRAINED, "val") + mx.entropy(W), over=W, subject_to=[(W["web"] <= 0.6).named("cap")])


def stated(problem=PROBLEM, penalty=None):
    return value_form(mx.plan(problem).form, penalty)


def test_it_reads_as_the_constrained_problem_and_the_penalised_one():
    assert str(stated()) == (
        "minimize over w, theta\n"
        "  loss(theta, 'val') + entropy(w)\n"
        "  where theta* = argmin over theta of w @ losses(theta, 'train') + 0.5*sum_squares(theta)\n"
        "  subject to w[web] <= 0.6   (cap)\n"
        "             w @ losses(theta, 'train') + 0.5*sum_squares(theta)"
        " - (w @ losses(theta*, 'train') + 0.5*sum_squares(theta*)) <= 0   (value gap)\n"
        "penalised\n"
        "minimize over w, theta\n"
        "  loss(theta, 'val') + entropy(w) + lambda*(w @ losses(theta, 'train') + 0.5*sum_squares(theta)"
        " - (w @ losses(theta*, 'train') + 0.5*sum_squares(theta*)))\n"
        "  where theta* = argmin over theta of w @ losses(theta, 'train') + 0.5*sum_squares(theta)\n"
        "  subject to w[web] <= 0.6   (cap)"
    )


def test_its_latex_has_both_statements_and_the_lower_level():
    text = stated(penalty=100).latex()
    assert text.startswith("\\begin{gathered}\n\\begin{split}\n\\min\\limits_{w \\in \\Delta, \\theta}")
    assert r"\theta^{\star}(w) = \underset{\theta}{\text{arg min}}\ w^{\top} \ell_{\text{train}}(\theta)" in text
    assert r"\le 0\quad \text{(value gap)}" in text
    assert r"+ 100 \cdot (w^{\top} \ell_{\text{train}}(\theta)" in text
    assert r"\lambda \cdot (w^{\top}" in stated().latex()
    assert stated()._repr_latex_() == f"$$\n{stated().latex()}\n$$"


def test_the_unknowns_are_the_user_s_own_and_the_gap_is_zero_at_the_trained_model():
    found = stated()
    assert (found.mixture, found.theta, found.trained) == (W, THETA, TRAINED)
    assert found.penalised.over == (W, THETA)
    assert found.lower == LOWER
    assert str(found.least) == str(found.lower).replace("theta", "theta*")


def test_a_maximised_problem_is_stated_as_it_is_minimised_and_a_taken_name_is_left():
    price = mx.parameter("lambda")
    found = stated(mx.maximize(price * mx.sum(W) - mx.loss(TRAINED, "val"), over=W))
    assert found.upper.op == "negate"
    assert str(found.penalty) == "lambda'"


def test_the_derived_first_order_hypergradient_is_the_solver_s():
    """One parameter, losses (x - c)^2 / 2 and (x - 2)^2 / 2: each model is known, and the formula is filled with them."""
    found = mx.derive(PROBLEM)
    assert [str(f) for f in found["value-function form"]][1].endswith("<= 0")
    x, centres = sympy.Symbol("x"), {"web": 0, "code": 3}
    functions = {f"ell_{d}": (x - c) ** 2 / 2 for d, c in centres.items()} | {"L_val": (x - 2) ** 2 / 2}
    w, penalty = np.array([0.3, 0.7]), 40.0
    y = 3 * w[1] / 2
    known = {found.symbols["theta*"]: y, found.symbols["theta"]: (2 * penalty * y + 2) / (2 * penalty + 1)}
    known |= {found.symbols["lambda"]: penalty, **{found.symbols[f"w[{d}]"]: share for d, share in zip(DOMAINS, w, strict=True)}}
    values = []
    for equation in found["first-order hypergradient"]:
        formula = equation.rhs
        for applied in formula.atoms(sympy.core.function.AppliedUndef):
            assert applied.func.__name__ in functions
            formula = formula.subs(applied, functions[applied.func.__name__].subs(x, applied.args[0]))
        values.append(float(formula.subs(known)))
    points = torch.tensor([0.0, 3.0], dtype=torch.float64)
    learner = mx.FunctionLearner(
        torch.zeros(1, dtype=torch.float64), {"train": lambda p: (p - points) ** 2 / 2, "val": lambda p: ((p - 2) ** 2).sum() / 2}
    )
    solver = mx.solvers.ValueFunction(penalty=penalty, differences="one-sided")
    assert values == pytest.approx(mx.hypergradient(PROBLEM, learner, at=w, solver=solver), rel=1e-9)
