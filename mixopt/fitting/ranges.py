"""How far each domain's weight can move while what is minimised stays within a tolerance: two conic solves a domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.api import plan
from mixopt.errors import RefusalError
from mixopt.language.expression import Expr, Relation
from mixopt.language.problem import Problem, maximize, minimize
from mixopt.report.result import Result, Status
from mixopt.solvers import Conic


@final
@dataclass(frozen=True, eq=False)
class Answer:
    """A solved problem, and whether a cone solver solved it, whose optimum is global."""

    result: Result
    certified: bool

    @property
    def weights(self) -> np.ndarray:
        """The weights [k], exactly on the simplex."""
        return np.array(list(self.result.weights.values()))


def answer(problem: Problem, seed: int = 0) -> Answer:
    """The answer of the conic solver, or where it refuses the problem, that of the solver that ``solve`` chooses.

    Raises:
        KeyboardInterrupt: it was interrupted, for which ``solve`` hands back what there is.
    """
    try:
        chosen, certified = plan(problem, solver=Conic()), True
    except RefusalError:
        chosen, certified = plan(problem), False
    result = chosen.run(seed=seed)
    if result.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return Answer(result, certified)


def ranges(
    w: Expr,
    relations: Sequence[Relation],
    within: Mapping[str, tuple[Expr, float]],
    optimum: np.ndarray,
    box: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest weight [k] of each domain among the feasible mixtures where every expression is at most its number.

    ``within`` maps a name to a convex expression [] of the mixture ``w`` and the most that it may be; ``optimum`` [k] is a
    point of the set, ``box`` what the relations alone allow each weight.
    """
    limits = (*relations, *((expr <= most).named(name) for name, (expr, most) in within.items()))
    low, high = optimum.copy(), optimum.copy()
    for i in range(len(w)):
        least, most = max(box[0][i], 0.0), min(box[1][i], 1.0)
        if most - least < 1e-9:
            continue
        low[i] = max(least, min(low[i], _entry(minimize(w[i], over=w, subject_to=limits), i, low[i])))
        high[i] = min(most, max(high[i], _entry(maximize(w[i], over=w, subject_to=limits), i, high[i])))
    return low, high


def _entry(problem: Problem, i: int, known: float) -> float:
    """The optimal weight of entry i; the known one where a set that is all but a point leaves the solver without any."""
    result = answer(problem).result
    feasible = result.check is not None and result.check.feasible
    return known if result.vector is None or not feasible else float(result.vector[i])
