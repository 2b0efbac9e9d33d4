"""Derivations: every derivative against the numeric gradients, hypergradients against the engine, and how they read."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

import mixopt as mx
from mixopt.language.ops import ATOMS
from mixopt.language.symbolic import COUNTS, Names, exact, symbolic, sympy_table
from mixopt.runtime.program import Function

torch = pytest.importorskip("torch")

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[16, 3, 1])
W, THETA = mx.Mixture(DOMAINS), mx.model()
P, S = mx.parameter("p", 3, nonneg=True), mx.parameter("s")
GIVEN = {"p": np.array([0.4, 1.5, 0.9]), "s": np.array(0.7)}
A = np.random.default_rng(0).normal(size=(4, 3))
POSITIVE = W + 0.5
EXAMPLES = {
    "add": W + P,
    "subtract": S - W,
    "negate": -W,
    "multiply": S * W,
    "multiply entries": W * P * W,
    "divide": W / POSITIVE,
    "matmul": mx.constant(A) @ W,
    "matmul of vectors": (W @ P) * W,
    "take": W[["code", "books"]],
    "take one": W["web"] * W["code"],
    "stack": mx.stack([W["web"] * S, W]),
    "sum": mx.sum(W * W),
    "mean": mx.mean(W * W),
    "exp": mx.exp(W),
    "log": mx.log(POSITIVE),
    "sqrt": mx.sqrt(POSITIVE),
    "square": mx.square(W),
    "power": POSITIVE**1.7,
    "softplus": mx.softplus(W),
    "logsumexp": mx.logsumexp(W * P, 0.3),
    "huber": mx.huber(W, 0.3),
    "sum_squares": mx.sum_squares(W - 0.1),
    "norm": mx.norm(W),
    "norm 1": mx.norm(W - 0.3, 1),
    "norm 3": mx.norm(W, 3),
    "norm inf": mx.norm(W * P, np.inf),
    "abs": mx.abs(W - 0.3),
    "pos": mx.pos(W - 0.3),
    "clip": mx.clip(W, 0.15, 0.4),
    "max": mx.max(W * P),
    "min": mx.min(W * P),
    "tail": mx.tail(W * P, 0.5),
    "tail of whole entries": mx.tail(W * P, 2 / 3),
    "tail with weights": mx.tail(W * P, 0.4, [0.2, 0.5, 0.3]),
    "maximum": mx.maximum(W, P),
    "minimum": mx.minimum(W, 0.25),
    "entropy": mx.entropy(W),
    "kl": mx.kl(W, DOMAINS.natural),
    "rel_entropy": mx.rel_entropy(W, POSITIVE),
    "quad_form": mx.quad_form(W, A.T @ A),
    "surrogate": mx.surrogate(W * P, gradient=W),
}
POINTS = np.random.default_rng(1).dirichlet(np.ones(3), 4)


def numbers(derivation: mx.Derivation, formulas, w) -> np.ndarray:
    """The formulas at given weights, the parameters at their numbers."""
    values = [*zip([f"w[{d}]" for d in DOMAINS], w, strict=True), *_flat(GIVEN)]
    known = {derivation.symbols[name]: sympy.Float(float(value)) for name, value in values if name in derivation.symbols}
    return np.array([float(f.xreplace(known)) for f in formulas])


def _flat(given):
    for name, value in given.items():
        yield from [(name, value)] if value.ndim == 0 else [(f"{name}[{i}]", v) for i, v in enumerate(value)]


def test_every_atom_has_a_row():
    assert set(sympy_table(Names())) == set(ATOMS) - set(COUNTS)
    assert {e.op for e in EXAMPLES.values()} == set(ATOMS) - set(COUNTS) - {"domain_mean"}, "each atom has an example here, or is of losses"


@pytest.mark.parametrize("expr", EXAMPLES.values(), ids=EXAMPLES)
def test_derivatives_agree_with_the_numeric_gradient(expr):
    weighted = expr if expr.shape == () else np.linspace(0.5, 1.5, len(expr)) @ expr
    found = mx.derive(mx.minimize(weighted + 0 * mx.sum(W), over=W))
    function = Function(weighted, W, GIVEN)
    for w in POINTS:
        assert numbers(found, found["objective"], w)[0] == pytest.approx(function.value(w), rel=1e-10)
        slopes = numbers(found, [equation.rhs for equation in found["gradient"]], w)
        np.testing.assert_allclose(slopes, function.gradient(w), rtol=1e-9, atol=1e-11)


def test_the_mirror_update_is_the_step_by_hand():
    law = mx.constant([2.0, 3.0]) + mx.exp(mx.constant(A[:2]) @ W)
    objective = mx.mean(law) + 0.05 * mx.kl(W, DOMAINS.natural)
    found = mx.derive(mx.minimize(objective, over=W))
    w, eta = POINTS[0], 0.3
    g = Function(objective, W, {}).gradient(w)
    by_hand = w * np.exp(-eta * g) / (w * np.exp(-eta * g)).sum()
    *rows, norm = found["mirror update"]
    slopes = {found.symbols[f"df/dw[{d}]"]: g[i] for i, d in enumerate(DOMAINS)}
    known = {found.symbols["eta"]: eta, **{found.symbols[f"w[{d}]"]: w[i] for i, d in enumerate(DOMAINS)}}
    scale = norm.rhs.subs(slopes).subs(known)
    updated = [float(row.rhs.subs(known).subs(found.symbols["Z"], scale)) for row in rows]
    np.testing.assert_allclose(updated, by_hand, rtol=1e-12)


def test_a_solution_and_its_duals_satisfy_the_conditions():
    cap, share = (W["web"] <= 0.5).named("web cap"), mx.equal(W["code"], 0.3).named("code")
    problem = mx.minimize(mx.kl(W, DOMAINS.natural), over=W, subject_to=[cap, share])
    result, found = mx.solve(problem), mx.derive(problem)
    known = {found.symbols[f"w[{d}]"]: weight for d, weight in result.weights.items()}
    known |= {found.symbols["mu[web cap]"]: result.duals["web cap"], found.symbols["mu[code]"]: result.duals["code"]}
    known |= {found.symbols[f"lambda[w[{d}]]"]: 0.0 for d in DOMAINS}
    rests = [condition.lhs.subs(known) for condition in found["stationarity"]]
    nu = sympy.solve(rests[0], found.symbols["nu[w]"])[0]
    assert [abs(float(r.subs(found.symbols["nu[w]"], nu))) < 1e-5 for r in rests] == [True] * 3
    assert [abs(float(c.lhs.subs(known))) < 1e-5 for c in (*found["complementarity"], *found["equalities"])] == [True] * 6


def test_variables_and_their_bounds_are_in_the_conditions():
    t = mx.variable("t", lower=0.0)
    law = mx.constant([2.0, 3.0]) + mx.exp(mx.constant(A[:2]) @ W)
    found = mx.derive(mx.minimize(t, over=(W, t), subject_to=[(law <= t).named("epigraph")]))
    assert str(found["stationarity"][-1].lhs) == "-mu[bound of t 2] - mu[epigraph, 0] - mu[epigraph, 1] + 1"
    assert [step.name for step in found] == ["objective", "gradient", "Lagrangian", "stationarity", "complementarity", "equalities"]


def test_each_stage_has_its_own_update():
    staged = mx.Mixture(DOMAINS, name="c", stages=2)
    found = mx.derive(mx.minimize(mx.sum_squares(staged[0]) + staged[0] @ staged[1], over=staged))
    assert [str(row.lhs) for row in found["mirror update"]][3] == "Z[c[0]]"
    assert len(found["mirror update"]) == 8


def quadratic_learner():
    """A model of one parameter: losses (theta - best)^2 / 2."""
    start = torch.zeros(1, dtype=torch.float64)
    best, wanted = torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)
    return mx.FunctionLearner(start, {"train": lambda x: (x - best) ** 2 / 2 * (1 + best), "val": lambda x: (x - wanted) ** 2 / 2})


def test_the_hypergradient_agrees_with_the_engine():
    trained = mx.argmin(W @ mx.losses(THETA, DOMAINS) + 0.1 * mx.sum_squares(THETA), over=THETA)
    upper = mx.mean(mx.losses(trained, ["u", "v"], name="val")) + 0.01 * mx.kl(W, DOMAINS.natural)
    problem = mx.minimize(upper, over=W)
    found, w = mx.derive(problem), np.array([0.5, 0.3, 0.2])
    expected = mx.hypergradient(problem, quadratic_learner(), at=w)
    x = sympy.Symbol("x")
    best, wanted = {"web": 0, "code": 2, "books": 1}, {"u": sympy.Rational(3, 5), "v": sympy.Rational(3, 10)}
    functions = {f"ell_{d}": (x - b) ** 2 / 2 * (1 + b) for d, b in best.items()}
    functions |= {f"ell_val_{d}": (x - b) ** 2 / 2 for d, b in wanted.items()}
    (stationary,) = found["lower stationarity"]
    known = {found.symbols[f"w[{d}]"]: w[i] for i, d in enumerate(DOMAINS)}
    star = found.symbols["theta*"]
    at = sympy.solve(_filled(stationary.lhs, functions, x).subs(known), star)[0]
    values = [float(_filled(e.rhs, functions, x).subs(known).subs(star, at)) for e in found["hypergradient of one parameter"]]
    np.testing.assert_allclose(values, expected, rtol=1e-8)


def _filled(formula, functions, x):
    """The formula with its unknown functions at what they are."""
    for applied in formula.atoms(sympy.core.function.AppliedUndef):
        formula = formula.subs(applied, functions[applied.func.__name__].subs(x, applied.args[0]))
    return formula.doit()


def test_a_bilevel_derivation_names_hessian_and_cross_terms():
    trained = mx.argmin(W @ mx.losses(THETA, DOMAINS), over=THETA)
    found = mx.derive(mx.minimize(mx.loss(trained, "val"), over=W))
    assert str(found["cross terms"][0]) == "Derivative(ell_web(theta*), theta*)"
    assert str(found["adjoint"][0]) == "Eq(H*q, v)"
    assert str(found["hypergradient"][1]) == "Eq(dF/dw[code], -DotProduct(c[code], q))"


def test_a_saddle_with_two_views_and_its_best_response():
    excess = mx.losses(THETA, DOMAINS) - P
    payoff = W @ mx.surrogate(mx.pos(excess), gradient=excess)
    found = mx.derive(mx.minimize(mx.maximize(payoff, over=W), over=THETA))
    assert str(found["gradient"][0].rhs) == "Max(0, -p[0] + ell_web(theta))"
    assert "w[web]*Derivative(ell_web(theta), theta)" in str(found["model gradient"][0].rhs)
    assert str(found["best response"][0].lhs) == "max f"
    capped = mx.derive(mx.minimize(mx.maximize(payoff, over=W, subject_to=[W <= 0.5]), over=THETA))
    assert "mu[w <= 0.5, web]" in str(capped["best response, stationarity"][0])


def test_token_losses_are_averaged_over_their_domains():
    excess = mx.domain_mean(mx.pos(mx.tokens(THETA) - 1), DOMAINS)
    found = mx.derive(mx.minimize(mx.maximize(W @ excess, over=W), over=THETA))
    assert str(found["gradient"][0].rhs) == "mean_web(Max(0, token_train(theta) - 1))"


def test_domains_whose_names_differ_only_in_signs_stay_apart():
    losses = mx.losses(THETA, ["a/b", "ab", "a b"])
    values = symbolic(losses, Names())
    assert len(set(values)) == 3
    assert [str(v) for v in values] == ["ell_ab(theta)", "ell_ab_again1(theta)", "ell_ab_again2(theta)"]


def test_numbers_stay_exact_and_are_shown_short():
    assert str(exact(0.05)) == "1/20"
    assert float(exact(0.1234567890123)) == 0.1234567890123
    found = mx.derive(mx.minimize(mx.exp(W["web"] * 0.123456789), over=W))
    assert "0.1235" in str(found)
    assert "0.123456789" in str(found["objective"][0])


def test_it_reads_as_text_and_as_latex():
    found = mx.derive(mx.maximize(mx.entropy(W), over=W, subject_to=[(W["web"] <= 0.5).named("web cap")]))
    text = str(found)
    assert text.startswith("Program; maximising is minimising the negative\nobjective: the function f to be minimised\n    ")
    assert "    df/dw[web] = log(w[web]) + 1\n" in text
    assert "    mu[web cap]*(w[web] - 1/2) = 0\n" in text
    assert r"\frac{\partial f}{\partial w_{\text{web}}} = \log{\left(w_{\text{web}} \right)} + 1" in found.latex()
    assert found._repr_latex_() == f"$$\n{found.latex()}\n$$"
    with pytest.raises(mx.InputError, match=r"no step 'gradiant' in .*did you mean 'gradient'"):
        found["gradiant"]


def test_what_is_too_large_to_write_out_is_refused():
    many = mx.Mixture([f"d{i}" for i in range(100)])
    with pytest.raises(
        mx.ProblemError, match=r"has 100 entries, and a derivation writes each of them out; derive the problem over at most 60"
    ):
        mx.derive(mx.minimize(mx.sum_squares(many), over=many))
    some = mx.Mixture([f"d{i}" for i in range(20)])
    with pytest.raises(mx.ProblemError, match="by 20 entries would have more than 20000 terms"):
        mx.derive(mx.minimize(mx.sum(mx.exp(mx.constant(np.random.default_rng(0).normal(size=(50, 20))) @ some)), over=some))
    with pytest.raises(mx.ProblemError, match="has 6000 numbers, and a derivation writes each of them out; 5000 are the most"):
        mx.derive(mx.minimize(mx.sum(mx.constant(np.ones((300, 20))) @ some), over=some))
    with pytest.raises(mx.ProblemError, match="the largest of too many means to write out"):
        mx.derive(mx.minimize(mx.tail(some, 0.5), over=some))


def test_an_inner_maximum_is_rewritten_first():
    u, law = mx.Mixture(["a", "b"], name="u"), mx.constant([2.0, 1.0]) + mx.exp(mx.constant(A[:2]) @ W)
    found = mx.derive(mx.minimize(mx.maximize(u @ law + 0.1 * mx.entropy(u), over=u), over=W))
    assert found.title.startswith("Program; inner ")
    w = POINTS[0]
    expected = 0.1 * np.log(np.exp((np.array([2.0, 1.0]) + np.exp(A[:2] @ w)) / 0.1).sum())
    assert numbers(found, found["objective"], w)[0] == pytest.approx(expected, rel=1e-10)


def test_a_method_is_derived_as_its_problem():
    problem = mx.minimize(mx.sum_squares(W), over=W)
    assert mx.derive(mx.Method(problem, mx.solvers.Conic()))["gradient"] == mx.derive(problem)["gradient"]
