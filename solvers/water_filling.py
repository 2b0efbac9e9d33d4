"""Water-filling: sums of convex functions of one weight each, by one bisection on the multiplier of the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import brentq

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form, Program, kind, one_mixture
from mixopt.language.curvature import curvature
from mixopt.language.expression import Expr
from mixopt.language.separable import mixing
from mixopt.report.result import Status
from mixopt.runtime.program import Function
from mixopt.solver import Pace, Solver, State, Task

HALVINGS = 60
NEAR = 1e-12


@dataclass(frozen=True)
class WaterFilling(Solver):
    """min over w of sum_i f_i(w_i) with each f_i convex and bounds on the weights: f_i'(w_i) = -nu wherever a bound does not hold w_i.

    One gradient of the sum has all slopes f_i'(w_i), each of which rises with its own weight alone. So for a trial nu every weight is
    found by bisection, all at once, and their sum falls with nu, which is found by bisection too: no step size, and no tolerance
    but rounding. Laws in which each domain counts by itself are such sums: BiMix, AutoScale, w^-alpha. Ends OPTIMAL.

    Source: Boyd and Vandenberghe 2004, Convex Optimization, example 5.2.
    """

    goes_on: ClassVar[bool] = False

    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            raise InputError(f"WaterFilling's tolerance is {self.tolerance!r}; it is a number > 0, relative to the objective")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Program):
            return (f"it takes programs, and this is a {kind(form)}",)
        reasons = list(one_mixture(form))
        if curvature(form.objective) not in ("convex", "affine"):
            reasons.append("the objective is not convex by the rules, so that slopes need not rise with the weights")
        node = mixing(form.objective)
        if node is not None:
            reasons.append(f"the objective is no sum of functions of one weight each: '{node}' mixes several")
        wide = [r.label for r in form.constraints if curvature(r.gap) != "affine" or not _bounds(r.gap, form)]
        return (*reasons, *(f"constraint '{label}' is no bound on single weights" for label in wide))

    def pace(self, task: Task) -> Pace:
        return Pace(1)

    def begin(self, task: Task) -> State:
        return State(task.start)

    def step(self, task: Task, state: State) -> State:
        region, slopes = task.region, task.objective.gradient
        low, high = region.lower, np.minimum(region.upper, 1.0)
        w = region.layout.exact(filled(slopes, low, high))
        gradient = slopes(w)
        value = task.objective.value(w)
        gap = float(gradient @ (w - region.lowest(gradient))) if np.isfinite(gradient).all() else np.inf
        sure = gap <= self.tolerance * (1 + abs(value))
        return State(w, info={"value": value, "gap": gap}, status=Status.OPTIMAL if sure else Status.STUCK)

    def leaves(self, state: State) -> None:
        return None


def filled(slopes: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The weights [k] between ``low`` and ``high`` with sum 1 and one slope where no bound holds them."""

    def at(level: float) -> np.ndarray:
        """The largest weights whose slopes are at most ``level``, else the lower bound."""
        a, b = low, high
        for _ in range(HALVINGS):
            middle = (a + b) / 2
            below = slopes(middle) <= level
            a, b = np.where(below, middle, a), np.where(below, b, middle)
        return np.where(slopes(high) <= level, high, a)

    room = (high - low).sum()
    some = low + (high - low) * ((1 - low.sum()) / room if room > 0 else 0.0)
    ends = slopes(some)[high > low]  # the level lies between the least and the largest slope at any weights that sum to 1
    under, over = (float(ends.min()), float(ends.max())) if ends.size else (0.0, 0.0)
    under, over = under - NEAR * (1 + abs(under)), over + NEAR * (1 + abs(over))
    if at(under).sum() < 1 < at(over).sum():
        level = brentq(lambda level: at(level).sum() - 1, under, over, xtol=NEAR * NEAR, rtol=4 * np.finfo(float).eps, maxiter=500)
        under, over = level - NEAR * (1 + abs(level)), level + NEAR * (1 + abs(level))
    less, more = at(under), at(over)  # apart where costs tie, or nearly
    rest = (more - less).sum()
    return less + (more - less) * (float(np.clip((1 - less.sum()) / rest, 0, 1)) if rest > 0 else 0.0)


def _bounds(gap: Expr, form: Program) -> bool:
    """Whether every entry of an affine gap depends on one weight at most."""
    function = Function(gap, form.mixture, {n.data[0]: np.ones(n.shape or ()) for n in gap.walk() if n.op == "parameter"})
    rows = np.atleast_2d(function.jacobian(np.full(function.size, 1 / function.size)))
    return bool(((rows != 0).sum(axis=1) <= 1).all())
