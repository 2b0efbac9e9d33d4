"""The matrices of a cvxpy problem as affine maps of its parameters, so that CLARABEL runs again without compiling or copying anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from scipy.sparse import csc_array


@final
class ConeData:
    """min x'Px / 2 + q'x over Ax + s = b, s in the cones, where P, q, A and b are affine in the parameters' numbers.

    cvxpy compiles them once, its parameters holding any numbers; the maps are its own (``ParamConeProg``), which differentiable
    layers use as well. ``parameters`` are cvxpy's, by name.
    """

    def __init__(self, problem: Any, parameters: Mapping[str, Any], settings: Mapping[str, Any]):
        from cvxpy.reductions.solvers.conic_solvers.clarabel_conif import dims_to_solver_cones

        data, self._chain, self._inverse = problem.get_problem_data("CLARABEL", solver_opts=dict(settings))
        self._compiled, self._cones = data["param_prob"], dims_to_solver_cones(data["dims"])
        for part in (self._compiled.reduced_A, self._compiled.reduced_P):
            part.cache()
        columns = self._compiled.param_id_to_col
        self._columns = {name: slice(columns[p.id], columns[p.id] + p.size) for name, p in parameters.items() if p.id in columns}

    def matrices(self, given: Mapping[str, np.ndarray]) -> tuple[csc_array, np.ndarray, csc_array, np.ndarray]:
        """P (its upper triangle), q, A and b at these numbers."""
        compiled, theta = self._compiled, np.ones(self._compiled.total_param_size + 1)
        for name, where in self._columns.items():
            theta[where] = given[name]
        q, count = (compiled.q @ theta)[:-1], compiled.x.size
        values, (rows, ends, shape) = compiled.reduced_A.reduced_mat @ theta, compiled.reduced_A.problem_data_index
        last = ends[-2]  # the last column is b
        b = np.zeros(shape[0])
        b[rows[last:]] = values[last:]
        A = csc_array((-values[:last], rows[:last], ends[:-1]), shape=(shape[0], count))
        if compiled.P is None:
            return csc_array((count, count)), q, A, b
        values, (rows, ends, shape) = compiled.reduced_P.reduced_mat @ theta, compiled.reduced_P.problem_data_index
        columns = np.repeat(np.arange(count), np.diff(ends))
        upper = rows <= columns
        kept = np.append(0, np.cumsum(np.bincount(columns[upper], minlength=count)))
        return csc_array((values[upper], rows[upper], kept), shape=(count, count)), q, A, b

    def solution(self, given: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Any:
        """cvxpy's solution at these numbers: its status, the values of variables and the multipliers, by cvxpy's ids.

        Raises:
            TypeError: the solver has no such setting.
        """
        import clarabel

        options = {"verbose": False, **settings}
        chosen = self._chain.solver.parse_solver_opts(options.pop("verbose"), options)
        return self._chain.invert(clarabel.DefaultSolver(*self.matrices(given), self._cones, chosen).solve(), self._inverse)
