"""A program as a cvxpy problem: built once with its parameters left open, and run again with other numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, final

import numpy as np

from mixopt.errors import ProblemError
from mixopt.forms import Program, parameters, unknowns
from mixopt.language.expression import Expr, Relation
from mixopt.report.check import by_name

from .cone_data import ConeData

Table = Mapping[str, Callable[..., Any]]


@final
class ConicProgram:
    """The cvxpy problem of a program with its variables by symbol and its constraints in the program's order.

    Parameters that ``given`` does not hold are left open until ``solve``. ``open`` tells whether cvxpy can then keep
    what it has compiled (the rules of disciplined parametrised programming, Agrawal et al. 2019); where it cannot, build
    the problem with its numbers. One run at a time: hold ``lock`` from ``solve`` to the last value read.
    """

    def __init__(self, form: Program, table: Table, given: Mapping[str, np.ndarray] | None = None):
        import cvxpy as cp

        self.form, known = form, dict(given or {})
        self.lock = Lock()
        self.variables = {s: cp.Variable(s.shape or (), name=str(s), nonneg=s.op == "mixture") for s in unknowns(form)}
        left = [p for p in parameters(form) if p.data[0] not in known]
        self.parameters = {p.data[0]: cp.Parameter(p.shape or (), name=p.data[0], nonneg=p.data[1]) for p in left}
        lowered = _Lowering(self.variables, {**known, **self.parameters}, table)
        self.objective = lowered(form.objective)
        self.limits = [_relation(r, lowered) for r in form.constraints]
        self.problem = cp.Problem(cp.Minimize(self.objective), [*self.limits, *_own_bounds(self.variables)])
        self.open = not self.parameters or _parametrised(self.problem)
        self._data: ConeData | None = None
        self.solution: Any = None

    def solve(self, given: Mapping[str, np.ndarray], solver: str, settings: Mapping[str, Any]) -> None:
        """Solve with these numbers; CLARABEL from matrices that are kept, so that a run again costs little more than its own time.

        Raises:
            cvxpy.SolverError: the solver failed.
        """
        import cvxpy as cp

        self.solution = None
        if solver != "CLARABEL" or self._data is None:
            for name, parameter in self.parameters.items():
                parameter.value = given[name]
        if solver != "CLARABEL":
            self.problem.solve(solver=solver, **settings)
            self.solution = self.problem.solution
            return
        if self._data is None:
            self._data = ConeData(self.problem, self.parameters, settings)
        found = self._data.solution(given, settings)
        if found.status == "solver_error":
            raise cp.error.SolverError("Solver 'CLARABEL' failed. Try another solver, or other settings.")
        self.solution = found

    @property
    def status(self) -> str:
        """cvxpy's word for how the last solve ended."""
        return "" if self.solution is None else str(self.solution.status)

    def values(self) -> dict[Expr, Any] | None:
        """The value of each unknown after a solve, or None where the solver left none."""
        found = {} if self.solution is None else self.solution.primal_vars
        values = {s: found.get(v.id) for s, v in self.variables.items()}
        return None if any(v is None for v in values.values()) else values

    def duals(self) -> dict[str, float | dict[str, float]]:
        """The multipliers by the constraints' names: cvxpy's of gap <= 0 are ours."""
        found = self.solution.dual_vars
        return {r.label: by_name(r, np.ravel(found[limit.id])) for r, limit in zip(self.form.constraints, self.limits, strict=True)}


def _parametrised(problem: Any) -> bool:
    """Whether the parameters enter by the rules of disciplined parametrised programming."""
    return bool(problem.is_dcp(dpp=True))


def _own_bounds(variables: Mapping[Expr, Any]) -> list[Any]:
    """What a symbol promises by itself: the sum of a mixture, the bounds of a variable."""
    import cvxpy as cp

    limits = [cp.sum(v) == 1 for s, v in variables.items() if s.op == "mixture"]
    for symbol, v in variables.items():
        if symbol.op == "variable":
            lower, upper = (np.array(bound).reshape(symbol.shape or ()) for bound in symbol.data[1:])
            limits += _finite(v, lower, 1) + _finite(v, upper, -1)
    return limits


def _finite(v: Any, bound: np.ndarray, sense: int) -> list[Any]:
    """v >= bound (or <= for -1) where the bound is finite."""
    at = np.flatnonzero(np.isfinite(bound))
    if len(at) == 0:
        return []
    return [sense * (v - bound) >= 0] if len(at) == bound.size else [sense * (v[at] - bound[at]) >= 0]


def _relation(relation: Relation, lowered: _Lowering) -> Any:
    gap = lowered(relation.gap)
    return gap == 0 if relation.sense == "==" else gap <= 0


class _Lowering:
    """Expressions as cvxpy expressions of the unknowns, with parameters as given; shared nodes are built once."""

    def __init__(self, variables: Mapping[Expr, Any], given: Mapping[str, Any], table: Table):
        self._given, self._table = given, table
        self._known: dict[Expr, Any] = dict(variables)

    def __call__(self, expr: Expr) -> Any:
        for node in expr.walk():
            if node in self._known:
                continue
            if node.op == "constant":
                self._known[node] = node.data.value
            elif node.op == "parameter":
                self._known[node] = self._given[node.data[0]]
            elif node.op in self._table:
                self._known[node] = self._table[node.op](node, *(self._known[a] for a in node.args))
            else:
                raise ProblemError(f"'{node}' is not a number that a conic solver can take")
        return self._known[expr]
