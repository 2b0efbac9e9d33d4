"""SciPy's solvers of nonlinear programs, SLSQP and trust-constr, as alternatives to an augmented Lagrangian of our own."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from scipy.optimize import BFGS, Bounds, LinearConstraint, NonlinearConstraint, minimize

from mixopt.forms import Program
from mixopt.report.check import ACTIVE, program_check
from mixopt.report.result import Status
from mixopt.runtime.region import Limit, dense
from mixopt.solver import State, Task

Method = Literal["slsqp", "trust-constr"]
NEAR = 1e-5
"""A KKT residual below this share of the gradient's size, or a gap below this share of the value, is called a solution."""


def scipy_state(task: Task, method: Method, steps: int, tolerance: float) -> State:
    """The state at which SciPy's method ends from the task's start; solved is what our own certificate calls so."""
    form, region = task.form, task.region
    assert isinstance(form, Program)
    options: dict[str, Any] = {"maxiter": steps}
    if method == "slsqp":
        options |= {"ftol": tolerance * 1e-4}
    else:  # its gtol does not look at complementarity, so the radius and the barrier end it
        options |= {"gtol": 1e-14, "xtol": 1e-10, "barrier_tol": tolerance / 10}
        options |= {"initial_barrier_parameter": 1e-3, "initial_barrier_tolerance": 1e-3}
    extra = {} if method == "slsqp" else {"hess": BFGS()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "delta_grad == 0.0")  # of a function that is linear where it has been
        warnings.filterwarnings("ignore", "Values in x were outside bounds")
        warnings.filterwarnings("ignore", "Singular Jacobian matrix")
        found = minimize(
            task.objective.value,
            task.start,
            jac=task.objective.gradient,
            method=method,
            bounds=Bounds(region.lower, np.minimum(region.upper, 1.0), keep_feasible=True),
            constraints=_constraints(task, method),
            options=options,
            **extra,
        )
    w = region.layout.exact(found.x)
    value, slope = task.objective.value_and_gradient(w)
    check, duals = program_check(form, region, w, task.given, None, task.objective)
    off, kkt, gap = max(check.constraints.values(), default=0.0), check.kkt, check.gap
    close = (kkt is not None and kkt <= NEAR * (1 + float(np.linalg.norm(slope)))) or (gap is not None and gap <= NEAR * (1 + abs(value)))
    sure = off <= ACTIVE and close
    status = (Status.OPTIMAL if form.convex else Status.STATIONARY) if sure else Status.BUDGET if found.nit >= steps else Status.STUCK
    said = f"SciPy's {method}: {found.message} after {found.nit} iterations"
    return State(w, info={"value": value, "violation": off}, status=status, message=said, duals=duals)


def _constraints(task: Task, method: Method) -> list[Any]:
    """The sum of the weights, linear rows and nonlinear limits as this method takes them."""
    region, k = task.region, task.region.size
    rows = [(np.ones((1, k)), np.ones(1), np.ones(1))]
    if len(region.b):
        rows.append((dense(region.A), region.b, region.b))
    if len(region.h):
        rows.append((dense(region.G), np.full(len(region.h), -np.inf), region.h))
    bent = [limit for limit in region.limits if not limit.linear]
    if method == "trust-constr":
        linear = [LinearConstraint(matrix, low, high) for matrix, low, high in rows]
        return [*linear, *(NonlinearConstraint(b.gaps, _low(b), 0.0, jac=lambda w, b=b: dense(b.rows(w)), hess=BFGS()) for b in bent)]
    told: list[Any] = []
    for matrix, low, high in rows:
        equal = bool(np.isfinite(low).all())
        told.append(
            {
                "type": "eq" if equal else "ineq",
                "fun": lambda w, m=matrix, v=high: v - m @ w,
                "jac": lambda w, m=matrix: -m,
            }
        )
    told += [
        {"type": "eq" if b.equality else "ineq", "fun": lambda w, b=b: -b.gaps(w), "jac": lambda w, b=b: -dense(b.rows(w))} for b in bent
    ]
    return told


def _low(limit: Limit) -> float:
    """The least that a gap may be."""
    return 0.0 if limit.equality else -np.inf
