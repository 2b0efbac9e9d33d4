"""Steps into a region whose constraints are convex and not linear: each a small conic program, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import final

import numpy as np

from mixopt.forms import Program
from mixopt.language.atoms import entropy, sum_squares
from mixopt.language.expression import Expr, Relation
from mixopt.language.symbols import parameter
from mixopt.runtime.region import InfeasibleError

from .conic import Conic, conic_table
from .conic_program import ConicProgram

_GOAL = "the goal of a step"


@final
class ConicSteps:
    """Projections and least linear costs over the weights [k] of one mixture under convex constraints, as a region asks for them."""

    def __init__(self, mixture: Expr, constraints: tuple[Relation, ...], given: Mapping[str, np.ndarray]):
        self._mixture, self._constraints, self._given = mixture, constraints, given
        self._goal = parameter(_GOAL, len(mixture))

    def nearest(self, x: np.ndarray) -> np.ndarray:
        """The feasible weights nearest to x in the Euclidean norm."""
        return self._solved(self._nearest, x)

    def tilted(self, centre: np.ndarray, tilt: np.ndarray) -> np.ndarray:
        """argmin over the feasible u of <tilt, u> + KL(u || centre)."""
        logs = np.log(np.clip(centre, np.finfo(float).tiny, None))
        goal = tilt - logs
        return self._solved(self._tilted, goal - goal.mean())

    def lowest(self, g: np.ndarray) -> np.ndarray:
        """The feasible weights at which <g, u> is least."""
        return self._solved(self._lowest, g)

    @cached_property
    def empty(self) -> str:
        """Why no weights satisfy all the constraints, or an empty text."""
        try:
            self.nearest(np.full(len(self._mixture), 1 / len(self._mixture)))
        except InfeasibleError as error:
            return str(error)
        return ""

    @cached_property
    def _nearest(self) -> ConicProgram:
        return self._program(0.5 * sum_squares(self._mixture) - self._goal @ self._mixture)

    @cached_property
    def _tilted(self) -> ConicProgram:
        return self._program(self._goal @ self._mixture - entropy(self._mixture))

    @cached_property
    def _lowest(self) -> ConicProgram:
        return self._program(self._goal @ self._mixture)

    def _program(self, objective: Expr) -> ConicProgram:
        return ConicProgram(Program(self._mixture, objective, self._constraints), conic_table(), self._given)

    def _solved(self, program: ConicProgram, goal: np.ndarray) -> np.ndarray:
        with program.lock:
            failure, _ = Conic().solved(program, {_GOAL: goal})
            found = program.values()
            status = program.status
        if failure or found is None:
            names = ", ".join(repr(r.label) for r in self._constraints)
            why = "no weights satisfy them together" if status == "infeasible" else failure or status
            raise InfeasibleError(f"no step under the constraints {names}: {why}")
        u = np.clip(np.asarray(found[self._mixture], dtype=float), 0.0, None)
        return u / u.sum()
