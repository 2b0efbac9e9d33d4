"""Mixture reuse: what a new domain set keeps of the mixture before it, so that only new shares are to be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation, constant, equal
from mixopt.language.symbols import mass
from mixopt.runs import Runs

_TOLERANCE = 1e-3


def reuse(w: Expr, previous: Mapping[str, float]) -> Relation:
    """w_F = rho p_F: the domains F that ``previous`` p names keep their proportions, with a total rho that is free.

    Domains of ``previous`` that are gone are left out and the others keep their ratios; what is new in w is free.

    Raises:
        InputError: fewer than two domains in common, or weights that are negative or all 0.

    Source: Chen et al. 2026, arXiv 2602.12237 (mixture reuse).
    """
    p = _kept(tuple(w.index or ()), previous)
    names = list(p)
    if len(names) < 2:
        raise InputError(f"the new and the previous mixture share {listed(names) or 'no domain'}; reuse binds two domains or more")
    held = names[1:]  # the first follows from the sum
    return equal(w[held], constant([p[n] for n in held], held) * mass(w, names)).named("reuse")


def merged(runs: Runs, previous: Mapping[str, float], name: str = "existing") -> Runs:
    """The runs over a smaller set of domains: ``name`` for all of ``previous``, whose ratios every run must have kept, and the rest.

    A law of them has a parameter for each new domain and one for all that is old, so that few runs are enough.

    Raises:
        InputError: a run that changed the ratios, no domain in common, or a name that is taken.
    """
    p = _kept(runs.domains.names, previous)
    new = [n for n in runs.domains if n not in p]
    if name in new:
        raise InputError(f"there is a domain {name!r} already; give the old ones together another name=")
    if not p:
        raise InputError(f"none of the domains {listed(previous)} is among those of the runs, {runs.domains}")
    old = runs.mixtures[:, [runs.domains.index(n) for n in p]]
    total = old.sum(axis=1)
    gap = np.abs(old - total[:, None] * np.array(list(p.values()))).max(axis=1)
    if (worst := int(gap.argmax())) is not None and gap[worst] > _TOLERANCE:
        raise InputError(f"run {runs.ids[worst]!r} does not keep the ratios of the previous mixture: a weight is off by {gap[worst]:.3g}")
    mixtures = np.column_stack([total, runs.mixtures[:, [runs.domains.index(n) for n in new]]])
    sizes = runs.domains.tokens
    tokens = None
    if sizes is not None:
        size = dict(zip(runs.domains, sizes, strict=True))
        tokens = [sum(size[n] for n in p), *(size[n] for n in new)]
    mixtures.flags.writeable = False
    return replace(runs, domains=Domains([name, *new], tokens=tokens), mixtures=mixtures)


def unmerged(weights: Mapping[str, float], previous: Mapping[str, float], name: str = "existing") -> dict[str, float]:
    """The weights of all domains from those over ``name`` and the new ones.

    Raises:
        InputError: weights without ``name``.
    """
    if name not in weights:
        raise InputError(f"the weights are of {listed(weights)}; {name!r} is expected, for the previous mixture as a whole")
    p = _kept(tuple(previous), previous)
    return {n: float(weights[name] * x) for n, x in p.items()} | {n: float(x) for n, x in weights.items() if n != name}


def _kept(names: tuple[str, ...], previous: Mapping[str, float]) -> dict[str, float]:
    """The previous shares of the domains that are still there, renormalised."""
    p = {n: float(previous[n]) for n in names if n in previous}
    if p and not (min(p.values()) >= 0 and 0 < sum(p.values()) < np.inf):
        raise InputError(f"the previous weights of {listed(p)} must be >= 0 and not all 0")
    total = sum(p.values())
    return {n: x / total for n, x in p.items()}
