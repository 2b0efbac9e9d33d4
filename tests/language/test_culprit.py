"""Culprits: the innermost part at fault, why in a sentence, and what to write instead; one row for each kind of fault."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.solvers import Conic

W, P = mx.Mixture(["web", "code"]), mx.parameter("p")
A = np.array([[1.0, 2.0], [3.0, -4.0]])
E = mx.exp(W)

FAULTS = [
    (E - E * 2, "exp(w) - exp(w)*2", "it subtracts the convex 'exp(w)*2' from the convex 'exp(w)'"),
    (mx.exp(mx.log(W) + E), "log(w) + exp(w)", "it adds the concave 'log(w)' and the convex 'exp(w)'"),
    (
        mx.stack([mx.log(W[0]), E[1]]),
        "stack(log(w[web]), exp(w)[code])",
        "stack joins the concave 'log(w[web])' and the convex 'exp(w)[code]'",
    ),
    (W @ W, "w @ w", "it multiplies 'w' and 'w', which both depend on the weights; write sum_squares(w)"),
    (0 * (W * W), "w*w", "it multiplies 'w' and 'w', which both depend on the weights; write square(w)"),
    (
        W @ (A @ W),
        "w @ (<2x2 numbers> @ w)",
        "it multiplies 'w' and '<2x2 numbers> @ w', which both depend on the weights; "
        "where the matrix is positive semidefinite, write quad_form(w, matrix)",
    ),
    (
        P * E + 1,
        "p*exp(w)",
        "'p' may have either sign, and 'exp(w)', which it multiplies, is convex; "
        "if 'p' is never negative, write parameter('p', nonneg=True)",
    ),
    (mx.log(P) * E, "log(p)*exp(w)", "'log(p)' may have either sign, and 'exp(w)', which it multiplies, is convex"),
    (
        mx.exp(mx.parameter("c", 2) * 2 @ E),
        "c*2 @ exp(w)",
        "'c*2' may have either sign, and 'exp(w)', which it multiplies, is convex; "
        "if 'c' is never negative, write parameter('c', 2, nonneg=True)",
    ),
    (A @ E, "<2x2 numbers> @ exp(w)", "'<2x2 numbers>' has entries of both signs, and 'exp(w)', which it multiplies, is convex"),
    (
        1 / (W - 0.5),
        "1/(w - 0.5)",
        "it divides by 'w - 0.5', which depends on the weights; where it is > 0, power(w - 0.5, -1) is convex",
    ),
    (W / E, "w/exp(w)", "it divides by 'exp(w)', which depends on the weights"),
    (
        E / P,
        "exp(w)/p",
        "'p' may have either sign, and 'exp(w)', which it divides, is convex; if 'p' is never negative, write parameter('p', nonneg=True)",
    ),
    (
        (W - 0.5) ** 3,
        "power(w - 0.5, 3)",
        "a power 3 is convex for x >= 0 and concave for x <= 0, and 'w - 0.5' may have either sign; "
        "write power(pos(w - 0.5), 3), or power(abs(w - 0.5), 3)",
    ),
    (
        (W - 0.5) ** 1.5,
        "power(w - 0.5, 1.5)",
        "a power 1.5 has values for x >= 0 only, and 'w - 0.5' may be negative; "
        "write power(pos(w - 0.5), 1.5), or power(abs(w - 0.5), 1.5)",
    ),
    (mx.sqrt(E), "sqrt(exp(w))", "sqrt is concave and rising in 'exp(w)', which must be concave, and is convex"),
    (
        mx.log(mx.mean(E)) / 3,
        "log(mean(exp(w)))",
        "log is concave and rising in 'mean(exp(w))', which must be concave, and is convex; the whole is convex as logsumexp(w) - 0.693147",
    ),
    (
        mx.sqrt(mx.sum_squares(A @ W)),
        "sqrt(sum_squares(<2x2 numbers> @ w))",
        "sqrt is concave and rising in 'sum_squares(<2x2 numbers> @ w)', which must be concave, and is convex; "
        "the whole is convex as norm(<2x2 numbers> @ w)",
    ),
    (
        mx.sqrt(mx.quad_form(W, np.eye(2))),
        "sqrt(quad_form(w, <2x2 numbers>))",
        "sqrt is concave and rising in 'quad_form(w, <2x2 numbers>)', which must be concave, and is convex; "
        "the whole is convex as norm(L.T @ w), where L @ L.T is the matrix",
    ),
    (E**-1, "power(exp(w), -1)", "power is convex and falling in 'exp(w)', which must be concave, and is convex"),
    (
        mx.max(mx.log(W) ** 4),
        "power(log(w), 4)",
        "power is convex, but 'log(w)' may have either sign, so it must be affine, and is concave",
    ),
    (
        mx.clip(W, 0, 1),
        "clip(w, 0, 1)",
        "clip is neither convex nor concave; one bound alone, by maximum or minimum, is convex or concave",
    ),
    (mx.square(mx.log(W)), "square(log(w))", "square is convex, but 'log(w)' may have either sign, so it must be affine, and is concave"),
    (mx.square(mx.minimum(-W, 0.0) - E), None, None),
    (mx.entropy(E), "entropy(exp(w))", "entropy is concave in 'exp(w)', which must be affine, and is convex"),
    (mx.kl(W, E), "kl(w, exp(w))", "kl is convex and falling in 'exp(w)', which must be concave, and is convex"),
    (mx.exp(W[0]), None, None),
]


@pytest.mark.parametrize(("expr", "node", "reason"), FAULTS, ids=lambda part: str(part) if isinstance(part, mx.Expr) else "")
def test_the_innermost_part_that_breaks_the_rules_and_why(expr, node, reason):
    found = mx.culprit(expr)
    assert (None if found is None else str(found.node)) == node
    assert (None if found is None else found.reason) == reason
    assert (found is None) == (mx.curvature(expr) != "unknown")


@pytest.mark.parametrize("name", ["p", "c"])
def test_a_mend_that_names_a_parameter_works(name):
    """What the sentence proposes does make the expression convex."""
    size = None if name == "p" else 2

    def of(nonneg):
        return mx.sum(mx.parameter(name, size, nonneg) * E)

    assert f"parameter({name!r}{', 2' if size else ''}, nonneg=True)" in mx.culprit(of(False)).mend
    assert mx.curvature(of(True)) == "convex"


def test_a_refusal_tells_the_part_the_reason_and_who_would_take_it():
    problem = mx.minimize(mx.kl(W, [0.5, 0.5]) + (W[0] - 0.5) ** 3, over=W)
    with pytest.raises(mx.RefusalError) as refusal:
        mx.solve(problem, solver=Conic())
    assert str(refusal.value) == (
        "Conic refuses this program: 'kl(w, [0.5, 0.5]) + power(w[web] - 0.5, 3)' is neither convex nor concave by the rules, at "
        "'power(w[web] - 0.5, 3)': a power 3 is convex for x >= 0 and concave for x <= 0, and 'w[web] - 0.5' may have either sign; "
        "write power(pos(w[web] - 0.5), 3), or power(abs(w[web] - 0.5), 3)\n  Projected() would take it"
    )


def test_a_constraint_at_fault_tells_its_part_too():
    problem = mx.minimize(mx.sum_squares(W), over=W, subject_to=[(W[0] * W[1] >= 0.1).named("both")])
    reasons = Conic().refuses(mx.plan(problem).form, None)
    assert reasons == (
        "constraint 'both' is neither convex nor concave by the rules where it must be convex (left - right <= 0), at 'w[web]*w[code]': "
        "it multiplies 'w[web]' and 'w[code]', which both depend on the weights",
    )
