"""Why a task has no feasible weights: its least conflicting constraints, found by conic programs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mixopt.forms import Program
from mixopt.language.expression import Expr, Relation
from mixopt.report.conflict import Conflict, conflict
from mixopt.report.result import Status
from mixopt.solver import State, Task

from .conic import Conic

NODES = 500
"""The most nodes of a search over supports."""


def conflict_of(task: Task) -> Conflict | None:
    """The conflict among a task's constraints, or None where they can be met, are not convex, or that is not settled."""
    solver = Conic(nodes=NODES)

    def least(objective: Expr, constraints: tuple[Relation, ...]) -> float | None:
        form = task.form
        if isinstance(form, Program):
            form = replace(form, objective=objective, constraints=constraints, maximised=False)
        else:
            form = Program(form.mixture, objective, constraints)
        if solver.refuses(form, None):
            return None
        state = solver.step(replace(task, form=form, model=None), State(task.start))
        if state.status is Status.INFEASIBLE:
            return np.inf
        if state.status is not Status.OPTIMAL or not np.isfinite(state.info["value"]):
            return None
        return float(state.info["value"])

    return conflict(task.region, least)
