"""Which domains to use: branch and bound over the supports of mixtures, each node a convex program, or HiGHS where all is linear."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from mixopt.forms import Program, unknowns
from mixopt.language.curvature import curvature
from mixopt.language.expression import Expr
from mixopt.language.support import SUPPORT, Switch, switch
from mixopt.language.symbols import parameter
from mixopt.report.result import Status
from mixopt.runtime.layout import Layout
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region, dense
from mixopt.solver import State

BRANCHED, HIGHS = "branch and bound over supports", "HiGHS' branch and bound"
CLOSE = 1e-7
"""A relaxed weight above this counts as used, and a bound within this of the best value is met."""

Solve = Callable[[np.ndarray, np.ndarray], State]


@final
@dataclass(frozen=True)
class Search:
    """What a search found: the entries that may be used (None: no support is feasible), a bound of the optimum, and how it went."""

    on: np.ndarray | None
    bound: float
    nodes: int
    complete: bool
    by: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.by}, {self.nodes} node{'s' if self.nodes != 1 else ''}"

    def empty(self, start: np.ndarray) -> State:
        """The answer where no support was found."""
        if self.complete:
            return State(start, status=Status.INFEASIBLE, message=f"no choice of domains is feasible ({self})")
        why = "a relaxation could not be solved" if self.failed else "no choice of domains was found to be feasible so far"
        return State(start, status=Status.STUCK if self.failed else Status.BUDGET, message=f"{why} ({self})")

    def told(self, state: State) -> State:
        """The answer on the support that was found, with what is proved of other supports."""
        if state.status is not Status.OPTIMAL:
            return state
        short = max(float(state.info["value"]) - self.bound, 0.0)
        words = f"no other choice of domains is better by more than {short:.1e}, by {self}"
        return replace(state, status=Status.OPTIMAL if self.complete else Status.BUDGET, message=f"{state.message}; {words}")


@final
@dataclass(frozen=True)
class _Rules:
    """All switches on the entries of the unknowns [n]: groups of entries with the most that may be used, and least shares."""

    groups: tuple[tuple[np.ndarray, int], ...]
    least: np.ndarray
    switched: np.ndarray

    @staticmethod
    def of(switches: Sequence[Switch], layout: Layout) -> _Rules:
        least, switched, groups = np.zeros(layout.size), np.zeros(layout.size, dtype=bool), []
        for each in switches:
            at = np.array(each.positions) + layout.slices[each.mixture].start
            switched[at] = True
            least[at] = np.maximum(least[at], each.least)
            if each.most < len(at):
                groups.append((at, each.most))
        return _Rules(tuple(groups), least, switched)

    def fault(self, x: np.ndarray, undecided: np.ndarray) -> int | None:
        """The undecided entry to branch on where x [n] breaks a rule: most between zero and its least share, or the largest of too many."""
        between = np.where(undecided & (x > CLOSE), self.least - x, 0.0)
        if between.max(initial=0.0) > CLOSE:
            return int(np.argmax(between))
        for at, most in self.groups:
            if (x[at] > CLOSE).sum() > most:
                open_ones = at[undecided[at]]
                return int(open_ones[np.argmax(x[open_ones])])
        return None


def switches_of(form: Program) -> tuple[Switch, ...]:
    """The relations of a program that turn weights on and off."""
    return tuple(s for s in map(switch, form.constraints) if s is not None)


def without(form: Program, switches: Sequence[Switch]) -> Program:
    """The program without these relations."""
    left_out = {s.relation for s in switches}
    return replace(form, constraints=tuple(r for r in form.constraints if r not in left_out))


def bounded(form: Program, switches: Sequence[Switch]) -> Program:
    """The program with two more parameters for each mixture that is switched: bounds from below and above."""
    more = [r for m in dict.fromkeys(s.mixture for s in switches) for r in (m >= _bound(m, "lower"), m <= _bound(m, "upper"))]
    return replace(form, constraints=(*form.constraints, *more))


def between(switches: Sequence[Switch], layout: Layout, lower: np.ndarray, upper: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of these parameters for bounds [n]."""
    sides = {"lower": lower, "upper": upper}
    return {_bound(s.mixture, side).data[0]: value[layout.slices[s.mixture]] for s in switches for side, value in sides.items()}


def on_support(on: np.ndarray, switches: Sequence[Switch], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The bounds [n] that leave only the entries ``on``, each with at least its least share."""
    return np.where(on, np.maximum(layout.lower, _Rules.of(switches, layout).least), layout.lower), np.where(on, layout.upper, 0.0)


def _bound(mixture: Expr, side: str) -> Expr:
    return parameter(f"the {side} bounds of {mixture}", len(mixture), nonneg=True)


def branched(switches: Sequence[Switch], layout: Layout, solve: Solve, most_nodes: int) -> Search:
    """Best-first branch and bound: ``solve(lower, upper)`` answers the relaxed program between bounds [n].

    A node decides some entries: used, with at least their least share, or zero. Its relaxation bounds all supports below it.
    Source: Land and Doig 1960.
    """
    rules, ticket = _Rules.of(switches, layout), count()
    best, on, nodes = np.inf, None, 0
    root = (-np.inf, next(ticket), np.zeros(layout.size, dtype=bool), np.zeros(layout.size, dtype=bool))
    heap: list[tuple[float, int, np.ndarray, np.ndarray]] = [root]
    while heap and nodes < most_nodes:
        bound, _, ups, downs = heapq.heappop(heap)
        if bound >= best - CLOSE * (1 + abs(best)):
            return Search(on, best, nodes, True, BRANCHED)
        nodes += 1
        downs = _closed(rules, ups, downs)
        solved = solve(np.where(ups, np.maximum(layout.lower, rules.least), layout.lower), np.where(downs, 0.0, layout.upper))
        if solved.status is Status.INFEASIBLE:
            continue
        if solved.status is not Status.OPTIMAL:
            return Search(on, min([bound, *(node[0] for node in heap)]), nodes, False, BRANCHED, failed=True)
        value, x = float(solved.info["value"]), solved.weights
        if value >= best - CLOSE * (1 + abs(best)):
            continue
        entry = rules.fault(x, rules.switched & ~ups & ~downs)
        if entry is None:
            best, on = value, ~rules.switched | ups | (~downs & (x > CLOSE))
            continue
        one = np.arange(layout.size) == entry
        heapq.heappush(heap, (value, next(ticket), ups | one, downs))
        heapq.heappush(heap, (value, next(ticket), ups, downs | one))
    return Search(on, min([best, *(node[0] for node in heap)]), nodes, not heap, BRANCHED)


def _closed(rules: _Rules, ups: np.ndarray, downs: np.ndarray) -> np.ndarray:
    """Zero is decided for the rest of a group that has as many used entries as it may have."""
    downs = downs.copy()
    for at, most in rules.groups:
        if ups[at].sum() >= most:
            downs[at[~ups[at]]] = True
    return downs


def linear(form: Program, given: Any) -> Region | None:
    """The region of a program's constraints where they and the objective are linear, else None."""
    region = Region.compile(unknowns(form), form.constraints, given)
    return region if curvature(form.objective) == "affine" and region.kind != "nonlinear" else None


def by_highs(form: Program, switches: Sequence[Switch], region: Region, given: Any) -> Search:
    """The support of a mixed-integer linear program by HiGHS, run to a gap of 0."""
    layout = region.layout
    rules, n = _Rules.of(switches, layout), layout.size
    at = np.flatnonzero(rules.switched)
    unit, on = np.eye(n)[at], np.eye(len(at))
    goal, middle = Function(form.objective, layout.symbols, given), layout.middle()
    slope = goal.gradient(middle)
    limits = [
        LinearConstraint(np.hstack([unit, -on * np.minimum(region.upper[at], 1.0)]), ub=0.0),
        LinearConstraint(np.hstack([unit, -on * rules.least[at]]), lb=0.0),
        LinearConstraint(np.hstack([layout.sums, np.zeros((len(layout.sums), len(at)))]), 1.0, 1.0),
        *(LinearConstraint(np.concatenate([np.zeros(n), np.isin(at, group)])[None], ub=most) for group, most in rules.groups),
    ]
    if len(region.h):
        limits.append(LinearConstraint(np.hstack([dense(region.G), np.zeros((len(region.h), len(at)))]), ub=region.h))
    if len(region.b):
        limits.append(LinearConstraint(np.hstack([dense(region.A), np.zeros((len(region.b), len(at)))]), region.b, region.b))
    solved = milp(
        np.concatenate([slope, np.zeros(len(at))]),
        integrality=np.concatenate([np.zeros(n), np.ones(len(at))]),
        bounds=Bounds(np.concatenate([region.lower, np.zeros(len(at))]), np.concatenate([region.upper, np.ones(len(at))])),
        constraints=limits,
        options={"mip_rel_gap": 0.0},
    )
    offset = goal.value(middle) - slope @ middle
    if solved.x is None:
        return Search(None, np.inf, 0, solved.status == 2, HIGHS)
    chosen = ~rules.switched
    chosen[at] = (solved.x[n:] > 0.5) & (solved.x[at] > SUPPORT)
    return Search(chosen, float(solved.mip_dual_bound) + offset, int(solved.mip_node_count), solved.status == 0, HIGHS)
