"""By how much the best value changes with each parameter: the slope of the Lagrangian at the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mixopt.forms import Program, parameters, sides, unknowns
from mixopt.language.expression import Expr, constant
from mixopt.language.opaque import blind
from mixopt.language.ops import OPS
from mixopt.language.symbols import variable
from mixopt.runtime.layout import Layout
from mixopt.runtime.program import Function

from .check import Duals


def slopes(form: Program, x: np.ndarray, given: Mapping[str, np.ndarray], duals: Duals) -> dict[str, float | np.ndarray]:
    """d value / d p in the user's own sense, with the form's multipliers, for each parameter p: a number, or [n].

    At an optimum the unknowns move to no first-order effect, so that f + sum_j m_j g_j is differentiated in p alone. A parameter
    under a kink is left out, where the slope may have two sides, and so are all where a multiplier is missing.

    Source: Milgrom and Segal 2002, Corollary 5 (the envelope theorem for saddle points).
    """
    parts = (form.objective, *sides(form))
    if blind(*parts) is not None or any(r.label not in duals for r in form.constraints):
        return {}
    bent = {p for e in parts for node in e.walk() if not OPS[node.op].smooth for p in node.walk()}
    moved = {p: variable(f"parameter {p}", p.shape[0] if p.shape else None) for p in parameters(form) if p not in bent}
    layout = Layout.of((*unknowns(form), *moved.values()))
    point = np.concatenate([x, *(np.ravel(given[p.data[0]]) for p in moved)])
    lagrangian = form.objective
    for relation in form.constraints:
        dual = duals[relation.label]
        row = constant(list(dual.values()) if isinstance(dual, dict) else dual)
        lagrangian = lagrangian + (row @ relation.gap if relation.gap.shape else row * relation.gap)
    total = (-1 if form.maximised else 1) * Function(_with(lagrangian, moved), layout, given).gradient(point)
    found = {p.data[0]: total[layout.slices[moved[p]]] for p in moved}
    return {name: slope if np.ndim(given[name]) else float(slope[0]) for name, slope in found.items()}


def _with(expr: Expr, moved: Mapping[Expr, Expr]) -> Expr:
    """The expression with variables in the place of parameters."""
    rebuilt: dict[Expr, Expr] = {}
    for node in expr.walk():
        rebuilt[node] = moved[node] if node in moved else replace(node, args=tuple(rebuilt[a] for a in node.args))
    return rebuilt[expr]
