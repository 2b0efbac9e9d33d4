"""A program's functions at many points at once, for solvers that draw or enumerate them; values only, no gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy.special import logsumexp, rel_entr, xlogy

from mixopt.errors import ProblemError
from mixopt.language.atoms import tail_caps
from mixopt.language.expression import Expr
from mixopt.language.support import SUPPORT

from .layout import Layout
from .numpy_ops import NUMPY

A = Any  # a float64 array whose last axis goes over the points, of length 1 where a value is the same at all of them
ROOM = 4_000_000
"""The most numbers that one operation makes at a time."""


def _matmul(n: Expr, x: A, y: A) -> A:
    if x.ndim == y.ndim == 2:
        return (x * y).sum(axis=0)
    if x.ndim == 2:
        x, y = y.swapaxes(0, 1), x
    return x[..., 0] @ y if x.shape[-1] == 1 else np.einsum("mkr,kr->mr", x, y)


def _tail(n: Expr, x: A, *parts: A) -> A:
    order = np.argsort(-x, axis=0)
    caps = tail_caps(n)[order]
    shares = np.clip(1 - np.cumsum(caps, axis=0) + caps, 0, caps)
    return (shares * np.take_along_axis(x, order, axis=0)).sum(axis=0)


def _opaque(n: Expr, x: A) -> A:
    found = n.data.values(np.ascontiguousarray(x.T), n.shape)
    return found.T if n.shape else found


ACROSS: dict[str, Callable[..., A]] = {
    "matmul": _matmul,
    "stack": lambda n, *parts: np.concatenate([np.atleast_2d(p) for p in _joined(parts)]),
    "sum": lambda n, x: x.sum(axis=0),
    "mean": lambda n, x: x.mean(axis=0),
    "logsumexp": lambda n, x: n.data * logsumexp(x / n.data, axis=0),
    "tail": _tail,
    "sum_squares": lambda n, x: (x * x).sum(axis=0),
    "norm": lambda n, x: np.linalg.norm(x, n.data, axis=0),
    "max": lambda n, x: x.max(axis=0),
    "min": lambda n, x: x.min(axis=0),
    "entropy": lambda n, x: -xlogy(x, x).sum(axis=0),
    "kl": lambda n, p, q: rel_entr(p, q).sum(axis=0),
    "quad_form": lambda n, x: (x * (n.data.value @ x)).sum(axis=0),
    "cardinality": lambda n, x: (x > SUPPORT).sum(axis=0).astype(float),
    "least_used": lambda n, x: np.where(x > SUPPORT, x, np.inf).min(axis=0),
    "opaque": _opaque,
}
"""Operations over the entries of a vector, here over all axes but the last; every other one works entry by entry as in ``NUMPY``."""


def _joined(parts: tuple[A, ...]) -> list[A]:
    """Parts with the same number of points."""
    points = max(p.shape[-1] for p in parts)
    return [np.broadcast_to(p, (*p.shape[:-1], points)) for p in parts]


class Batch:
    """An expression of the unknowns, lowered once; its call evaluates it at points [R, n]: values [R], or [R, m] of a vector.

    Raises:
        ProblemError: a loss in it, which needs a learner.
    """

    def __init__(self, expr: Expr, layout: Layout, given: Mapping[str, np.ndarray]):
        self._nodes = list(expr.walk())
        slots = {node: i for i, node in enumerate(self._nodes)}
        self._args = [tuple(slots[a] for a in node.args) for node in self._nodes]
        self._at = {slots[s]: (where, s.shape == ()) for s, where in layout.slices.items() if s in slots}
        self._fixed = [self._number(node, layout, given) for node in self._nodes]
        self._shape = expr.shape or ()
        self._widest = max((int(np.prod(n.shape or ())) for n in self._nodes if n.op not in ("constant", "parameter")), default=1)

    @staticmethod
    def _number(node: Expr, layout: Layout, given: Mapping[str, np.ndarray]) -> A:
        if node.op == "constant":
            return node.data.value[..., None]
        if node.op == "parameter":
            return np.asarray(given[node.data[0]], dtype=float)[..., None]
        if node not in layout.slices and node.op not in NUMPY:
            raise ProblemError(f"'{node}' is not a number that a program can evaluate; it needs a learner")
        return None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Values [R] or [R, m] at points [R, n]; NaN or infinite where the expression is."""
        out = np.empty((len(points), *self._shape))
        for rows in self._blocks(len(points)):
            value = self._values(points[rows].T)
            out[rows] = np.broadcast_to(value, (*self._shape, len(points[rows]))).T
        return out

    def _blocks(self, count: int) -> Iterator[slice]:
        size = max(ROOM // max(self._widest, 1), 1)
        return (slice(i, i + size) for i in range(0, count, size))

    @np.errstate(divide="ignore", invalid="ignore", over="ignore")
    def _values(self, x: np.ndarray) -> A:
        values: list[A] = []
        for i, (node, args) in enumerate(zip(self._nodes, self._args, strict=True)):
            if i in self._at:
                where, scalar = self._at[i]
                values.append(x[where][0] if scalar else x[where])
            elif self._fixed[i] is not None:
                values.append(self._fixed[i])
            else:
                parts = [values[a] for a in args]
                values.append(ACROSS[node.op](node, *parts) if node.op in ACROSS else NUMPY[node.op].value(node, *parts))
        return values[-1]
