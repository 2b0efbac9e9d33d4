"""Projected descent on a program: Newton or spectral gradient steps, or mirror descent with backtracking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixopt.errors import InputError
from mixopt.forms import Abilities, Form, Program, kind, one_mixture, sides
from mixopt.language.curvature import curvature, smooth
from mixopt.report.result import Status
from mixopt.runtime.descent import begin, mirror_step
from mixopt.runtime.newton import newton_step
from mixopt.runtime.program import Function
from mixopt.runtime.simplex import smoothed
from mixopt.runtime.tilt import tilted
from mixopt.solver import Pace, Solver, State, Task

from .constraints import Geometry, refuses_blind, refuses_region

MOST = 128
"""With more domains, second derivatives by differences cost more than they save."""
_SOFT = {
    "max": "logsumexp(x, temperature)",
    "pos": "softplus(x)",
    "abs": "huber(x, delta)",
    "maximum": "softplus(x - y) + y",
    "minimum": "y - softplus(y - x)",
    "min": "-logsumexp(-x, temperature)",
}
"""What is near a kinked atom and smooth."""


@dataclass(frozen=True)
class Projected(Solver):
    """Descent of a smooth program over the weights, convex or not, until the Frank-Wolfe gap is below ``tolerance``.

    Euclidean (reaches exact zeros): projected Newton steps, their second derivatives differences of gradients; over more than
    128 domains, where a step's model has no minimum, and with ``newton=False``, spectral projected gradient. Entropic: mirror
    descent with backtracking (weights stay > 0). A convex program ends OPTIMAL, any other STATIONARY: a local optimum as far as
    first order tells.

    Source: Bertsekas 1982 for the Newton step; Birgin, Martinez and Raydan 2000; Beck and Teboulle 2003 for the mirror step.
    """

    geometry: Geometry = "euclidean"
    steps: int = 5000
    tolerance: float = 1e-8
    newton: bool = True

    def __post_init__(self) -> None:
        if self.geometry not in ("entropic", "euclidean"):
            raise InputError(f"the geometry is {self.geometry!r}; it is 'entropic' (mirror steps) or 'euclidean' (projections)")

    def refuses(self, form: Form, abilities: Abilities | None) -> tuple[str, ...]:
        if not isinstance(form, Program):
            return (f"it takes programs, and this is a {kind(form)}",)
        unseen = refuses_blind(form.objective, *sides(form))
        if unseen:
            return unseen
        reasons = [*one_mixture(form)] or list(refuses_region(form.constraints))
        kink = smooth(form.objective)
        if kink is not None:
            soft = f"; {_SOFT[kink.op]} is smooth" if kink.op in _SOFT else ""
            reasons.append(f"the objective has a kink at '{kink}', where descent along a gradient can stall{soft}")
        return tuple(reasons)

    def pace(self, task: Task) -> Pace:
        return Pace(self.steps, 1, "best")

    def begin(self, task: Task) -> State:
        assert isinstance(task.form, Program)
        function = Function(task.form.objective, task.form.mixture, task.given)
        w = task.start
        if self.geometry == "entropic" and (w == 0).any():  # entropic steps never leave a weight of 0
            w = tilted(task.region, smoothed(w, 1e-3), np.zeros(len(w)))
        at = begin(function, w)
        convex = curvature(task.form.objective) in ("convex", "affine")
        return State(at.w, (function, at, convex))

    def step(self, task: Task, state: State) -> State:
        function, at, convex = state.memory
        if self.geometry == "entropic":
            new = mirror_step(function, task.region, at)
        else:
            new = newton_step(function, task.region, at, MOST if self.newton else 0)
        gap = float(new.gradient @ (new.w - task.region.lowest(new.gradient)))
        info: dict[str, Any] = {"value": new.value, "gap": gap}
        state = State(new.w, (function, new, convex), info)
        if not np.isfinite(new.value):
            return state
        if gap <= self.tolerance * (1 + abs(new.value)):
            return replace(state, status=Status.OPTIMAL if convex else Status.STATIONARY)
        return replace(state, status=Status.STUCK) if new.stuck else state

    def leaves(self, state: State) -> None:
        return None
