"""Atoms in numpy, torch and cvxpy, each against the others and finite differences; functions of programs and their gradients."""

from __future__ import annotations

import numpy as np
import pytest

import mixopt as mx
from mixopt.language.expression import TOKENS, Expr
from mixopt.language.ops import ATOMS
from mixopt.language.support import count, least_used
from mixopt.runtime.numpy_ops import NUMPY, unspread
from mixopt.runtime.program import Function

torch = pytest.importorskip("torch")
from mixopt.runtime.torch_ops import TORCH  # noqa: E402

X, Y, S = mx.parameter("x", 4), mx.parameter("y", 4), mx.parameter("s")
MATRIX = np.random.default_rng(3).normal(size=(4, 4))
W = mx.Mixture(["a", "b", "c"])
TOKEN_VALUES = Expr("tokens", (mx.model(),), (TOKENS,), None, "train")

EXAMPLES = {
    "add": X + Y,
    "add a scalar": X + S,
    "subtract": X - Y,
    "subtract from a scalar": S - X,
    "negate": -X,
    "multiply": X * Y,
    "multiply by a scalar": S * X,
    "divide": X / Y,
    "divide by a scalar": X / S,
    "matmul": X @ Y,
    "matmul with a matrix": mx.constant(MATRIX) @ X,
    "matmul of a row with a matrix": X @ mx.constant(MATRIX),
    "take": X[2],
    "take several, one twice": X[[3, 1, 1]],
    "stack": mx.stack([X, S, Y]),
    "sum": mx.sum(X),
    "mean": mx.mean(X),
    "exp": mx.exp(X),
    "log": mx.log(X),
    "sqrt": mx.sqrt(X),
    "square": mx.square(X),
    "power": X**1.7,
    "power below 1": X**0.3,
    "power below 0": X**-1,
    "odd power": (X - 0.75) ** 3,
    "even power": (X - 0.75) ** 4,
    "softplus": mx.softplus(X),
    "logsumexp": mx.logsumexp(X),
    "logsumexp at a temperature": mx.logsumexp(X, 0.05),
    "huber": mx.huber(X, 0.6),
    "tail": mx.tail(X, 0.5),
    "tail in part": mx.tail(X, 0.4),
    "tail of one": mx.tail(X, 0.1),
    "tail with weights": mx.tail(X, 0.4, [0.1, 0.5, 0.0, 0.4]),
    "rel_entropy": mx.rel_entropy(X, Y),
    "rel_entropy of a scalar": mx.rel_entropy(S, Y),
    "rel_entropy to a scalar": mx.rel_entropy(X, S),
    "sum_squares": mx.sum_squares(X),
    "norm": mx.norm(X),
    "norm 3": mx.norm(X, 3),
    "norm 1.5": mx.norm(X, 1.5),
    "norm 1": mx.norm(X - 0.7, 1),
    "norm inf": mx.norm(-X, np.inf),
    "abs": mx.abs(X),
    "pos": mx.pos(X),
    "clip": mx.clip(X, 0.3, 0.9),
    "max": mx.max(X),
    "min": mx.min(X),
    "maximum": mx.maximum(X, Y),
    "maximum with a scalar": mx.maximum(S, X),
    "minimum": mx.minimum(X, Y),
    "entropy": mx.entropy(X),
    "kl": mx.kl(X, Y),
    "quad_form": mx.quad_form(X, MATRIX @ MATRIX.T),
    "domain_mean": mx.domain_mean(TOKEN_VALUES, ["a", "b"]),
    "surrogate": mx.surrogate(X, gradient=Y),
    "cardinality": count(W),
    "least_used": least_used(W),
}


def inputs(node: Expr, seed: int) -> list[np.ndarray]:
    """Arrays for the arguments of a node, away from ties and kinks."""
    rng = np.random.default_rng(seed)
    shapes = [(2, 5) if a.shape == (TOKENS,) else a.shape for a in node.args]
    signed = node.op in ("abs", "pos", "negate", "square", "sum_squares", "norm", "quad_form", "softplus", "logsumexp", "huber", "tail")
    signed = signed or (node.op == "power" and node.data in (3, 4))
    draws = [rng.uniform(0.15, 1.4, shape) * (rng.choice([-1, 1], shape) if signed else 1) for shape in shapes]
    return [a.data.value if a.op == "constant" else x for a, x in zip(node.args, draws, strict=True)]


def test_every_atom_of_the_language_is_in_every_table():
    pytest.importorskip("cvxpy")
    from mixopt.solvers.conic import conic_table

    assert set(NUMPY) == set(ATOMS)
    assert set(TORCH) == set(ATOMS)
    assert set(conic_table()) == set(ATOMS)
    assert {node.op for node in EXAMPLES.values()} == set(ATOMS) - {"opaque"}, "each atom has an example here"


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", EXAMPLES)
def test_value_and_pullback_agree_with_torch_and_with_differences(name, seed):
    node = EXAMPLES[name]
    arrays = inputs(node, seed)
    value = np.asarray(NUMPY[node.op].value(node, *arrays))
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    theirs = TORCH[node.op](node, *leaves)
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=1e-13, atol=1e-15)

    cotangent = np.random.default_rng(seed + 10).normal(size=value.shape)
    theirs.backward(torch.tensor(cotangent).reshape(theirs.shape))
    pulled = [unspread(part, a) for part, a in zip(NUMPY[node.op].pull(node, cotangent, *arrays), arrays, strict=True)]
    for j, (mine, leaf) in enumerate(zip(pulled, leaves, strict=True)):
        expected = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        np.testing.assert_allclose(mine, expected, rtol=1e-12, atol=1e-13)
        direction = np.random.default_rng(j).normal(size=arrays[j].shape)
        moved = [[*arrays[:j], arrays[j] + step * direction, *arrays[j + 1 :]] for step in (1e-6, -1e-6)]
        ahead, behind = (np.sum(cotangent * NUMPY[node.op].value(node, *at)) for at in moved)
        assert np.sum(mine * direction) == pytest.approx((ahead - behind) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("name", [name for name, node in EXAMPLES.items() if node.op in ("sqrt", "power", "softplus", "logsumexp")])
def test_a_smooth_atom_is_differentiated_twice(name):
    """Hypergradients take products with second derivatives, which torch holds against differences here."""
    node = EXAMPLES[name]
    leaves = tuple(torch.tensor(a, requires_grad=True) for a in inputs(node, 0))
    assert torch.autograd.gradgradcheck(lambda *x: TORCH[node.op](node, *x), leaves)


@pytest.mark.parametrize(
    ("node", "at", "slope"),
    [
        (mx.sqrt(X), np.zeros(4), 0.5 / np.sqrt(np.finfo(float).tiny)),
        (X**-1, np.zeros(4), -np.finfo(float).max),
        (X**1.5, np.zeros(4), 0.0),
        (mx.norm(X, 3), np.zeros(4), 0.0),
        (mx.tail(X, 0.5), np.ones(4), [0.5, 0.5, 0, 0]),
        (mx.huber(X, 0.5), np.full(4, 0.5), 0.5),
        (mx.softplus(X), np.full(4, 800.0), 1.0),
        (mx.logsumexp(X, 1e-3), np.array([800.0, 1, 1, 1]), [1, 0, 0, 0]),
    ],
    ids=str,
)
def test_at_a_kink_or_an_edge_the_pullback_is_a_finite_subgradient(node, at, slope):
    with np.errstate(all="raise", under="ignore"):
        (pulled,) = NUMPY[node.op].pull(node, np.ones(node.shape), at)
    np.testing.assert_allclose(pulled, np.broadcast_to(slope, 4))


@pytest.mark.parametrize(("node", "x", "value"), [(X**-1, -2.0, np.nan), (X**0.5, -1.0, np.nan), (X**3, -2.0, -8.0), (X**4, -2.0, 16.0)])
def test_a_power_below_zero_has_a_value_only_where_the_exponent_is_whole_and_above_one(node, x, value):
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(NUMPY[node.op].value(node, np.full(4, x)), np.full(4, value))
    np.testing.assert_array_equal(TORCH[node.op](node, torch.full((4,), x, dtype=torch.float64)).numpy(), np.full(4, value))


def test_relative_entropy_has_the_same_edges_everywhere():
    x, y = np.array([0.0, 0.0, 0.5, -0.5]), np.array([0.0, 0.5, 0.0, 0.5])
    node = mx.rel_entropy(X, Y)
    np.testing.assert_array_equal(NUMPY[node.op].value(node, x, y), [0, 0, np.inf, np.inf])
    np.testing.assert_array_equal(TORCH[node.op](node, torch.tensor(x), torch.tensor(y)).numpy(), [0, 0, np.inf, np.inf])


def test_a_tail_of_everything_is_the_mean_and_of_little_the_largest():
    x = np.array([3.0, 1.0, 2.0, 5.0])
    at = {share: float(NUMPY["tail"].value(mx.tail(X, share), x)) for share in (1e-3, 0.25, 0.4, 0.5, 0.75, 1.0)}
    parts = np.array([1.0, 2.0, 3.0, 2.0]) / 8
    assert float(NUMPY["tail"].value(mx.tail(X, 1.0, parts), x, parts)) == pytest.approx(parts @ x)
    assert float(NUMPY["tail"].value(mx.tail(X, 0.5, parts), x, parts)) == pytest.approx((2 * 5 + 1 * 3 + 1 * 2) / 4)
    assert at == pytest.approx({1e-3: 5.0, 0.25: 5.0, 0.4: (5 + 0.6 * 3) / 1.6, 0.5: 4.0, 0.75: 10 / 3, 1.0: 2.75})


A = np.array([[1.0, -2.0, 0.5], [0.3, 1.0, 1.5]])


def test_entropy_and_divergence_are_finite_at_a_corner():
    corner = np.array([1.0, 0.0, 0.0])
    assert Function(mx.entropy(W), W, {}).value(corner) == 0.0
    assert Function(mx.kl(W, [0.5, 0.25, 0.25]), W, {}).value(corner) == pytest.approx(np.log(2), rel=1e-15)
    assert np.isfinite(Function(mx.kl(W, [0.5, 0.25, 0.25]), W, {}).gradient(corner)).all()


def test_the_logarithm_of_what_is_not_positive_stays_visible():
    function = Function(mx.log(W["a"] - 0.5), W, {})
    assert np.isnan(function.value(np.full(3, 1 / 3)))
    assert function.value(np.array([0.5, 0.5, 0.0])) == -np.inf


def test_a_function_gives_value_gradient_and_jacobian():
    vector = mx.exp(A @ W) * mx.parameter("scale") + W["a"]
    given, w = {"scale": np.array(2.0)}, np.array([0.2, 0.3, 0.5])
    function = Function(vector, W, given)
    expected = 2 * np.exp(A @ w)
    np.testing.assert_allclose(function.value(w), expected + 0.2, rtol=1e-14)
    np.testing.assert_allclose(function.jacobian(w), expected[:, None] * A + np.eye(3)[0], rtol=1e-14)
    total = Function(mx.sum(vector), W, given)
    value, gradient = total.value_and_gradient(w)
    assert value == pytest.approx(expected.sum() + 0.4, rel=1e-14)
    np.testing.assert_allclose(gradient, function.jacobian(w).sum(axis=0), rtol=1e-13)
    np.testing.assert_allclose(total.jacobian(w), gradient[None], rtol=1e-15)


def test_a_part_that_occurs_twice_counts_twice():
    part = mx.sum_squares(W)
    w = np.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(Function(part * 3 + mx.exp(part), W, {}).gradient(w), 2 * w * (3 + np.exp(w @ w)), rtol=1e-14)


def test_an_expression_without_weights_has_no_gradient():
    assert Function(mx.parameter("p") * 2, W, {"p": np.array(1.5)}).value(np.ones(3) / 3) == 3.0
    np.testing.assert_array_equal(Function(mx.parameter("p") * 2, W, {"p": np.array(1.5)}).gradient(np.ones(3) / 3), np.zeros(3))


def test_losses_of_a_model_are_no_program():
    with pytest.raises(mx.ProblemError, match="is not a number that a program can evaluate; it needs a learner"):
        Function(mx.mean(mx.losses(mx.model(), ["a", "b"])), W, {})
