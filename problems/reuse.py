"""Mixture reuse: what a new domain set keeps of the mixture before it, so that only new shares are to be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import overload

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.atoms import stack
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


@overload
def merged(runs: Runs, previous: Mapping[str, float], name: str = ...) -> Runs: ...
@overload
def merged(runs: Expr, previous: Mapping[str, float], name: str = ...) -> Expr: ...
def merged(runs: Runs | Expr, previous: Mapping[str, float], name: str = "existing") -> Runs | Expr:
    """The runs over a smaller set of domains: ``name`` for all of ``previous``, whose ratios every run must have kept, and the rest.

    A law of them has a parameter for each new domain and one for all that is old, so that few runs are enough. Given a mixture in the
    place of runs, its weights over the smaller set, for that law: with ``reuse`` among the constraints, caps and KL stay those of all
    domains. Tokens of the merged domain are told only where the ratios are natural: elsewhere its parts run out one before the other.

    Raises:
        InputError: a run that changed the ratios, no domain in common, or a name that is taken.
    """
    names = tuple(runs.index or ()) if isinstance(runs, Expr) else runs.domains.names
    p = _kept(names, previous)
    new = [n for n in names if n not in p]
    if name in new:
        raise InputError(f"there is a domain {name!r} already; give the old ones together another name=")
    if not p:
        raise InputError(f"none of the domains {listed(previous)} is among those of the {_what(runs)}, {listed(names)}")
    if isinstance(runs, Expr):
        return stack([mass(runs, list(p)), *(runs[n] for n in new)], [name, *new])
    shares = np.array(list(p.values()))
    old = runs.mixtures[:, [runs.domains.index(n) for n in p]]
    total = old.sum(axis=1)
    gap = np.abs(old - total[:, None] * shares).max(axis=1)
    if gap[worst := int(gap.argmax())] > _TOLERANCE:
        raise InputError(f"run {runs.ids[worst]!r} does not keep the ratios of the previous mixture: a weight is off by {gap[worst]:.3g}")
    mixtures = np.column_stack([total, runs.mixtures[:, [runs.domains.index(n) for n in new]]])
    mixtures.flags.writeable = False
    return replace(runs, domains=Domains([name, *new], tokens=_tokens(runs.domains, p, new)), mixtures=mixtures)


def _what(given: Runs | Expr) -> str:
    return "mixture" if isinstance(given, Expr) else "runs"


def _tokens(domains: Domains, p: Mapping[str, float], new: list[str]) -> list[float] | None:
    """The sizes of the smaller set; None where p is not natural, so that an epoch of the merged domain is none of its parts."""
    if domains.tokens is None:
        return None
    size = dict(zip(domains, domains.tokens, strict=True))
    total = sum(size[n] for n in p)
    natural = all(abs(size[n] - total * share) <= _TOLERANCE * total for n, share in p.items())
    return [total, *(size[n] for n in new)] if natural else None


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
