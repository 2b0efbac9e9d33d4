"""Data mixing laws: one exponential law a validation set, and the mixture that is best for their sum."""

from __future__ import annotations

from collections.abc import Iterable

from mixopt.language.expression import Relation
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import Exponential
from mixopt.method import Method
from mixopt.runs import Runs

from .lawful import Weights, aggregate, law_of


def dml(given: Runs | Exponential, weights: Weights | None = None, *, subject_to: Iterable[Relation] = ()) -> Method:
    r"""min over w of sum_j v_j (c_j + exp(A_j . w)), v the shares of the target text in the validation sets: a convex program.

    ``given`` are runs, which ``laws.Exponential.fit`` fits as it does by itself, or a fitted law; ``weights`` v [m] or by target,
    their mean without. Caps are relations on ``Mixture(domains)``: without them, or a KL term, the optimum may leave the runs.

    The source fits by 6000 starts, lets an AdaBoost of such laws predict, and takes the best point of a grid under caps; the law
    itself is convex, so that ``Conic`` has its optimum with a proof.

    Raises:
        InputError: runs that cannot be fitted, or weights of other targets.

    Source: Ye et al. 2024, arXiv 2403.16952, Eq. 7 and section 4.
    """
    from mixopt.solvers import Conic

    law = law_of(given, Exponential, Exponential.fit)
    w = Mixture(law.domains)
    return Method(minimize(aggregate(law.losses(w), weights), over=w, subject_to=subject_to), Conic(), "Data mixing laws")
