"""Relations over the sizes of domains."""

from __future__ import annotations

import math

from mixopt.errors import ProblemError
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.symbols import domains_of


def epochs(w: Expr, budget: float, at_most: float) -> Relation:
    """Repetition caps: a run of ``budget`` tokens passes over no domain more than ``at_most`` times.

    w_i <= at_most * tokens_i / budget for each domain [k]; sizes come from ``Domains(..., tokens=...)``.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise ProblemError(f"the budget is {budget} tokens; it is a finite number > 0")
    if not (math.isfinite(at_most) and at_most > 0):
        raise ProblemError(f"at_most is {at_most} epochs; it is a finite number > 0")
    domains = domains_of(w)
    return w <= constant(at_most * domains.sizes / budget, domains.names)
