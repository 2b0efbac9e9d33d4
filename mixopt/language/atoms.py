"""The functions of the language: each checks its arguments and makes one node."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence

import numpy as np

from mixopt.errors import ProblemError

from .expression import Array, Expr, Operand, constant, elementwise, expression, joint, number, shown


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
    """Norm [] of a vector for p = 1, 2 or infinity."""
    if p not in (1, 2, math.inf):
        raise ProblemError(f"norm takes p = 1, 2 or math.inf, not {p!r}")
    return Expr("norm", (_vector(x, "norm"),), (), None, float(p))


def entropy(x: Operand) -> Expr:
    """-sum_i x_i log x_i [] in nats, with 0 log 0 = 0."""
    return _fold("entropy", x)


def kl(p: Operand, q: Operand) -> Expr:
    """Kullback-Leibler divergence sum_i p_i log(p_i / q_i) [] in nats, with 0 log 0 = 0.

    Raises:
        ProblemError: shapes that do not fit, or a fixed q with an entry that is not > 0.
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
    return Expr("kl", (a, b))


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
    """Scalars joined to a vector [n], with names where they are given."""
    rows = [number(p, "stack") for p in parts]
    if not rows or builtins.any(r.shape != () for r in rows):
        raise ProblemError("stack joins one or more scalars; index or fold the vectors first")
    unit = np.eye(len(rows))
    total = constant(unit[0], index) * rows[0]
    for row, place in zip(rows[1:], unit[1:], strict=True):
        total = total + constant(place, index) * row
    return total


def _each(op: str, x: Operand) -> Expr:
    expr = number(x, op)
    return Expr(op, (expr,), expr.shape, expr.index)


def _fold(op: str, x: Operand) -> Expr:
    return Expr(op, (_vector(x, op),))


def _vector(x: Operand, where: str) -> Expr:
    expr = number(x, where)
    if not expr.shape or len(expr.shape) != 1:
        raise ProblemError(f"{where} is of a vector, but {shown(expr)} is {'a scalar' if not expr.shape else 'a matrix'}")
    return expr
