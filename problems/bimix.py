"""BiMix: each domain's loss by its own share alone, and the shares that are best for their sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mixopt.language.expression import Relation
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import BiMix
from mixopt.method import Method
from mixopt.runs import Runs

from .lawful import Weights, aggregate, law_of


def bimix(
    given: Runs | BiMix,
    *,
    steps: float | None = None,
    weights: Weights | None = None,
    own: Mapping[str, str] | None = None,
    subject_to: Iterable[Relation] = (),
) -> Method:
    r"""min over w of sum_i (A_i / w_i^alpha_i) (B_i / s^beta_i + C_i): a separable convex program.

    ``steps`` s of the run that is planned, where the runs have several numbers of steps; ``weights`` v [m] of targets, their mean without.
    Where every domain has a target the optimum is w_i = (alpha_i K_i / nu)^(1 / (1 + alpha_i)), K_i the rest of the law, with nu such
    that the weights sum to 1: ``WaterFilling``, as by the source's multiplier; ``Conic`` where there are constraints. ``own`` is for
    the fit: the domain of each target that is not called so.

    Raises:
        InputError: runs that cannot be fitted, weights of other targets, or steps that lack.

    Source: Ge et al. 2024, arXiv 2405.14908v4, Eq. 3 and section 4; Table 2 of the survey.
    """
    from mixopt.solvers import Conic, WaterFilling

    law = law_of(given, BiMix, BiMix.fit, **({} if own is None else {"own": own}))
    w = Mixture(law.domains)
    losses = law.losses(w, **({} if steps is None else {"steps": steps}))
    problem = minimize(aggregate(losses, weights), over=w, subject_to=subject_to)
    return Method(problem, Conic() if problem.subject_to else WaterFilling(), "BiMix")
