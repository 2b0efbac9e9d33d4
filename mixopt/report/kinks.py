"""A lower bound of a convex program from one point: its smooth parts linearised there, its kinks kept, solved as a linear program.

By the rules of composition, a tangent in place of a smooth atom makes a convex objective smaller and a convex feasible
set larger, so the linear program's value lies below the optimum, and f(w) minus it is a gap. Without kinks, and with linear
constraints, it is the Frank-Wolfe gap; with a ``max`` it is the least one over convex combinations of the pieces' gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog

from mixopt.forms import Program, unknowns
from mixopt.language.atoms import tail_caps
from mixopt.language.expression import Expr
from mixopt.runtime.layout import Layout
from mixopt.runtime.numpy_ops import NUMPY, unspread
from mixopt.runtime.program import Function
from mixopt.runtime.region import Limit, Region

KINKED = ("max", "min", "maximum", "minimum", "abs", "pos", "norm", "tail")
SMALL, INSIDE = 1e-6, (1e-12, 1e-8)
TOLERANCES = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def linear_size(form: Program) -> int:
    """How many entries the matrices of the linear program of a form have, and of the Jacobians on the way to it."""
    roots = [form.objective, *(r.gap for r in form.constraints)]
    nodes = list(dict.fromkeys(node for root in roots for node in root.walk()))
    width = Layout.of(unknowns(form)).size + sum(map(_variables, nodes))
    return width * max(int(np.prod(node.shape or ())) for node in nodes)


def normals(limit: Limit, layout: Layout, w: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """The linear pieces of a convex constraint at w: its rows [n, z] and those of the cuts that bind [c, z], z its weights and variables.

    Its normals are what nonnegative multiples of both sum to where the variables' part of the sum is 0.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        model = _Tangent([limit.relation.gap], layout, limit.gap.numbers, w)
    bind = [cut.slope[cut.slope @ model.point + cut.offset > -near] for cut in model.cuts]
    return model.rows[limit.relation.gap].slope, np.vstack(bind)


def linear_gap(form: Program, w: np.ndarray, given: Mapping[str, np.ndarray]) -> float | None:
    """f(w) minus a lower bound of the optimum of a convex program, >= 0; None where a slope or the linear program's value is not finite."""
    roots = [form.objective, *(r.gap for r in form.constraints)]
    layout = Layout.of(unknowns(form))
    with np.errstate(invalid="ignore", over="ignore"):
        model = _Tangent(roots, layout, given, w)
    if not all(np.isfinite(row.slope).all() and np.isfinite(row.offset).all() for row in (*model.rows.values(), *model.cuts)):
        return None
    goal, *limits = (model.rows[root] for root in roots)
    sums = np.pad(layout.sums, ((0, 0), (0, model.width - len(w))))
    upper, equal = list(model.cuts), [_Affine(sums, -np.ones(len(sums)))]
    for relation, limit in zip(form.constraints, limits, strict=True):
        (equal if relation.sense == "==" else upper).append(limit)
    least = linprog(
        goal.slope[0],
        **_system("ub", upper),
        **_system("eq", equal),
        bounds=[*zip(layout.lower, layout.upper, strict=True), *[(None, None)] * (model.width - len(w))],
        method="highs",
        options=TOLERANCES,
    )
    if least.status != 0:
        return None
    return max(float(model.values[form.objective]) - float(least.fun) - float(goal.offset[0]), 0.0)


@dataclass(frozen=True)
class Tangent:
    """The value and gradient [k] of a smooth objective at a point [k]."""

    point: np.ndarray
    height: float
    slope: np.ndarray


def dual_gap(function: Function, region: Region, here: Tangent, known: Mapping[str, Any]) -> tuple[float | None, Tangent]:
    """``tangent_gap`` of a smooth convex program by multipliers that are known, whatever found them: no linear program.

    None where a multiplier is missing, or a variable without bounds leaves no bound; with it the tangent that gave it.
    """
    best, where = multiplied(region, here.height, here, known), here
    inside = _inside(here.point, region.layout.lower == 0) if best is not None and best > 1e-9 * (1 + abs(here.height)) else ()
    for point in inside:
        at = Tangent(point, *function.value_and_gradient(point))
        gap = multiplied(region, here.height, at, known)
        if gap is not None and best is not None and gap < best / 2:
            best, where = gap, at
    return best, where


def multiplied(region: Region, value: float, at: Tangent, known: Mapping[str, Any]) -> float | None:
    """The value minus the least of tangent + m (linearised constraints) over simplexes and bounds; None where there is no least.

    For any m >= 0 that least lies below the optimum of a convex program (weak duality).
    """
    layout, height, slope = region.layout, at.height, at.slope
    for limit in region.limits:
        if limit.relation.label not in known:
            return None
        force = told(known[limit.relation.label], limit.equality)
        if force.any():
            height = height + float(force @ limit.gaps(at.point))
            slope = slope + limit.rows(at.point).T @ force
    gap = max(value - height + float(slope @ at.point) - _least(slope, layout), 0.0)
    return gap if np.isfinite(gap) else None


def told(dual: float | Mapping[str, float], equality: bool) -> np.ndarray:
    """A constraint's multipliers as a vector, those of an inequality not negative."""
    entries = np.array([*dual.values()] if isinstance(dual, Mapping) else [dual], dtype=float)
    return entries if equality else np.maximum(entries, 0.0)


def _least(slope: np.ndarray, layout: Layout) -> float:
    """The least of <slope, x> over the simplexes and the bounds of variables."""
    free = ~layout.weights
    bound = np.where(slope[free] > 0, layout.lower[free], layout.upper[free])
    with np.errstate(invalid="ignore"):
        parts = np.where(slope[free] == 0, 0.0, slope[free] * bound)
    return float(sum(slope[where].min() for where in layout.simplexes) + parts.sum())


def _inside(w: np.ndarray, low: np.ndarray) -> list[np.ndarray]:
    """Points a little inside, where some entries that may not be negative (``low``) are nearly 0."""
    if not (w < SMALL)[low].any():
        return []
    return [np.where(low, (1 - share) * w + share / low.sum(), w) for share in INSIDE]


def tangent_gap(form: Program, w: np.ndarray, given: Mapping[str, np.ndarray]) -> tuple[float | None, np.ndarray]:
    """f(w) minus the best of several lower bounds, and the point [k] of the tangents that gave it.

    The points are w and, where it has weights of nearly 0, some a little inside: there a logarithm's slope tells far less.
    """
    layout = Layout.of(unknowns(form))
    function = Function(form.objective, layout.symbols, given)
    value, best, where = function.value(w), linear_gap(form, w, given), w
    loose = best is None or best > 1e-9 * (1 + abs(value))
    for point in _inside(w, layout.lower == 0) if loose else ():
        gap = linear_gap(form, point, given)
        gap = None if gap is None else max(value - function.value(point) + gap, 0.0)
        if gap is not None and (best is None or gap < best / 2):
            best, where = gap, point
    return best, where


@dataclass(frozen=True)
class _Affine:
    """slope z + offset, a row an entry; z holds the weights and one variable for each entry of a kinked atom."""

    slope: np.ndarray
    offset: np.ndarray

    def __neg__(self) -> _Affine:
        return _Affine(-self.slope, -self.offset)

    def minus(self, other: _Affine) -> _Affine:
        """The difference, a single row spread over many."""
        return _Affine(self.slope - other.slope, self.offset - other.offset)


class _Tangent:
    """Expressions at w with tangents for smooth atoms; a kinked one is a variable with cuts: above its pieces, or below."""

    def __init__(self, roots: list[Expr], layout: Layout, given: Mapping[str, np.ndarray], w: np.ndarray):
        nodes = list(dict.fromkeys(node for root in roots for node in root.walk()))
        self.values: dict[Expr, Any] = {}
        self.rows: dict[Expr, _Affine] = {}
        self.cuts: list[_Affine] = []
        self._used = len(w)
        self._live: set[Expr] = set()  # a kink of numbers alone is a number, and needs no variable
        for node in nodes:
            if node in layout.slices or any(a in self._live for a in node.args):
                self._live.add(node)
        self.width = len(w) + sum(_variables(n) for n in nodes if n in self._live)
        self.point = np.append(w, np.zeros(self.width - len(w)))  # the variables at w, as they come
        for node in nodes:
            self.values[node] = self._value(node, layout, given, w)
            self.rows[node] = self._row(node, layout)

    def _value(self, node: Expr, layout: Layout, given: Mapping[str, np.ndarray], w: np.ndarray) -> Any:
        if node in layout.slices:
            return w[layout.slices[node]] if node.shape else w[layout.slices[node]][0]
        if node.op == "constant":
            return node.data.value
        if node.op == "parameter":
            return given[node.data[0]]
        return np.asarray(NUMPY[node.op].value(node, *(self.values[a] for a in node.args)))

    def _row(self, node: Expr, layout: Layout) -> _Affine:
        if node in layout.slices:
            where = layout.slices[node]
            return _Affine(np.eye(where.stop - where.start, self.width, where.start), np.zeros(where.stop - where.start))
        if node not in self._live or not _variables(node):
            return self._linearised(node)
        args = [self.rows[a] for a in node.args]
        bound = self._fresh(self._heights(node))
        pieces = {"abs": [*args, -args[0]], "norm": [*args, -args[0]], "pos": [*args, _Affine(0 * bound.slope, 0 * bound.offset)]}
        if node.op == "tail":
            return self._tail(node, args[0], bound)
        if node.op == "norm" and node.data not in (1, np.inf):  # not piecewise linear, but above these, and above its tangent
            pieces["norm"].append(self._linearised(node))
        below, chosen = node.op in ("min", "minimum"), pieces.get(node.op, args)
        for piece in chosen:
            self.cuts.append(bound.minus(piece) if below else piece.minus(bound))
        summed = node.op == "norm" and node.data == 1
        return _Affine(bound.slope.sum(0, keepdims=True), np.zeros(1)) if summed else bound

    def _tail(self, node: Expr, x: _Affine, bound: _Affine) -> _Affine:
        """The least t + sum of caps pos(x - t): the first variable is t, the others are the excesses over it."""
        level, excess = _Affine(bound.slope[:1], bound.offset[:1]), _Affine(bound.slope[1:], bound.offset[1:])
        self.cuts += [-excess, x.minus(level).minus(excess)]
        return _Affine(level.slope + tail_caps(node)[None] @ excess.slope, level.offset)

    def _heights(self, node: Expr) -> np.ndarray:
        """The values at w of the variables that a node brings."""
        x = np.ravel(self.values[node.args[0]])
        if node.op == "tail":
            order = np.argsort(-x)
            level = x[order[np.argmax(np.cumsum(tail_caps(node)[order]) >= 1 - 1e-12)]]
            return np.append(level, np.maximum(x - level, 0.0))
        return np.abs(x) if node.op == "norm" and node.data == 1 else np.ravel(self.values[node])

    def _fresh(self, heights: np.ndarray) -> _Affine:
        first, self._used = self._used, self._used + len(heights)
        self.point[first : self._used] = heights
        return _Affine(np.eye(len(heights), self.width, first), np.zeros(len(heights)))

    def _linearised(self, node: Expr) -> _Affine:
        value = np.ravel(self.values[node])
        slope, offset = np.zeros((value.size, self.width)), value.astype(float)
        inputs = [np.asarray(self.values[a]) for a in node.args]
        if any(self.rows[a].slope.any() for a in node.args):
            seeds = np.eye(value.size) if node.shape else [1.0]
            pulls = [NUMPY[node.op].pull(node, seed, *inputs) for seed in seeds]
            for j, (arg, x) in enumerate(zip(node.args, inputs, strict=True)):
                if not self.rows[arg].slope.any():
                    continue
                jacobian = np.array([np.ravel(unspread(parts[j], x)) for parts in pulls])
                slope = slope + jacobian @ self.rows[arg].slope
                offset = offset + jacobian @ (self.rows[arg].offset - np.ravel(x))
        return _Affine(slope, offset)


def _variables(node: Expr) -> int:
    """How many variables a node brings: one for each entry of a piecewise linear atom."""
    if node.op not in KINKED:
        return 0
    if node.op == "tail":
        return 1 + len(node.args[0])
    return len(node.args[0]) if node.op == "norm" and node.data == 1 else int(np.prod(node.shape or ()))


def _system(kind: str, rows: list[_Affine]) -> dict[str, np.ndarray | None]:
    if not rows:
        return {}
    return {f"A_{kind}": np.vstack([r.slope for r in rows]), f"b_{kind}": -np.concatenate([r.offset for r in rows])}
