"""Curvature and sign by rules: known cases, and random expressions held against samples and against cvxpy's own rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, reject, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.language.curvature import curvature, sign, smooth
from mixopt.runtime.program import Function

cp = pytest.importorskip("cvxpy")
from mixopt.solvers.conic import conic_table  # noqa: E402

W = mx.Mixture(["a", "b", "c"])
A = np.array([[1.0, -2.0, 0.5], [0.0, 1.0, 3.0], [-1.0, 0.25, -0.5]])


@pytest.mark.parametrize(
    ("expr", "bend"),
    [
        (mx.constant([1.0, 2.0]), "constant"),
        (mx.parameter("p") * 2, "constant"),
        (W, "affine"),
        (A @ W - 1, "affine"),
        (W * mx.parameter("p", 3), "affine"),
        (W / mx.parameter("p"), "affine"),
        (mx.exp(A @ W), "convex"),
        (-mx.exp(A @ W), "concave"),
        (mx.log(W), "concave"),
        (mx.max(mx.exp(W)), "convex"),
        (mx.min(mx.log(W)), "concave"),
        (mx.max(mx.log(W)), "unknown"),
        (mx.square(W), "convex"),
        (mx.square(mx.exp(W)), "convex"),
        (mx.square(-mx.exp(W)), "convex"),
        (mx.square(mx.log(W)), "unknown"),
        (mx.square(mx.maximum(W, -1)), "convex"),
        (mx.parameter("p", nonneg=True) * mx.exp(W[0]), "convex"),
        (mx.parameter("p") * mx.exp(W[0]), "unknown"),
        (mx.exp(W[0]) / -2, "concave"),
        (1 / W, "convex"),
        (-2 / (W + 0.1), "concave"),
        (mx.parameter("p", nonneg=True) / mx.sqrt(W), "convex"),
        (mx.parameter("p") / W, "unknown"),
        (1 / mx.exp(W), "unknown"),
        (1 / (W - 0.5), "unknown"),
        (W @ W, "unknown"),
        (mx.exp(W[0]) - mx.exp(W[1]), "unknown"),
        (mx.entropy(W), "concave"),
        (mx.kl(W, [0.2, 0.3, 0.5]), "convex"),
        (mx.quad_form(A @ W, np.eye(3)), "convex"),
        (mx.clip(W[0], 0, 0.5), "unknown"),
        (mx.norm(mx.pos(A @ W), 1), "convex"),
        (mx.norm(A @ W, 3), "convex"),
        (mx.norm(mx.exp(W), 1.5), "convex"),
        (mx.sqrt(W), "concave"),
        (mx.sqrt(mx.exp(W)), "unknown"),
        (mx.power(W, 1.5), "convex"),
        (mx.power(W - 0.5, 1.5), "unknown"),
        (mx.power(mx.pos(W - 0.5), 1.5), "convex"),
        (mx.power(W - 0.5, 0.3), "concave"),
        (mx.power(mx.log(W), -2), "convex"),
        (mx.power(mx.exp(W), -2), "unknown"),
        ((W - 0.5) ** 4, "convex"),
        ((-mx.exp(W)) ** 4, "convex"),
        ((W - 0.5) ** 3, "unknown"),
        (W**3, "convex"),
        ((-W) ** 3, "concave"),
        (mx.exp(-W) ** 3, "convex"),
        (mx.softplus(mx.exp(W)), "convex"),
        (mx.logsumexp(A @ W, 0.1), "convex"),
        (mx.logsumexp(mx.log(W)), "unknown"),
        (mx.huber(A @ W, 0.1), "convex"),
        (mx.huber(mx.exp(W) + 1), "convex"),
        (mx.tail(mx.exp(A @ W), 0.4), "convex"),
        (-mx.tail(W, 0.4), "concave"),
        (mx.rel_entropy(W, A @ W), "convex"),
        (mx.rel_entropy(W, mx.log(1 + W)), "convex"),
        (mx.rel_entropy(0.5, mx.exp(W)), "unknown"),
        (mx.stack([W, mx.exp(W[0])]), "convex"),
        (mx.stack([mx.log(W[0]), mx.exp(W[0])]), "unknown"),
        (mx.parameter("p", nonneg=True) * mx.parameter("q", nonneg=True) * mx.exp(W), "convex"),
        (mx.exp(mx.parameter("p")) * mx.exp(W), "convex"),
        (-mx.sqrt(mx.parameter("p", 3, nonneg=True)) @ mx.exp(W), "concave"),
        (mx.log(mx.parameter("p", 3)) @ mx.exp(W), "unknown"),
    ],
    ids=str,
)
def test_known_curvatures(expr, bend):
    assert curvature(expr) == bend


def test_a_kink_is_one_of_the_weights_not_of_a_constant():
    assert smooth(mx.abs(mx.parameter("p")) * mx.exp(W[0])) is None
    assert smooth(mx.exp(mx.abs(W[0]))) == mx.abs(W[0])


def allowed(make, x, y):
    """The expression, unless it is refused for a constant without a value."""
    try:
        return make(x, y)
    except mx.ProblemError:
        return reject()


def combined(parts):
    """Larger expressions from smaller ones; vectors stay of length 3."""
    return st.one_of(
        st.builds(lambda x, op: op(x), parts, st.sampled_from([mx.exp, mx.square, mx.abs, mx.pos, lambda x: -x, mx.log])),
        st.builds(lambda x, op: op(x), parts, st.sampled_from([mx.sqrt, mx.softplus, mx.huber, lambda x: mx.huber(x, 0.1)])),
        st.builds(lambda x, p: allowed(mx.power, x, p), parts, st.sampled_from([-2, -0.5, 0.3, 1.5, 3, 4, 5, 6])),
        st.builds(lambda x, y: allowed(mx.rel_entropy, x, y), parts, parts),
        st.builds(lambda x, y: mx.stack([x[1], y[0:2]]), parts, parts),
        st.builds(
            lambda x, y, op: op(x, y), parts, parts, st.sampled_from([lambda x, y: x + y, lambda x, y: x - y, mx.maximum, mx.minimum])
        ),
        st.builds(lambda x, c: x * c, parts, st.sampled_from([-2.0, 0.5, 0.0, np.array([1.0, 0.0, 2.0]), np.array([-1.0, 1.0, 0.5])])),
        st.builds(lambda x, c: x / c, parts, st.sampled_from([-4.0, 2.0])),
        st.builds(lambda x: A @ x, parts),
        st.builds(
            lambda x, op: x * 0.5 + op(x),
            parts,
            st.sampled_from(
                [
                    *(mx.sum, mx.mean, mx.max, mx.min, mx.sum_squares, mx.norm, mx.logsumexp, lambda x: mx.logsumexp(x, 0.25)),
                    *(lambda x, p=p: mx.norm(x, p) for p in (1, 1.5, 3, np.inf)),
                    *(lambda x, s=s: mx.tail(x, s) for s in (0.2, 0.5, 0.6, 1.0)),
                ]
            ),
        ),
        st.builds(lambda x: x + mx.quad_form(x, A.T @ A), parts),
        st.builds(lambda x, op: x + op, parts, st.sampled_from([mx.entropy(W), mx.kl(W, [0.2, 0.3, 0.5]), mx.kl(0.5 * W + 0.1, W)])),
    )


LEAVES = st.sampled_from([W, A @ W, W - 0.25, 0.5 - W, -W, mx.constant([0.5, 1.0, 2.0]), mx.constant([-1.0, 0.0, 1.0])])
EXPRESSIONS = st.recursive(LEAVES, combined, max_leaves=5)
MIXTURES = np.random.default_rng(0).dirichlet(np.ones(3), size=12)


def values(expr, numbers=None) -> np.ndarray:
    """The expression [n, 3] at the sampled mixtures; examples that leave the domain of a logarithm, or explode, are dropped."""
    function = Function(expr, W, numbers or {})
    with np.errstate(all="ignore"):
        found = np.array([function.value(w) for w in (*MIXTURES, *(MIXTURES[:6] + MIXTURES[6:]) / 2)])
    assume(np.isfinite(found).all() and np.abs(found).max() < 1e8)
    return found


@settings(deadline=None, max_examples=300)
@given(EXPRESSIONS)
def test_what_is_called_convex_is_convex_at_samples_and_signs_hold(expr):
    found = values(expr)
    chord, middle = (found[:6] + found[6:12]) / 2, found[12:]
    slack = 1e-9 * (1 + np.abs(found).max())
    bend = curvature(expr)
    if bend in ("convex", "affine", "constant"):
        assert (middle <= chord + slack).all()
    if bend in ("concave", "affine", "constant"):
        assert (middle >= chord - slack).all()
    if bend == "constant":
        assert np.ptp(found, axis=0).max() == 0
    holds = {"+": found >= 0, "-": found <= 0, "0": found == 0, "any": found == found}
    assert holds[sign(expr)].all()


P, Q = mx.parameter("p", 3), mx.parameter("q", 3, nonneg=True)
FACTORS = st.sampled_from([P, Q, -Q, mx.exp(P), mx.log(Q), mx.sqrt(Q), P + Q, Q - P, mx.pos(P), P * Q, mx.square(P) * -1, mx.abs(P) + Q])
WITH_PARAMETERS = st.builds(
    lambda x, c, d, how: how(x, c) + d * x, EXPRESSIONS, FACTORS, FACTORS, st.sampled_from([lambda x, c: mx.sum(c * x), lambda x, c: x @ c])
)


@settings(deadline=None, max_examples=150)
@given(WITH_PARAMETERS, st.integers(0, 20))
def test_what_is_proved_holds_whatever_the_parameters(expr, seed):
    """A parameter of known sign may scale a bent part; the proof holds for every number that it may take."""
    rng = np.random.default_rng(seed)
    given_numbers = {"p": rng.normal(size=3), "q": rng.uniform(0, 2, size=3) * (rng.uniform(size=3) < 0.8)}
    found = values(expr, given_numbers)
    chord, middle = (found[:6] + found[6:12]) / 2, found[12:]
    slack, bend = 1e-9 * (1 + np.abs(found).max()), curvature(expr)
    assert bend not in ("convex", "affine") or (middle <= chord + slack).all()
    assert bend not in ("concave", "affine") or (middle >= chord - slack).all()
    assert {"+": found >= 0, "-": found <= 0, "0": found == 0, "any": found == found}[sign(expr)].all()


@settings(deadline=None, max_examples=200)
@given(EXPRESSIONS)
@example(A @ mx.exp(W) * 0.0)
@example(mx.exp(W) * 0.0)
def test_cvxpy_never_contradicts(expr):
    """What our rules prove, cvxpy's prove too, and the values agree: otherwise ``Conic`` would take a program that cvxpy refuses."""
    bend = curvature(expr)
    if bend not in ("convex", "concave", "affine"):
        return
    table, known = conic_table(), {W: cp.Variable(3, nonneg=True)}
    for node in expr.walk():
        if node not in known:
            known[node] = node.data.value if node.op == "constant" else table[node.op](node, *(known[a] for a in node.args))
    lowered = known[expr]
    assert bend == "concave" or lowered.is_convex()
    assert bend == "convex" or lowered.is_concave()
    function = Function(expr, W, {})
    for known[W].value in MIXTURES[:2]:
        with np.errstate(all="ignore"):
            ours, theirs = function.value(known[W].value), lowered.value
        if np.isfinite(ours).all() and np.abs(ours).max() < 1e8:
            np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=150)
@given(EXPRESSIONS)
def test_text_means_what_the_expression_means(expr):
    """Read back as Python, the printed text has the same value: brackets stand where they must."""
    assume("numbers>" not in str(expr) and all(n.op != "take" for n in expr.walk()))
    names = {n: getattr(mx, n) for n in ("exp", "square", "abs", "pos", "log", "sum", "mean", "max", "min", "sum_squares", "kl", "entropy")}
    names |= {n: getattr(mx, n) for n in ("sqrt", "power", "softplus", "logsumexp", "huber", "tail", "rel_entropy")}
    names["stack"] = lambda *parts: mx.stack(parts)
    names |= {"maximum": mx.maximum, "minimum": mx.minimum, "norm": mx.norm, "inf": np.inf, "w": W}
    text = str(expr)
    for constant in {str(n) for n in expr.walk() if n.op == "constant"}:
        names[f"c{len(names)}"] = mx.constant(eval(constant))
        text = text.replace(constant, f"c{len(names) - 1}") if constant.startswith("[") else text
    np.testing.assert_allclose(values(eval(text, {}, names)), values(expr), rtol=1e-12, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(EXPRESSIONS)
def test_what_is_proved_is_solved_and_certified(expr):
    """What the rules prove convex or concave, ``Conic`` solves: no sampled mixture is better, and a gap of our own certifies it."""
    total, bend = mx.sum(expr), curvature(mx.sum(expr))
    found = values(expr).sum(axis=1)
    assume(bend in ("convex", "concave") and np.abs(found).max() < 1e3)
    assume(all(n.data.value.any() for n in expr.walk() if n.op == "constant"))  # cvxpy trips over bent parts times zero
    assume(all(n.op != "stack" for n in expr.walk()))  # of a stack, entries that nothing takes narrow the domain still
    way = 1 if bend == "convex" else -1
    result = mx.solve((mx.minimize if way > 0 else mx.maximize)(total, over=W), solver=mx.solvers.Conic())
    assume(result.status is mx.Status.OPTIMAL)  # entries that nothing takes may have no value anywhere, and cvxpy asks for all of them
    assert way * result.value <= (way * found).min() + 1e-5 * (1 + np.abs(found).max())
    assert result.check.gap is None or result.check.gap <= 1e-3 * (1 + abs(result.value))


@settings(deadline=None, max_examples=100)
@given(EXPRESSIONS)
def test_torch_has_the_values_and_the_slopes_of_numpy(expr):
    torch = pytest.importorskip("torch")
    from mixopt.runtime.torch_ops import TORCH

    found, function = values(expr), Function(mx.sum(expr), W, {})
    for w, expected in zip(MIXTURES[:3], found, strict=False):
        at = torch.tensor(w, requires_grad=True)
        known = {W: at}
        for node in expr.walk():
            if node.op == "constant":
                known[node] = torch.tensor(node.data.value)
            elif node not in known:
                known[node] = TORCH[node.op](node, *(known[a] for a in node.args))
        theirs = known[expr].detach().numpy()
        if not np.isfinite(theirs).all():
            continue  # at the edge of a logarithm, where rounding decides
        np.testing.assert_allclose(theirs, expected, rtol=1e-9, atol=1e-9)
        if smooth(expr) is None and known[expr].requires_grad:
            (slope,) = torch.autograd.grad(known[expr].sum(), at, materialize_grads=True)
            with np.errstate(all="ignore"):
                ours = function.gradient(w)
            if np.isfinite(slope.numpy()).all() and np.isfinite(ours).all():  # at the edge of a root only one of them has a slope
                np.testing.assert_allclose(slope.numpy(), ours, rtol=1e-7, atol=1e-7 * (1 + np.abs(ours).max()))
