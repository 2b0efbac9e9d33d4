"""Whether an expression is a sum of functions of one weight each, by rules on its tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .expression import Expr
from .ops import OPS, UNKNOWNS

Part = frozenset[int] | None
"""The weights that an entry is a sum of functions of, one weight each; None where it mixes them."""

FIXED: Part = frozenset()
ENTRYWISE = ("exp", "log", "sqrt", "square", "power", "softplus", "huber", "abs", "pos", "clip")
FOLDED = ("sum_squares", "entropy", "kl", "rel_entropy", "cardinality")


def separable(expr: Expr) -> bool:
    """Whether a scalar expression is sum_i f_i(w_i) of the entries of its mixture; sufficient, not necessary.

    >>> import mixopt as mx
    >>> w = mx.Mixture(["web", "code"])
    >>> separable(mx.sum(mx.exp(-w)) + mx.kl(w, [0.5, 0.5])), separable(mx.exp(mx.sum(w * [1.0, 2.0])))
    (True, False)
    """
    return mixing(expr) is None


def mixing(expr: Expr) -> Expr | None:
    """The first node that mixes weights in what is no sum of functions of one weight each, or None."""
    known: dict[Expr, tuple[Part, ...]] = {}
    for node in expr.walk():
        known[node] = parts = _parts(node, [known[a] for a in node.args])
        if None in parts:
            return node
    return None


def _parts(node: Expr, args: list[tuple[Part, ...]]) -> tuple[Part, ...]:
    """What each entry of a node depends on."""
    size = int(np.prod(node.shape or ()))
    if node.op in UNKNOWNS:
        return tuple(frozenset([i]) for i in range(size)) if node.op == "mixture" else (None,) * size
    if all(part == FIXED for a in args for part in a):
        return (FIXED,) * size
    if node.op == "take":
        positions = (node.data,) if isinstance(node.data, int) else node.data
        return tuple(args[0][p] for p in positions)
    if node.op == "stack":
        return tuple(part for a in args for part in a)
    if node.op in ("sum", "mean"):
        return (_union(args[0]),)
    if node.op == "matmul":
        return _product(node, args)
    if node.op in FOLDED:
        return (_union([_alone(p) for p in _paired(args)]),) if node.op != "rel_entropy" else tuple(map(_alone, _paired(args)))
    if node.op in ENTRYWISE:
        return tuple(map(_alone, args[0]))
    if OPS[node.op].shape == "affine" and node.op in ("add", "subtract", "negate"):
        return tuple(_paired(args))
    if node.op in ("multiply", "divide", "maximum", "minimum"):
        scaled = node.op == "multiply" or (node.op == "divide" and all(p == FIXED for p in args[1]))
        kept = scaled and any(all(p == FIXED for p in a) for a in args)
        return tuple(p if kept else _alone(p) for p in _paired(args))
    return tuple(_alone(_union([p for a in args for p in a])) for _ in range(size))


def _product(node: Expr, args: list[tuple[Part, ...]]) -> tuple[Part, ...]:
    """Rows of sums, where one side is constant; entry by entry where both are vectors."""
    left, right = node.args
    if len(left.shape or ()) == len(right.shape or ()) == 1:
        fixed = any(all(p == FIXED for p in a) for a in args)
        return (_union(p if fixed else _alone(p) for p in _paired(args)),)
    matrix, (a, b) = (left, args) if len(left.shape or ()) == 2 else (right, args[::-1])
    rows = matrix.data.value if matrix.op == "constant" else np.ones(matrix.shape or ())
    rows = rows if matrix is left else rows.T
    if not all(p == FIXED for p in a):
        return (None,) * len(rows)
    return tuple(_union([b[i] for i in np.flatnonzero(row)]) for row in rows)


def _paired(args: Sequence[tuple[Part, ...]]) -> list[Part]:
    """What pairs of entries depend on together; a scalar goes with every entry."""
    size = max(map(len, args))
    return [_union(a[0] if len(a) == 1 else a[i] for a in args) for i in range(size)]


def _alone(part: Part) -> Part:
    """What a function of an entry depends on: of one weight it is a function of that weight, of several it mixes them."""
    return part if part is not None and len(part) <= 1 else None


def _union(parts: Iterable[Part]) -> Part:
    """What a sum depends on."""
    found: set[int] = set()
    for part in parts:
        if part is None:
            return None
        found |= part
    return frozenset(found)
