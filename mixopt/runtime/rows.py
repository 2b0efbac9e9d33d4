"""A scalar expression of variables and of data that differ by run: its values and its gradients in the variables, at all runs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import softmax

from mixopt.errors import ProblemError
from mixopt.language.expression import Expr

from .batch import ACROSS
from .numpy_ops import NUMPY

A = Any  # a float64 array whose last axis goes over the points, of length 1 where a value is the same at all of them


def _matmul(n: Expr, g: A, x: A, y: A) -> tuple[A, A]:
    if x.ndim == y.ndim == 2:
        return g * y, g * x
    return (y[..., 0] @ g, 0.0) if x.ndim == 2 else (0.0, x[..., 0].T @ g)  # the matrix is a constant


def _stack(n: Expr, g: A, *parts: A) -> tuple[A, ...]:
    sizes = [p.shape[0] if p.ndim == 2 else 1 for p in parts]
    pieces = np.split(g, np.cumsum(sizes)[:-1])
    return tuple(piece if p.ndim == 2 else piece[0] for piece, p in zip(pieces, parts, strict=True))


def _extreme(find: Callable[..., A]) -> Callable[..., tuple[A]]:
    return lambda n, g, x: (np.where(np.arange(len(x))[:, None] == find(x, axis=0), g, 0.0),)


PULLS: dict[str, Callable[..., tuple[A, ...]]] = {
    "matmul": _matmul,
    "stack": _stack,
    "mean": lambda n, g, x: (g * np.ones_like(x) / len(x),),
    "logsumexp": lambda n, g, x: (g * softmax(x / n.data, axis=0),),
    "max": _extreme(np.argmax),
    "min": _extreme(np.argmin),
}
"""Pullbacks over the entries of a vector; those of every other operation that is taken are as in ``NUMPY``."""
_MOVED = ("take", "stack", "matmul")
_REFUSED = ("norm", "tail", "domain_mean", "surrogate", "cardinality", "least_used", "opaque")


class Rows:
    """A scalar expression, lowered once; symbols are bound by each call.

    Raises:
        ProblemError: an operation that has no derivative here, or a loss, which needs a learner.
    """

    def __init__(self, expr: Expr):
        self._nodes = list(expr.walk())
        slots = {node: i for i, node in enumerate(self._nodes)}
        self._args = [tuple(slots[a] for a in node.args) for node in self._nodes]
        odd = next((n for n in self._nodes if n.op in _REFUSED or (n.args and n.op not in NUMPY)), None)
        if odd is not None:
            raise ProblemError(f"'{odd}' cannot be fitted: {odd.op} has no derivative in a law's formula")

    def values(self, symbols: Mapping[Expr, A]) -> A:
        """The values [P] at P points, where a symbol is [P] or [n, P]; a last axis of 1 is the same at all."""
        return self._forward(symbols)[-1]

    def gradients(self, symbols: Mapping[Expr, A], wanted: Mapping[str, Expr], points: int) -> dict[str, A]:
        """The gradient in each variable [P] or [n, P]; where nothing changes it is 0, though a factor be infinite."""
        values = self._forward(symbols)
        pulled: list[A] = [None] * len(values)
        pulled[-1] = np.ones(points)
        for i in range(len(values) - 1, -1, -1):
            node, g = self._nodes[i], pulled[i]
            if g is None or not node.args:
                continue
            parts = [values[a] for a in self._args[i]]
            with np.errstate(all="ignore"):
                given = PULLS[node.op](node, g, *parts) if node.op in PULLS else NUMPY[node.op].pull(node, g, *parts)
            for a, one in zip(self._args[i], given, strict=True):
                if self._nodes[a].op != "constant":
                    kept = one if node.op in _MOVED else np.where(g == 0, 0.0, one)
                    spread = kept.sum(axis=0) if np.ndim(kept) > np.ndim(values[a]) else kept
                    pulled[a] = spread if pulled[a] is None else pulled[a] + spread
        found = {}
        for name, symbol in wanted.items():
            g = pulled[self._nodes.index(symbol)] if symbol in self._nodes else 0.0
            found[name] = np.broadcast_to(g, (*(symbol.shape or ()), points))
        return found

    def _forward(self, symbols: Mapping[Expr, A]) -> list[A]:
        values: list[A] = []
        with np.errstate(all="ignore"):
            for node, args in zip(self._nodes, self._args, strict=True):
                if node in symbols:
                    values.append(symbols[node])
                elif node.op == "constant":
                    values.append(node.data.value[..., None])
                else:
                    parts = [values[a] for a in args]
                    values.append(ACROSS[node.op](node, *parts) if node.op in ACROSS else NUMPY[node.op].value(node, *parts))
        return values
