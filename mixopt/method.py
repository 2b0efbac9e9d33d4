"""Methods: a problem together with the solver that its source runs it with."""

from __future__ import annotations

from dataclasses import dataclass

from mixopt.language.problem import Problem
from mixopt.solver import Solver


@dataclass(frozen=True)
class Method:
    """A problem and a solver; every verb accepts one, since averaging, smoothing and update order belong to a method too."""

    problem: Problem
    solver: Solver
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name or 'method'}: {self.solver}\n{self.problem}"
