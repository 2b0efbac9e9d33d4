"""Conflicts: of the constraints that no weights satisfy together, a least set that already conflicts, and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.optimize import linprog

from mixopt.language import atoms
from mixopt.language.curvature import curvature
from mixopt.language.expression import Expr, Relation, constant
from mixopt.runtime.layout import Layout
from mixopt.runtime.region import Limit, Region

from .kinks import TOLERANCES

SMALL = 1e-8

Least = Callable[[Expr, tuple[Relation, ...]], "float | None"]
"""The least value of a convex expression over the weights that satisfy some relations, inf where none do, None where not settled."""


@final
@dataclass(frozen=True)
class Conflict:
    """Constraints that no weights satisfy together, while any proper part of them can be met.

    ``slack`` has for each name by how much that constraint alone would have to give way (its left side minus its right, at
    the entry where that is largest) for the others of the set to hold; NaN where it has no measure, as a number of domains.
    """

    slack: Mapping[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """The labels of the constraints, in the problem's order."""
        return tuple(self.slack)

    def __str__(self) -> str:
        *others, last = map(repr, self.names)
        together = f"{', '.join(others)} and {last} together" if others else last
        ways = " or ".join(f"{name!r} gave way by {by:.4g}" for name, by in self.slack.items() if not math.isnan(by))
        return f"no weights satisfy {together}" + (f"; they would if {ways}" if ways else "")


class _UnsettledError(Exception):
    """A program of the search was not solved."""


def conflict(region: Region, least: Least) -> Conflict | None:
    """The conflict among the constraints of a region, or None where they can be met or that is not settled.

    Some constraints can be met together where the least over the weights of their largest violation, each divided by the
    size of its gradient, is not above zero. Limits on supports hold or do not; others that are not convex are left aside.

    Source: Junker 2004 (QuickXplain), Algorithm 1: one program for each half that is dropped, a linear one where all are linear.
    """
    try:
        return _Search(region.layout, [limit for limit in region.limits if _taken(region.layout, limit, least)], least).found()
    except _UnsettledError:
        return None


class _Search:
    """One search: what counts as infeasible is fixed by the violation of all constraints together."""

    def __init__(self, layout: Layout, limits: list[Limit], least: Least):
        self._layout, self._limits, self._least, self._tolerance = layout, limits, least, SMALL
        self._rows = {limit.relation.label: _rows(limit) for limit in limits if limit.linear}

    def found(self) -> Conflict | None:
        if not self._limits:
            return None
        worst = self._worst(self._limits)
        if worst <= SMALL:
            return None
        self._tolerance = max(min(1e-7, worst / 10), SMALL / 10)
        core = self._explained([], False, self._limits)
        least = [limit for limit in self._limits if limit in core]
        return Conflict({one.relation.label: self._alone(one, [o for o in least if o is not one]) for one in least})

    def _explained(self, kept: list[Limit], grown: bool, rest: list[Limit]) -> list[Limit]:
        """A least part of ``rest`` that conflicts with ``kept``; ``grown`` says that ``kept`` alone may now conflict."""
        if grown and self._worst(kept) > self._tolerance:
            return []
        if len(rest) == 1:
            return rest
        half = len(rest) // 2
        second = self._explained(kept + rest[:half], True, rest[half:])
        return self._explained(kept + second, bool(second), rest[:half]) + second

    def _worst(self, limits: list[Limit]) -> float:
        if all(limit.linear for limit in limits):
            return self._worst_linear(limits)
        hard = tuple(limit.relation for limit in limits if not _convex(limit))
        parts = [_violation(limit.relation, gradient_size(limit)) for limit in limits if _convex(limit)]
        while len(parts) > 1:
            parts = [atoms.maximum(*parts[i : i + 2]) if i + 1 < len(parts) else parts[i] for i in range(0, len(parts), 2)]
        value = self._least(atoms.pos(parts[0]) if parts else _nothing(self._layout), hard)
        if value is None:
            raise _UnsettledError
        return value if parts or math.isinf(value) else 0.0

    def _worst_linear(self, limits: list[Limit]) -> float:
        """The least t with every scaled gap <= t, by HiGHS."""
        layout = self._layout
        rows = np.vstack([self._rows[limit.relation.label] for limit in limits])
        solved = linprog(
            np.append(np.zeros(layout.size), 1.0),
            A_ub=np.column_stack([rows[:, :-1], -np.ones(len(rows))]),
            b_ub=rows[:, -1],
            A_eq=np.column_stack([layout.sums, np.zeros(len(layout.sums))]),
            b_eq=np.ones(len(layout.sums)),
            bounds=[*zip(layout.lower, layout.upper, strict=True), (0, None)],
            method="highs",
            options=TOLERANCES,
        )
        if solved.status != 0:
            raise _UnsettledError
        return float(solved.fun)

    def _alone(self, one: Limit, others: list[Limit]) -> float:
        if not _convex(one):
            return math.nan
        size = gradient_size(one)
        value = self._least(atoms.pos(_violation(one.relation, size)), tuple(map(_scaled, others)))
        return math.nan if value is None or math.isinf(value) else value * size


def _convex(limit: Limit) -> bool:
    bend = curvature(limit.relation.gap)
    return bend in ("affine", "constant") or (bend == "convex" and not limit.equality)


def _taken(layout: Layout, limit: Limit, least: Least) -> bool:
    return _convex(limit) or least(_nothing(layout), (limit.relation,)) is not None


def _nothing(layout: Layout) -> Expr:
    """An objective that is the same at all weights."""
    return atoms.sum(next(s for s in layout.symbols if s.op == "mixture"))


def _scaled(limit: Limit) -> Relation:
    """The same constraint with a gradient of length 1."""
    if not _convex(limit):
        return limit.relation
    return Relation(limit.relation.gap * (1 / gradient_size(limit)), "==" if limit.equality else "<=", constant(0.0))


def _violation(relation: Relation, size: float) -> Expr:
    """By how much a relation is broken [], at its worst entry; below zero where an inequality has room."""
    gap = atoms.abs(relation.gap) if relation.sense == "==" else relation.gap
    worst = atoms.max(gap) if gap.shape else gap
    return worst if size == 1 else worst * (1 / size)


def _rows(limit: Limit) -> np.ndarray:
    """A linear constraint as scaled rows of G x <= h, [n, k + 1] with h last; an equality is two inequalities."""
    x = np.zeros(limit.gap.size)
    rows = np.column_stack([limit.gap.jacobian(x), -np.atleast_1d(limit.gap.value(x))]) / gradient_size(limit)
    return np.vstack([rows, -rows]) if limit.equality else rows


def gradient_size(limit: Limit) -> float:
    """The length of the largest gradient of a constraint's entries at uniform weights, by which its violations are measured."""
    with np.errstate(all="ignore"):
        rows = limit.gap.jacobian(np.full(limit.gap.size, 1 / limit.gap.size))
        largest = float(np.linalg.norm(rows, axis=1).max(initial=0.0))
    return largest if np.isfinite(largest) and largest > 0 else 1.0
