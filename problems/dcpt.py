"""The ratio of continual pre-training: the most of a domain that the general loss can bear."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mixopt.errors import InputError
from mixopt.language.curvature import curvature
from mixopt.language.expression import Relation
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import DCPT
from mixopt.method import Method
from mixopt.runs import Runs

from .lawful import law_of


def dcpt(
    given: Runs | DCPT,
    *,
    domain: str,
    general: str,
    base: float,
    params: float,
    tokens: float,
    rise: float = 0.03,
    own: Mapping[str, str] | None = None,
    subject_to: Iterable[Relation] = (),
) -> Method:
    r"""min over w of L_domain(w_domain) such that (L_general(w_general) - base) / base <= rise.

    ``domain`` and ``general`` are targets of the law; ``base`` is the general loss before continual pre-training, ``rise`` the share by
    which it may rise. Both laws are read at ``params`` N and ``tokens`` D of the run that is planned. With two corpora w_general
    is 1 - w_domain, and where the domain's loss falls and the general loss rises with w_domain the optimum is the root of
    the constraint. The dual of "general loss" is how much domain loss a larger rise would save. ``own`` is for the fit: the domain of
    each target that is not called so. ``Conic`` solves the law as it is fitted here, convex; ``Lagrangian`` one that is not.

    Raises:
        InputError: a target that the law has not, or a base that is not > 0.

    Source: Que et al. 2024, arXiv 2406.01375, section 4.1; B.3.1 of the survey in reading T08 (at most, general loss at 1 - w).
    """
    from mixopt.solvers import Conic, Lagrangian

    if not base > 0:
        raise InputError(f"base is {base}; it is the general loss before continual pre-training, > 0")
    law = law_of(given, DCPT, DCPT.fit, **({} if own is None else {"own": own}))
    w = Mixture(law.domains)
    gain, price = (law[name](w, params=params, tokens=tokens) for name in (domain, general))
    bound = ((price - base) / base <= rise).named("general loss")
    problem = minimize(gain, over=w, subject_to=[bound, *subject_to])
    convex = all(curvature(e) in ("convex", "affine", "constant") for e in (gain, bound.gap))
    return Method(problem, Conic() if convex else Lagrangian(), "D-CPT")
