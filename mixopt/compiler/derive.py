"""Derivations of the three forms: stationarity, best response, hypergradient and mirror updates, in sympy with explicit derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mixopt.errors import ProblemError
from mixopt.forms import Bilevel, Program, Saddle
from mixopt.language.curvature import curvature
from mixopt.language.expression import Expr, Relation
from mixopt.language.latex import letter, upright
from mixopt.language.problem import Problem, problem_in
from mixopt.language.symbolic import Names, exact, symbolic

from .classify import classify
from .derivation import Derivation, Step
from .rewrites import rewritten

if TYPE_CHECKING:
    from mixopt.method import Method
from .value_form import value_form

LONGEST = 20_000
"""The most terms that all derivatives may have together."""


def derive(problem: Problem | Method) -> Derivation:
    """What follows from a problem by calculus, with every derivative written out, as sympy objects and a short text.

    Of a program: the gradient, the Lagrangian, its stationarity and complementarity conditions (Karush, Kuhn and Tucker), and the
    mirror (exponentiated-gradient) update of the weights (Kivinen and Warmuth 1997). Of a saddle: the best response of the weights,
    the mirror ascent and the model's gradient (survey, Eq. 1). Of a bilevel problem: the hypergradient by the implicit function
    theorem (survey, Eq. 2), with the Hessian and the cross terms as matrices, the value-function form with its first-order
    hypergradient (Kwon et al. 2023), and the mirror update. A model stands as one symbol;
    derivatives by it are gradients, and are exact as they stand for a model of one parameter.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> law = mx.formula("2 + exp(-[1, 3] @ w)", w=w)
    >>> found = mx.derive(mx.minimize(law, over=w))
    >>> found["gradient"][1]
    Eq(df/dw[code], -3*exp(-3*w[code] - w[web]))
    >>> found["mirror update"][1]
    Eq(w[code]^+, w[code]*exp(3*eta*exp(-3*w[code] - w[web]))/Z)

    Raises:
        ProblemError: the problem is none of the three forms, or has more entries than can be written out one by one.
    """
    plain = rewritten(problem_in(problem))
    form = classify(plain.problem)
    names = Names()
    if isinstance(form, Program):
        steps = _program(form, names)
    elif isinstance(form, Saddle):
        steps = _saddle(form, names)
    elif form.steps:
        raise ProblemError(
            f"'{form.trained}' is where {form.steps} training steps lead, and a derivation is of an argmin; write argmin(...)"
        )
    else:
        steps = _bilevel(form, names)
    sense = "; maximising is minimising the negative" if form.maximised else ""
    way = "".join(f"; {step}" for step in plain.steps)
    return Derivation(f"{type(form).__name__}{way}{sense}", tuple(steps), names.latex)


def _program(form: Program, names: Names) -> list[Step]:
    value = symbolic(form.objective, names)
    unknowns = (form.mixture, *form.others)
    slopes = _slopes(value, unknowns, names)
    steps = [Step("objective", "the function f to be minimised", (value,)), _gradient(slopes, unknowns, names)]
    steps += _conditions(value, slopes, unknowns, form.constraints, names)
    mixtures = [u for u in unknowns if u.op == "mixture"]
    if len(mixtures) == len(unknowns):
        steps.append(_moved("f", slopes, mixtures, names, -1))
    return steps


def _saddle(form: Saddle, names: Names) -> list[Step]:
    import sympy

    payoff, descent = symbolic(form.payoff, names), symbolic(form.descent, names)
    weights, theta = _entries([form.mixture], names), names.leaf(form.theta)
    gains = _slopes(payoff, (form.mixture,), names)
    steps = [Step("payoff", "the weights ascend it", (payoff,)), _gradient(gains, (form.mixture,), names)]
    if curvature(form.payoff) == "affine" and not form.constraints:
        best = names.symbol("max f", r"\max_{w \in \Delta} f")
        rest = payoff - sympy.Add(*(s * g for s, g in zip(weights, gains, strict=True)))
        words = "f is linear in the weights, so all weight goes where its derivative is largest"
        steps.append(Step("best response", words, (sympy.Eq(best, sympy.Max(*gains) + sympy.expand(rest), evaluate=False),)))
    else:
        inner = _conditions(-payoff, [-g for g in gains], (form.mixture,), form.constraints, names)
        steps += [Step(f"best response, {s.name}", f"of the weights, which minimise -f: {s.words}", s.formulas) for s in inner]
    steps.append(_moved("f", gains, [form.mixture], names, 1))
    words = "the model descends the gradient of f" if form.payoff == form.descent else "the model descends the gradient of its own view"
    steps.append(Step("model gradient", words, (sympy.Eq(_partial("f", theta, names), sympy.diff(descent, theta), evaluate=False),)))
    return steps


def _bilevel(form: Bilevel, names: Names) -> list[Step]:
    import sympy
    from sympy.matrices.expressions.dotproduct import DotProduct

    upper, lower = symbolic(form.upper, names), symbolic(form.lower, names)
    theta, trained = names.leaf(form.theta), names.leaf(form.trained)
    weights, labels = _entries([form.mixture], names), form.mixture.index or ()
    _writable((upper, lower), len(weights))
    slope, at = sympy.diff(lower, theta), {theta: trained}
    crosses = [sympy.diff(slope, s).subs(at) for s in weights]
    hessian, pull = sympy.diff(slope, theta).subs(at), sympy.diff(upper, trained)
    direct = [sympy.diff(upper, s) for s in weights]
    n = names.symbol("n", "n", integer=True, positive=True)
    H, v, q = sympy.MatrixSymbol("H", n, n), sympy.MatrixSymbol("v", n, 1), sympy.MatrixSymbol("q", n, 1)
    c = [_column(f"c[{label}]", rf"c_{{{upright(label)}}}", n, names) for label in labels]
    d = [
        _column(f"dtheta*/dw[{label}]", _partial_latex(str(names.latex[trained]), names.latex[s]), n, names)
        for label, s in zip(labels, weights, strict=True)
    ]
    partials = [_partial("F", s, names) for s in weights]
    passed = [DotProduct(ci, q) for ci in c]
    return [
        Step("upper objective", "F, what the weights minimise, at the trained model", (upper,)),
        Step("lower objective", "what the model minimises at fixed weights", (lower,)),
        Step("lower stationarity", "the trained model solves", (sympy.Eq(slope.subs(at), 0, evaluate=False),)),
        Step("Hessian", "H, the second derivative of the lower objective", (hessian,)),
        Step("cross terms", "c, how the lower gradient moves with each weight", tuple(crosses)),
        Step("upper gradient", "v, the gradient of F in the trained model", (pull,)),
        Step("direct terms", "how F moves with each weight at a fixed model", tuple(direct)),
        Step(
            "implicit function theorem",
            "the lower stationarity holds at all weights, so its derivative by each weight is zero",
            tuple(sympy.Eq(H * di, -ci, evaluate=False) for di, ci in zip(d, c, strict=True)),
        ),
        Step("adjoint", "one linear solve serves all weights", (sympy.Eq(H * q, v, evaluate=False),)),
        Step(
            "hypergradient",
            "the direct term, and what the model passes on",
            tuple(sympy.Eq(p, own - part, evaluate=False) for p, own, part in zip(partials, direct, passed, strict=True)),
        ),
        Step(
            "hypergradient of one parameter",
            "the same for a model of one parameter, where H is a number",
            tuple(sympy.Eq(p, own - x * pull / hessian, evaluate=False) for p, own, x in zip(partials, direct, crosses, strict=True)),
        ),
        *_value_function(form, weights, partials, names),
        _moved("F", partials, [form.mixture], names, -1),
    ]


def _value_function(form: Bilevel, weights: Sequence[Any], partials: Sequence[Any], names: Names) -> list[Step]:
    """The value-function form, constrained and penalised, and the first-order hypergradient that follows from it."""
    import sympy

    stated = value_form(form)
    upper, lower, least = (symbolic(part, names) for part in (stated.upper, stated.lower, stated.least))
    penalty = symbolic(stated.penalty, names)
    slopes = [sympy.diff(upper, s) + penalty * (sympy.diff(lower, s) - sympy.diff(least, s)) for s in weights]
    gap = "the lower objective of a free model is no more than its least value, which the trained one has"
    limit = "by the envelope theorem, at the model that minimises the penalised form; exact as lambda grows, with an error O(1/lambda)"
    return [
        Step("value-function form", gap, (upper, sympy.Le(lower - least, 0, evaluate=False))),
        Step("penalised form", "the gap, never negative, times a penalty", (upper + penalty * (lower - least),)),
        Step(
            "first-order hypergradient",
            limit,
            tuple(sympy.Eq(p, g, evaluate=False) for p, g in zip(partials, slopes, strict=True)),
        ),
    ]


def _conditions(value: Any, slopes: Sequence[Any], unknowns: Sequence[Expr], constraints: Sequence[Relation], names: Names) -> list[Step]:
    """The Lagrangian of min f, and the conditions of Karush, Kuhn and Tucker, every one of which holds at an optimum with multipliers."""
    import sympy

    gaps = [(relation, np.atleast_1d(symbolic(relation.gap, names))) for relation in constraints]
    held: list[tuple[Any, Any]] = []
    free: list[tuple[Any, Any]] = []
    for relation, gap in gaps:
        for entry, label in zip(gap, _labels(relation, len(gap)), strict=True):
            signs = {} if relation.sense == "==" else {"nonnegative": True}
            multiplier = names.symbol(f"mu[{label}]", rf"\mu_{{{upright(label)}}}", **signs)
            (free if relation.sense == "==" else held).append((multiplier, entry))
    for symbol, bound in _bounds(unknowns, names):
        label = f"bound of {symbol}"
        held.append((names.symbol(f"mu[{label} {len(held)}]", rf"\mu_{{{len(held) + 1}}}", nonnegative=True), bound))
    sums = []
    for mixture in (u for u in unknowns if u.op == "mixture"):
        entries = _entries([mixture], names)
        nu = names.symbol(f"nu[{mixture}]", rf"\nu_{{{letter(mixture.data[0])}}}")
        sums.append((nu, sympy.Add(*entries) - 1))
        held += [(names.symbol(f"lambda[{s}]", rf"\lambda_{{{names.latex[s]}}}", nonnegative=True), -s) for s in entries]
    _writable([gap for _, gap in (*held, *free)], len(slopes))
    added = sympy.Add(*(m * g for m, g in (*held, *free, *sums)))
    entries = _entries(unknowns, names)
    stationary = tuple(sympy.Eq(g + sympy.diff(added, s), 0, evaluate=False) for g, s in zip(slopes, entries, strict=True))
    slack = tuple(sympy.Eq(m * g, 0, evaluate=False) for m, g in held)
    equal = tuple(sympy.Eq(g, 0, evaluate=False) for _, g in (*free, *sums))
    return [
        Step(
            "Lagrangian", "a multiplier for each constraint; mu and lambda are not negative, those of equalities are free", (value + added,)
        ),
        Step("stationarity", "its derivatives in the unknowns are zero", stationary),
        Step("complementarity", "a multiplier is zero where its inequality is slack", slack),
        Step("equalities", "the weights sum to one, and what else is equal", equal),
    ]


def _labels(relation: Relation, size: int) -> Sequence[str]:
    """A label for each entry of a constraint."""
    if relation.gap.shape == ():
        return [relation.label]
    return [f"{relation.label}, {name}" for name in relation.gap.index or map(str, range(size))]


def _bounds(unknowns: Sequence[Expr], names: Names) -> list[tuple[Any, Any]]:
    """The finite bounds of auxiliary variables, each as the entry and an expression that is <= 0."""
    found = []
    for variable in (u for u in unknowns if u.op == "variable"):
        for symbol, low, high in zip(_entries([variable], names), *variable.data[1:], strict=True):
            found += [(symbol, exact(low) - symbol)] if math.isfinite(low) else []
            found += [(symbol, symbol - exact(high))] if math.isfinite(high) else []
    return found


def _slopes(value: Any, unknowns: Sequence[Expr], names: Names) -> list[Any]:
    """The derivatives by each entry of the unknowns."""
    import sympy

    entries = _entries(unknowns, names)
    _writable([value], len(entries))
    return [sympy.diff(value, s) for s in entries]


def _writable(values: Sequence[Any], entries: int) -> None:
    """Refuse what would fill a book: each entry's derivative is about as long as the expressions themselves."""
    import sympy

    parts = chain.from_iterable(sympy.preorder_traversal(v) for v in values)
    most = LONGEST // max(entries, 1)
    if sum(1 for _ in islice(parts, most + 1)) > most:
        raise ProblemError(
            f"the derivatives by {entries} entries would have more than {LONGEST} terms, and a derivation writes each of them out; "
            "derive the problem over fewer domains, targets or constraints"
        )


def _gradient(slopes: Sequence[Any], unknowns: Sequence[Expr], names: Names) -> Step:
    import sympy

    entries = _entries(unknowns, names)
    partials = tuple(sympy.Eq(_partial("f", s, names), g, evaluate=False) for s, g in zip(entries, slopes, strict=True))
    return Step("gradient", "the partial derivatives of f, each entry free", partials)


def _moved(of: str, slopes: Sequence[Any], mixtures: Sequence[Expr], names: Names, sign: int) -> Step:
    """The exponentiated-gradient step of the weights at the rate eta, down (-1) or up (1) the slopes."""
    import sympy

    eta, rows, at = names.symbol("eta", r"\eta", positive=True), [], 0
    for mixture in mixtures:
        entries = _entries([mixture], names)
        Z = names.symbol("Z" if len(mixtures) == 1 else f"Z[{mixture}]", rf"Z_{{{letter(mixture.data[0])}}}", positive=True)
        scaled = [s * sympy.exp(sign * eta * g) for s, g in zip(entries, slopes[at : at + len(entries)], strict=True)]
        short = [s * sympy.exp(sign * eta * _partial(of, s, names)) for s in entries]
        new = [names.symbol(f"{s}^+", rf"{names.latex[s]}^{{+}}", positive=True) for s in entries]
        rows += [sympy.Eq(n, each / Z, evaluate=False) for n, each in zip(new, scaled, strict=True)]
        rows.append(sympy.Eq(Z, sympy.Add(*short), evaluate=False))
        at += len(entries)
    way = "ascent" if sign > 0 else "descent"
    return Step("mirror update", f"one step of exponentiated-gradient {way} at the rate eta; Z makes the weights sum to one", tuple(rows))


def _partial(of: str, by: Any, names: Names) -> Any:
    """A symbol for a partial derivative."""
    return names.symbol(f"d{of}/d{by}", _partial_latex(of, names.latex[by]))


def _partial_latex(of: str, by: str) -> str:
    return rf"\frac{{\partial {of}}}{{\partial {by}}}"


def _column(name: str, latex: str, rows: Any, names: Names) -> Any:
    """A column vector as a matrix symbol with its own LaTeX."""
    import sympy

    made = sympy.MatrixSymbol(name, rows, 1)
    names.latex[made] = latex
    return made


def _entries(unknowns: Sequence[Expr], names: Names) -> list[Any]:
    """The symbols of all entries."""
    return [s for u in unknowns for s in np.atleast_1d(np.asarray(names.leaf(u), dtype=object))]
