"""The functions of the language: each checks its arguments and makes one node."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from mixopt.errors import ProblemError, listed

from .expression import TOKENS, Array, Expr, Operand, constant, elementwise, expression, joint, number, raised, shown

_ROUNDING = 1e-3
"""Shares as a problem prints them, with four digits, sum to 1 within this."""


def exp(x: Operand) -> Expr:
    """exp of each entry."""
    return _each("exp", x)


def log(x: Operand) -> Expr:
    """Natural logarithm of each entry, which must be > 0."""
    return _each("log", x)


def abs(x: Operand) -> Expr:
    """Absolute value of each entry."""
    return _each("abs", x)


def pos(x: Operand) -> Expr:
    """max(x, 0) of each entry."""
    return _each("pos", x)


def square(x: Operand) -> Expr:
    """Square of each entry."""
    return _each("square", x)


def sqrt(x: Operand) -> Expr:
    """Square root of each entry, which must be >= 0; concave."""
    return _each("sqrt", x)


def power(x: Operand, p: float) -> Expr:
    """x ** p of each entry, for a number p; x may be negative only for a whole p > 1.

    Convex for p < 0 (x > 0) and for even p; concave for 0 < p < 1 (x >= 0); else, for p > 1, convex where x is known to be
    >= 0, and concave where p is odd and x is known to be <= 0. ``pos(x) ** p`` is convex whatever the sign of x.
    ``Conic`` takes it by the exact power cone.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> [mx.curvature(x) for x in (w**1.5, w**-0.5, mx.power(w, 0.3), (w - 0.5) ** 3, mx.pos(w - 0.5) ** 3)]
    ['convex', 'convex', 'concave', 'unknown', 'convex']

    Raises:
        ProblemError: an exponent that is 0 or no finite number, or a fixed x that has no such power.
    """
    return raised(x, p)


def softplus(x: Operand) -> Expr:
    """log(1 + exp(x)) of each entry, a smooth ``pos``."""
    return _each("softplus", x)


def huber(x: Operand, delta: float = 1.0) -> Expr:
    """x^2 / 2 of each entry where |x| <= delta, and delta (|x| - delta / 2) beyond (Huber 1964); half of cvxpy's ``huber``.

    Raises:
        ProblemError: a delta that is no finite number > 0.
    """
    expr = number(x, "huber")
    return Expr("huber", (expr,), expr.shape, expr.index, _positive(delta, "huber", "delta"))


def clip(x: Operand, lower: float, upper: float) -> Expr:
    """Each entry moved into [lower, upper]; neither convex nor concave."""
    if not (math.isfinite(lower) and math.isfinite(upper) and lower <= upper):
        raise ProblemError(f"clip needs finite bounds with lower <= upper, not [{lower}, {upper}]")
    expr = number(x, "clip")
    return Expr("clip", (expr,), expr.shape, expr.index, (float(lower), float(upper)))


def sum(x: Operand) -> Expr:
    """Sum of the entries []."""
    return _fold("sum", x)


def mean(x: Operand) -> Expr:
    """Mean of the entries []."""
    return _fold("mean", x)


def max(x: Operand) -> Expr:
    """Largest entry []; for two expressions, entry by entry, write ``maximum``."""
    return _fold("max", x)


def min(x: Operand) -> Expr:
    """Smallest entry []; for two expressions, entry by entry, write ``minimum``."""
    return _fold("min", x)


def logsumexp(x: Operand, temperature: float = 1.0) -> Expr:
    """T log sum_i exp(x_i / T) [], a smooth largest entry: between max(x) and max(x) + T log n for a temperature T.

    It is the largest w @ x + T entropy(w) over weights w on the simplex (Boyd and Vandenberghe, Example 3.25).

    Raises:
        ProblemError: a temperature that is no finite number > 0.
    """
    if isinstance(temperature, Expr):
        raise ProblemError(
            f"logsumexp has the temperature '{temperature}', and takes a number; write {temperature} * logsumexp(x / {temperature})"
        )
    return Expr("logsumexp", (_vector(x, "logsumexp"),), (), None, _positive(temperature, "logsumexp", "temperature"))


def tail(x: Operand, share: float, weights: Operand | None = None) -> Expr:
    """The mean [] of the largest ``share`` of the entries: the conditional value at risk (CVaR) of losses.

    Entry i stands for p_i of the whole: 1/n, or with ``weights`` [n], numbers >= 0, its part of their sum, as ``domains.natural`` for
    the worst share of the tokens. Where the largest entries do not make up the share exactly, the last one counts in part
    (Rockafellar and Uryasev 2000, Eq. 4). It is the largest w @ x over weights w on the simplex with w <= p / share:
    share = 1 is the mean, and a share that no entry falls short of the largest entry.

    Raises:
        ProblemError: a share outside (0, 1], or weights that are not n numbers >= 0 with a sum > 0.
    """
    vector = _vector(x, "tail")
    if _positive(share, "tail", "share") > 1:
        raise ProblemError(f"tail has the share {share:g}; a share is a number in (0, 1], such as 0.25 for the worst quarter")
    if weights is None:
        return Expr("tail", (vector,), (), None, float(share))
    parts = expression(weights)
    if (
        parts.op != "constant"
        or parts.shape != vector.shape
        or builtins.min(parts.data.value) < 0
        or not 0 < parts.data.value.sum() < math.inf
    ):
        raise ProblemError(
            f"tail has the weights '{parts}'; one for each of the {len(vector)} entries of '{vector}' is expected, >= 0 and not all 0"
        )
    return Expr("tail", (vector, constant(parts.data.value / parts.data.value.sum(), parts.index)), (), None, float(share))


def tail_caps(node: Expr) -> np.ndarray:
    """The most that each entry may weigh in a tail [n]: its part of the whole over the share."""
    n = len(node.args[0])
    parts = np.full(n, 1 / n) if len(node.args) == 1 else node.args[1].data.value
    return np.asarray(parts / node.data)


def maximum(x: Operand, y: Operand) -> Expr:
    """The larger of two, entry by entry."""
    return elementwise("maximum", x, y)


def minimum(x: Operand, y: Operand) -> Expr:
    """The smaller of two, entry by entry."""
    return elementwise("minimum", x, y)


def sum_squares(x: Operand) -> Expr:
    """Sum of squares [] of a vector, or of all parameters of a model (a weight-decay term)."""
    expr = expression(x)
    if expr.shape is None:
        return Expr("model_sum_squares", (expr,), ())
    return _fold("sum_squares", expr)


def norm(x: Operand, p: float = 2) -> Expr:
    """Norm [] of a vector, (sum_i |x_i|^p)^(1/p) for a number p >= 1, and the largest |x_i| for math.inf.

    Raises:
        ProblemError: a p below 1, which makes no norm.
    """
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)) or not p >= 1:
        raise ProblemError(f"norm has p = {p!r}; p is a number >= 1, or math.inf")
    return Expr("norm", (_vector(x, "norm"),), (), None, float(p))


def entropy(x: Operand) -> Expr:
    """-sum_i x_i log x_i [] in nats, with 0 log 0 = 0."""
    return _fold("entropy", x)


def kl(p: Operand, q: Operand) -> Expr:
    """Kullback-Leibler divergence sum_i p_i log(p_i / q_i) [] in nats, with 0 log 0 = 0.

    Of a mixture the other side is a mixture too; for positive numbers of any sum there is ``sum(rel_entropy(p, q))``.

    Raises:
        ProblemError: shapes that do not fit, a fixed q with an entry that is not > 0, or beside a mixture numbers whose sum is off 1 by
            more than 0.001.
    """
    a, b = _vector(p, "kl"), _vector(q, "kl")
    joint(a, b, "kl({}, {})")
    if a.shape != b.shape:
        raise ProblemError(f"shapes do not fit in kl: {shown(a)} and {shown(b)}")
    if b.op == "constant" and builtins.min(b.data.value) <= 0:
        where = int(np.argmin(b.data.value))
        raise ProblemError(
            f"kl(p, q) needs q > 0 everywhere, but entry {where} of q is {b.data.value[where]:.6g}; "
            "leave that domain out or give it a floor"
        )
    for name, side, other in (("p", a, b), ("q", b, a)):
        if other.op == "mixture" and side.op == "constant" and not math.isclose(total := side.data.value.sum(), 1, rel_tol=_ROUNDING):
            raise ProblemError(
                f"kl(p, q) of a mixture needs numbers that sum to 1, but those of {name} sum to {total:.6g}; "
                "divide them by their sum, or write sum(rel_entropy(p, q)) if that is meant"
            )
    return Expr("kl", (a, b))


def rel_entropy(x: Operand, y: Operand) -> Expr:
    """x log(x / y) of each entry in nats, for x >= 0 and y > 0, with 0 log 0 = 0: convex in x and y together.

    Its sum is ``kl(x, y)``; scalars spread over vectors.

    Raises:
        ProblemError: shapes that do not fit, or a fixed y with an entry that is not > 0.
    """
    b = expression(y)
    if b.op == "constant" and b.data.value.min() <= 0:
        raise ProblemError(f"rel_entropy(x, y) needs y > 0 everywhere, but the least entry of '{b}' is {b.data.value.min():.6g}")
    return elementwise("rel_entropy", x, b)


def quad_form(x: Operand, matrix: Operand) -> Expr:
    """x' P x [] for a constant symmetric positive semidefinite P [n, n].

    Raises:
        ProblemError: P of another shape, not symmetric, or with a negative eigenvalue.
    """
    vector, square_matrix = _vector(x, "quad_form"), constant(matrix)
    n = len(vector)
    if square_matrix.shape != (n, n):
        raise ProblemError(f"quad_form needs a matrix [{n}, {n}] for {shown(vector)}, not {list(square_matrix.shape or ())}")
    values: np.ndarray = square_matrix.data.value
    if not np.allclose(values, values.T, atol=1e-10 * (1 + np.abs(values).max())):
        raise ProblemError("quad_form needs a symmetric matrix; take (P + P.T) / 2")
    least = float(np.linalg.eigvalsh(values)[0])
    if least < -1e-9 * (1 + np.abs(values).max()):
        raise ProblemError(f"quad_form needs a positive semidefinite matrix, but its smallest eigenvalue is {least:.3g}")
    return Expr("quad_form", (vector,), (), None, Array(values))


def stack(parts: Sequence[Operand], index: Sequence[str] | None = None) -> Expr:
    """Scalars and vectors joined to one vector [n], in their order; ``index`` names its entries.

    Without ``index``, vectors that all have names keep them where no name occurs twice.

    Raises:
        ProblemError: no part, a matrix, tokens, or names of another number.
    """
    if isinstance(parts, Expr):
        raise ProblemError(f"stack joins a list of scalars and vectors, not '{parts}' alone; write stack([...])")
    rows = [number(p, "stack") for p in parts]
    odd = next((r for r in rows if len(r.shape or ()) > 1 or r.shape == (TOKENS,)), None)
    if not rows or odd is not None:
        raise ProblemError("stack joins one or more scalars and vectors" + (f", not {shown(odd)}" if odd is not None else ""))
    size = builtins.sum(r.shape[0] if r.shape else 1 for r in rows)
    names = None if index is None else tuple(index)
    if names is not None and len(names) != size:
        raise ProblemError(f"stack joins {size} entries, but {len(names)} names are given {listed(names)}")
    if names is None and builtins.all(r.index for r in rows):
        joined = tuple(chain.from_iterable(r.index or () for r in rows))
        names = joined if len(set(joined)) == size else None
    return Expr("stack", tuple(rows), (size,), names)


def _positive(value: float, where: str, what: str) -> float:
    number_like = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number_like or not 0 < value < math.inf:
        raise ProblemError(f"{where} has the {what} {str(value)!r}; it is a finite number > 0")
    return float(value)


def _each(op: str, x: Operand) -> Expr:
    expr = number(x, op)
    return Expr(op, (expr,), expr.shape, expr.index)


def _fold(op: str, x: Operand) -> Expr:
    return Expr(op, (_vector(x, op),))


def _vector(x: Operand, where: str) -> Expr:
    expr = number(x, where)
    if not expr.shape or len(expr.shape) != 1:
        two = {"max": "larger", "min": "smaller"}
        mend = f"; for the {two[where]} of two, entry by entry, write {where}imum(x, y)" if where in two and not expr.shape else ""
        raise ProblemError(f"{where} is of a vector, but {shown(expr)} is {'a scalar' if not expr.shape else 'a matrix'}{mend}")
    return expr
