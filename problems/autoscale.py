"""AutoScale: three amounts of each domain at two small scales, the best amounts at each, and their ratio carried on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from mixopt.designs.perturbations import REDUCED, amounts
from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation, constant
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import AutoScale
from mixopt.method import Method
from mixopt.runs import Runs

from .lawful import Weights, aggregate, law_of


def autoscale(
    given: Runs | AutoScale, *, tokens: float, weights: Weights | None = None, floor: float = 0.0, subject_to: Iterable[Relation] = ()
) -> Method:
    r"""min over amounts n of sum_i (a_i + n_i)^-b_i with sum_i n_i fixed, n_i = w_i D / unit_i: a separable convex program.

    ``given`` are the runs of ``autoscale_runs`` (or any others with tokens), or a law; ``tokens`` D is the size of the run. ``floor`` is
    the least amount of each domain in units of the base run: the released notebook has 0.2 where a weight would turn negative
    and reruns by hand, here the simplex holds without. ``weights`` are of targets, where the table has several.

    The source steps along the gradient less its mean; ``WaterFilling`` has the optimum with a proof, ``Conic`` beside constraints.

    Raises:
        InputError: runs that cannot be fitted, or a floor that is negative.

    Source: Kang et al. 2024, arXiv 2407.20177 (DDO); code feiyang-k/AutoScale.
    """
    from mixopt.solvers import Conic, WaterFilling

    if not floor >= 0:
        raise InputError(f"floor is {floor}; it is an amount >= 0 in units of the base run, 0.2 in the source's notebook")
    law = law_of(given, AutoScale, AutoScale.fit)
    w = Mixture(law.domains)
    least = [(w >= constant(floor * law.unit / tokens, law.domains.names)).named("floor")] if floor else []
    objective = aggregate(law.losses(w, tokens=tokens), weights)
    problem = minimize(objective, over=w, subject_to=[*least, *subject_to])
    return Method(problem, Conic() if len(problem.subject_to) > len(least) else WaterFilling(), "AutoScale")


def autoscale_runs(domains: Domains, tokens: float, faithful_to: Literal["code", "paper"] = "code") -> tuple[np.ndarray, np.ndarray]:
    """The 2k + 1 runs that the law is fitted to: mixtures [2k + 1, k] and tokens [2k + 1].

    First the base run, ``tokens`` spread evenly; then for each domain one run with a fifth of its amount (a third in the text) and the
    others as they are; then one with three times its amount.

    Raises:
        InputError: tokens that are not > 0, or another source than "code" and "paper".
    """
    if faithful_to not in REDUCED:
        raise InputError(f"faithful_to is {faithful_to!r}; it is {listed(REDUCED)}")
    if not tokens > 0:
        raise InputError(f"tokens are {tokens}; the base run needs more than 0")
    found = amounts(len(domains), faithful_to)
    return found / found.sum(axis=1, keepdims=True), found.sum(axis=1) * tokens / len(domains)


def next_scale(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """The best tokens by domain at the next scale, N3 = N2 N2 / N1 of each, from those at two scales; their sum is what comes out.

    Call it again with the last two for the scale after that. Weights are the amounts over their sum.

    Raises:
        InputError: other domains at the two scales, or an amount that is not > 0.

    Source: Kang et al. 2024, arXiv 2407.20177, section 4; notebook AutoScale_example.
    """
    if set(first) != set(second):
        raise InputError(f"the two scales have different domains: {listed(first)} and {listed(second)}")
    for name in first:
        if not (first[name] > 0 and second[name] > 0):
            raise InputError(f"domain {name!r} has {first[name]:g} and {second[name]:g} tokens; both must be > 0 for a ratio")
    return {name: second[name] ** 2 / first[name] for name in first}
