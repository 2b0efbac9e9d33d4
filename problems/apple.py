"""Apple's scaling laws for mixtures: the best mixture of a run of a given size."""

from __future__ import annotations

from collections.abc import Iterable

from mixopt.language.expression import Relation
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import AppleAdditive, AppleJoint
from mixopt.method import Method
from mixopt.runs import Runs

from .lawful import Weights, aggregate, law_of


def apple(
    given: Runs | AppleAdditive | AppleJoint,
    *,
    params: float,
    tokens: float,
    weights: Weights | None = None,
    subject_to: Iterable[Relation] = (),
) -> Method:
    r"""min over w of sum_j v_j L_j(w, N, D) for a run of ``params`` N and ``tokens`` D: convex as the laws are fitted here.

    Runs are fitted by the additive law, whose best mixture is the same at every size; give ``AppleJoint.fit(runs)`` for one that moves.
    ``weights`` v [m] or by target, their mean without. ``Projected`` takes mirror steps, as the source does, and proves the optimum.

    Raises:
        InputError: runs that cannot be fitted, weights of other targets, or N or D not > 0.

    Source: Shukor et al. 2025, arXiv 2507.09404, section 5; code apple/ml-scalefit.
    """
    from mixopt.solvers import Projected

    law = law_of(given, (AppleAdditive, AppleJoint), AppleAdditive.fit)
    w = Mixture(law.domains)
    losses = law.losses(w, params=params, tokens=tokens)
    return Method(minimize(aggregate(losses, weights), over=w, subject_to=subject_to), Projected(geometry="entropic"), "Apple")
