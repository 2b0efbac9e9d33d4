"""Expressions as readable text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .ops import OPS

if TYPE_CHECKING:
    from .expression import Expr


def text(expr: Expr) -> str:
    """The expression as a user would write it, with as few brackets as its meaning allows."""
    leaf = _LEAVES.get(expr.op)
    if leaf:
        return leaf(expr)
    op = OPS[expr.op]
    if op.infix:
        left, right = expr.args
        tight = expr.op in ("subtract", "divide", "matmul", "multiply")
        return f"{_inside(left, op.level)}{op.infix}{_inside(right, op.level + (1 if tight else 0))}"
    if expr.op == "negate":
        return f"-{_inside(expr.args[0], op.level + 1)}"
    if expr.op == "take":
        return f"{_inside(expr.args[0], op.level)}[{_taken(expr)}]"
    settings = expr.data if isinstance(expr.data, tuple) and expr.op == "clip" else (expr.data,) if expr.op in _SETTINGS else ()
    extra = "".join(f", {_plain(s)}" for s in settings)
    return f"{expr.op}({', '.join(text(a) for a in expr.args)}{extra})"


_SETTINGS = ("quad_form", "norm")  # operations whose data is shown behind their arguments


def _inside(expr: Expr, level: int) -> str:
    inner = OPS[expr.op].level
    negative = expr.op == "constant" and expr.shape == () and float(expr.data.value) < 0 and level > 1
    return f"({text(expr)})" if inner < level or negative else text(expr)


def _taken(expr: Expr) -> str:
    names = expr.args[0].index
    if isinstance(expr.data, int):
        return names[expr.data] if names else str(expr.data)
    return ", ".join(names[i] if names else str(i) for i in expr.data)


def _plain(value: object) -> str:
    if hasattr(value, "value"):
        value = value.value
    array = np.asarray(value)
    if array.dtype.kind not in "if":
        return str(value)
    if array.ndim == 0:
        return f"{float(array):.6g}"
    if array.ndim == 1 and array.size <= 4:
        return "[" + ", ".join(f"{v:.4g}" for v in array) + "]"
    return f"<{'x'.join(map(str, array.shape))} numbers>"


_LEAVES = {
    "constant": lambda e: _plain(e.data),
    "parameter": lambda e: e.data[0],
    "mixture": lambda e: e.data[0],
    "model": lambda e: e.data,
    "argmin": lambda e: f"{e.data[0]}*",
    "losses": lambda e: f"losses({text(e.args[0])}, {e.data!r})",
    "loss": lambda e: f"loss({text(e.args[0])}, {e.data!r})",
    "tokens": lambda e: f"tokens({text(e.args[0])}, {e.data!r})",
    "model_sum_squares": lambda e: f"sum_squares({text(e.args[0])})",
}
