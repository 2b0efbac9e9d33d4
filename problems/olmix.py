"""Olmix: log-linear laws of proxy runs, kept near the natural proportions and within what the data allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mixopt.errors import InputError
from mixopt.language import graph
from mixopt.language.atoms import kl
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation
from mixopt.language.problem import minimize
from mixopt.language.symbols import Mixture
from mixopt.laws import Exponential
from mixopt.method import Method
from mixopt.runs import Runs

from .lawful import Weights, aggregate, law_of


def olmix(
    given: Runs | Exponential,
    tokens: Mapping[str, float],
    *,
    prior: Mapping[str, float] | None = None,
    kl_weight: float = 0.05,
    weights: Weights | None = None,
    budget: float | None = None,
    at_most: float = 4.0,
    subject_to: Iterable[Relation] = (),
) -> Method:
    r"""min over w of sum_j v_j (c_j + exp(A_j . w)) + lambda KL(w || natural), w_i <= at_most N_i / budget: a convex program.

    ``tokens`` N by domain are what there is of each; natural are their shares, or the ``prior``, shares too. ``budget`` tokens
    are the target run's, in which no domain is passed over more than ``at_most`` times; without it there are no caps. Weights of
    targets that are left out are 1/m each and those that are given stay as they are, as in the code, so that lambda means more
    beside weights that sum to less. Metrics are bits per byte in the source.

    The code fits by 300 starts of L-BFGS on Huber of width 0.02 (``laws.Exponential.olmix`` has that objective) and leaves out
    c, which moves no optimum. Its YAML default of lambda is none, which fails; 0.05 is the function's.

    Raises:
        InputError: runs that cannot be fitted, domains whose tokens or prior are missing, or a lambda that is negative.

    Source: Chen et al. 2026, arXiv 2602.12237; code allenai/olmix.
    """
    from mixopt.solvers import Conic

    if not kl_weight >= 0:
        raise InputError(f"kl_weight is {kl_weight}; it is a number >= 0, 0.05 in the source")
    law = law_of(given, Exponential, Exponential.fit)
    domains = sized(law.domains, tokens)
    w = Mixture(domains)
    natural = domains.natural if prior is None else domains.weights(prior)
    objective = aggregate(law.losses(w), weights) + kl_weight * kl(w, natural)
    caps = () if budget is None else (graph.epochs(w, budget, at_most).named("repetition"),)
    return Method(minimize(objective, over=w, subject_to=[*caps, *subject_to]), Conic(), "Olmix")


def sized(domains: Domains, tokens: Mapping[str, float]) -> Domains:
    """The domains with their sizes.

    Raises:
        InputError: a domain whose size is missing, or a size of no domain.
    """
    for name in tokens:
        domains.index(name)
    lacking = [n for n in domains if n not in tokens]
    if lacking:
        raise InputError(f"tokens are missing for {lacking[0]!r}; give every domain its size in tokens")
    return Domains(domains.names, tokens=[tokens[n] for n in domains])
