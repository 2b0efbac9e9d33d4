"""Numpy's operators and functions on expressions: those of the language where it has them, else a refusal in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixopt.errors import ProblemError, listed

from . import atoms
from .expression import Expr

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

FUNCTIONS = {**{name: name for name in ("exp", "log", "sqrt", "square", "maximum", "minimum")}, "absolute": "abs"}
FOLDS = {"add": "sum", "maximum": "max", "minimum": "min"}


def by_language(name: str, method: str, inputs: tuple[Any, ...], settings: Mapping[str, Any]) -> Any:
    """What a numpy function of this name is for these arguments, an expression among them.

    Raises:
        ProblemError: a function or a setting that the language does not have.
    """
    if name in ("equal", "not_equal"):
        return name == "not_equal"  # an array is no expression
    plain = all(value is None for value in settings.values())
    if plain and method == "__call__" and name in OPERATORS:
        left, right = inputs
        on_left, on_right = OPERATORS[name]
        return getattr(left, on_left)(right) if isinstance(left, Expr) else getattr(right, on_right)(left)
    own = {"__call__": FUNCTIONS, "reduce": FOLDS}.get(method, {}).get(name)
    if own is None or not plain:
        said = f"numpy's {name if method == '__call__' else f'{name}.{method}'} of an expression{'' if plain else ' with settings'}"
        raise ProblemError(f"{said} is not in the language; it has the operators, and of numpy's functions {listed(sorted(FUNCTIONS))}")
    return getattr(atoms, own)(*inputs)
