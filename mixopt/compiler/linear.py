"""Expressions that are linear in one symbol, taken apart: its coefficients as expressions of everything else, and what is left at zero."""

from __future__ import annotations

import numpy as np

from mixopt.errors import ProblemError
from mixopt.language import atoms
from mixopt.language.expression import Expr, constant


class NotLinearError(ProblemError):
    """An operation bends the symbol, or multiplies it with itself."""


def holds(expr: Expr, symbol: Expr) -> bool:
    """Whether the symbol occurs in the expression."""
    return any(node == symbol for node in expr.walk())


def terms(expr: Expr, sign: int = 1) -> list[tuple[int, Expr]]:
    """The summands of an expression with their signs, sums and differences opened."""
    if expr.op in ("add", "subtract"):
        left, right = expr.args
        return [*terms(left, sign), *terms(right, -sign if expr.op == "subtract" else sign)]
    return terms(expr.args[0], -sign) if expr.op == "negate" else [(sign, expr)]


def at_zero(expr: Expr, symbol: Expr) -> Expr | None:
    """The expression, of which ``coefficients`` has found that it is linear in the symbol, with the symbol at zero; None for zero."""
    found: dict[Expr, Expr | None] = {}
    live = _live(expr, symbol)
    for node in expr.walk():
        if node not in live:
            found[node] = node
        elif node == symbol:
            found[node] = None
        else:
            found[node] = _at_zero(node, [found[a] for a in node.args])
    return found[expr]


def _live(expr: Expr, symbol: Expr) -> set[Expr]:
    """The nodes that hold the symbol."""
    live: set[Expr] = set()
    for node in expr.walk():
        if node == symbol or any(a in live for a in node.args):
            live.add(node)
    return live


def _at_zero(node: Expr, args: list[Expr | None]) -> Expr | None:
    if all(a is None for a in args):
        return None
    if node.op in ("add", "subtract"):
        left, right = args
        if left is None:
            return right if node.op == "add" or right is None else -right
        return left if right is None else left + right if node.op == "add" else left - right
    if node.op in ("multiply", "divide", "matmul"):
        left, right = args
        if left is None or right is None:
            return None
        return left * right if node.op == "multiply" else left / right if node.op == "divide" else left @ right
    if node.op == "stack":
        parts = [constant(np.zeros(len(a))) if a.shape else constant(0.0) for a in node.args]
        return atoms.stack([zero if a is None else a for a, zero in zip(args, parts, strict=True)], node.index)
    (only,) = args
    assert only is not None
    if node.op == "take":
        return only[node.data if isinstance(node.data, int) else list(node.data)]
    return -only if node.op == "negate" else atoms.sum(only) if node.op == "sum" else atoms.mean(only)


def coefficients(expr: Expr, symbol: Expr, seed: Expr | None = None) -> Expr:
    """The coefficients [m] of a symbol in a scalar expression, or in seed @ expression, as expressions of everything else: reverse mode.

    Raises:
        NotLinearError: an operation that is not linear; its text names it.
    """
    cotangents: dict[Expr, Expr | None] = {expr: seed}
    live = _live(expr, symbol)
    for node in reversed(list(expr.walk())):
        if node == symbol or node not in cotangents:
            continue
        for arg, part in _pull(node, cotangents[node], [a in live for a in node.args]):
            known = cotangents.get(arg)
            cotangents[arg] = part if known is None else known + part
    found = cotangents.get(symbol)
    return constant(np.zeros(len(symbol))) if found is None else found


def _pull(node: Expr, seed: Expr | None, live: list[bool]) -> list[tuple[Expr, Expr]]:
    """What each argument that holds the symbol gets of a node's cotangent; None stands for 1, at the root of a scalar."""
    if not any(live):
        return []
    if node.op in ("add", "subtract", "negate"):
        own = constant(1.0) if seed is None else seed
        signs = (1, -1) if node.op == "subtract" else (-1,) if node.op == "negate" else (1, 1)
        return [(a, _folded(own if s > 0 else -own, a)) for a, s, on in zip(node.args, signs, live, strict=True) if on]
    if node.op in ("multiply", "matmul") and live != [True, True]:
        arg, factor = node.args if live[0] else node.args[::-1]
        return [(arg, _product(node, arg, factor, seed, left=live[0]))]
    if node.op == "divide" and not live[1]:
        return [(node.args[0], _folded((constant(1.0) if seed is None else seed) / node.args[1], node.args[0]))]
    if node.op in ("sum", "mean", "take", "stack"):
        return _moved(node, seed, live)
    raise NotLinearError(f"'{node}' is not linear in the inner weights")


def _product(node: Expr, arg: Expr, factor: Expr, seed: Expr | None, *, left: bool) -> Expr:
    if node.op == "matmul" and factor.shape is not None and len(factor.shape) == 2:
        assert seed is not None
        return factor @ seed if left else seed @ factor
    scaled = factor if seed is None else seed * factor
    return _folded(scaled, arg)


def _folded(cotangent: Expr, arg: Expr) -> Expr:
    """A cotangent in the shape of its argument: a scalar that was spread over a vector gets the sum."""
    return atoms.sum(cotangent) if arg.shape == () and cotangent.shape else cotangent


def _moved(node: Expr, seed: Expr | None, live: list[bool]) -> list[tuple[Expr, Expr]]:
    if node.op == "stack":
        assert seed is not None
        pieces, first = [], 0
        for arg, on in zip(node.args, live, strict=True):
            size = len(arg) if arg.shape else 1
            if on:
                pieces.append((arg, seed[first : first + size] if arg.shape else seed[first]))
            first += size
        return pieces
    (arg,) = node.args
    n = len(arg)
    if node.op == "take" and not isinstance(node.data, int):
        assert seed is not None
        return [(arg, seed @ np.eye(n)[list(node.data)])]
    row = np.eye(n)[node.data] if node.op == "take" else np.full(n, 1.0 if node.op == "sum" else 1 / n)
    return [(arg, constant(row) if seed is None else seed * row)]
