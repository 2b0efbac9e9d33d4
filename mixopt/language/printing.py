"""Expressions as readable text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .ops import OPS

if TYPE_CHECKING:
    from .expression import Expr


def text(expr: Expr) -> str:
    """The expression as a user would write it, with as few brackets as its meaning allows."""
    known: dict[Expr, str] = {}
    for node in expr.walk():
        known[node] = _written(node, [known[a] for a in node.args])
    return known[expr]


def _written(node: Expr, parts: list[str]) -> str:
    """One node, from the texts of its arguments."""
    leaf = _LEAVES.get(node.op)
    if leaf:
        return leaf(node, *parts)
    op = OPS[node.op]
    if op.infix:
        tight = node.op in ("subtract", "divide", "matmul", "multiply")
        left, right = _within(node, 0, parts, op.level), _within(node, 1, parts, op.level + (1 if tight else 0))
        return f"{left}{op.infix}{right}"
    if node.op == "negate":
        return f"-{_within(node, 0, parts, op.level + 1)}"
    if node.op == "take":
        return f"{_within(node, 0, parts, op.level)}[{_taken(node)}]"
    if node.op == "opaque":
        return f"{node.data.name}({parts[0]})"
    if node.op == "tail" and len(parts) > 1:
        return f"tail({parts[0]}, {_plain(node.data)}, {parts[1]})"
    settings = node.data if node.op == "clip" else (node.data,) if node.op in _SETTINGS and node.data != _SETTINGS[node.op] else ()
    return f"{node.op}({', '.join([*parts, *map(_plain, settings)])})"


_MOST = 8  # entries named in an index; the edges of a graph can be many
_SETTINGS = {"quad_form": None, "norm": None, "power": None, "huber": None, "tail": None, "logsumexp": 1.0, "ema": None}
"""Operations whose data is shown behind their arguments, unless it is this default."""


def _within(node: Expr, position: int, parts: list[str], level: int) -> str:
    """An argument's text, in brackets where it binds less than ``level``."""
    arg = node.args[position]
    negative = arg.op == "constant" and arg.shape == () and float(arg.data.value) < 0 and level > 1
    return f"({parts[position]})" if OPS[arg.op].level < level or negative else parts[position]


def _taken(expr: Expr) -> str:
    names = expr.args[0].index
    if isinstance(expr.data, int):
        return names[expr.data] if names else str(expr.data)
    shown = ", ".join(names[i] if names else str(i) for i in expr.data[:_MOST])
    return shown if len(expr.data) <= _MOST else f"{shown}, ... {len(expr.data) - _MOST} more"


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


_LEAVES: dict[str, Callable[..., str]] = {
    "constant": lambda e: _plain(e.data),
    "parameter": lambda e: e.data[0],
    "mixture": lambda e: e.data[0],
    "variable": lambda e: e.data[0],
    "stages": lambda e, *parts: e.data[0],
    "model": lambda e: e.data,
    "argmin": lambda e: f"{e.data[0]}*",
    "trained": lambda e: f"{e.data[0]}_{e.data[2]}",
    "losses": lambda e, model: f"losses({model}, {e.data!r})",
    "loss": lambda e, model: f"loss({model}, {e.data!r})",
    "tokens": lambda e, model: f"tokens({model}, {e.data!r})",
    "model_sum_squares": lambda e, model: f"sum_squares({model})",
    "gram": lambda e, *parts: f"gram({e.args[0].args[0]}, {', '.join(parts)})",
}
