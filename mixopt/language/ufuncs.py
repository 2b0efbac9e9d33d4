"""Numpy's operators and functions by the names that they have in the language, or a refusal in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixopt.errors import ProblemError, listed

OPERATORS = {
    "add": ("__add__", "__radd__"),
    "subtract": ("__sub__", "__rsub__"),
    "multiply": ("__mul__", "__rmul__"),
    "divide": ("__truediv__", "__rtruediv__"),
    "matmul": ("__matmul__", "__rmatmul__"),
    "power": ("__pow__", "__rpow__"),
    "less_equal": ("__le__", "__ge__"),
    "greater_equal": ("__ge__", "__le__"),
    "less": ("__lt__", "__gt__"),
    "greater": ("__gt__", "__lt__"),
}
"""Numpy's names of the operators, with the expression on the left and on the right."""

EACH = {**{name: name for name in ("exp", "log", "sqrt", "square")}, "absolute": "abs"}
PAIRS = {"maximum": "maximum", "minimum": "minimum"}
FOLDS = {"add": "sum", "maximum": "max", "minimum": "min"}


def counterpart(name: str, method: str, settings: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Of which kind a numpy function of this name is here ("operator", "each", "pair" or "fold"), and its name or names.

    Raises:
        ProblemError: a function or a setting that the language does not have.
    """
    plain = all(value is None for value in settings.values())
    if plain and method == "__call__" and name in OPERATORS:
        return "operator", OPERATORS[name]
    tables = {"each": EACH, "pair": PAIRS} if method == "__call__" else {"fold": FOLDS} if method == "reduce" else {}
    for kind, table in tables.items():
        if plain and name in table:
            return kind, (table[name],)
    said = f"numpy's {name if method == '__call__' else f'{name}.{method}'} of an expression{'' if plain else ' with settings'}"
    raise ProblemError(f"{said} is not in the language; it has the operators, and of numpy's functions {listed(sorted({**EACH, **PAIRS}))}")
