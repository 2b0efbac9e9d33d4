"""What a recommendation starts from: runs with families averaged, and limits with their names matched to the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.runs import Runs, Targets

from .limits import Limits, by_domain, proportions
from .objective import Objective


def averaged(
    runs: Runs, families: Mapping[str, Sequence[str]], weights: Mapping[str, float] | None = None
) -> tuple[Runs, dict[str, float]]:
    """The runs with each family's targets averaged into one, and the weights that are left; those of a family's targets count inside.

    A run that lacks one of a family's targets lacks the family.

    Raises:
        InputError: families that mix directions, or what ``Objective.of`` refuses.
    """
    groups = Objective.of(runs.targets, "mean", weights, families)
    ways, units = {}, {}
    for group, row in zip(groups.groups, groups.shares, strict=True):
        own = runs.targets.subset(np.flatnonzero(row > 0).tolist())
        if len(set(own.directions)) > 1:
            raise InputError(f"the family {group!r} has targets to be minimised and to be maximised, {listed(own.names)}; split it")
        ways[group] = own.directions[0]
        units[group] = own.units[0] if len(set(own.units)) == 1 else "mixed units"
    signs = np.array([1 if ways[g] == "min" else -1 for g in groups.groups])
    merged = replace(runs, targets=Targets(groups.groups, ways, units), metrics=signs * groups.losses(runs.metrics))
    return merged, {n: v for n, v in (weights or {}).items() if n in groups.groups}


def limits_of(
    runs: Runs,
    kl: float,
    prior: Mapping[str, float] | None,
    tokens: Mapping[str, float] | None,
    budget: float | None,
    cap: float | None,
    *bounds: Mapping[str, float],
) -> tuple[Limits, tuple[str, ...]]:
    """The limits, names matched to the runs' domains, and notes."""
    notes: tuple[str, ...] = ()
    domains, columns = runs.domains, runs.name_map
    if tokens is not None:
        domains = Domains(domains.names, by_domain("the tokens", tokens, domains, columns, whole=True))
    natural = None
    if prior is not None:
        natural, notes = proportions(domains, by_domain("the prior", prior, domains, columns, whole=True))
    elif domains.tokens is not None:
        natural, notes = proportions(domains, dict(zip(domains, domains.natural.tolist(), strict=True)))
    most, least, fixed = (
        by_domain(what, b, domains, columns, whole=False)
        for what, b in zip(("the upper bounds", "the lower bounds", "the fixed weights"), bounds, strict=True)
    )
    return Limits(domains, natural, kl, budget, cap, least, most, fixed), notes
