"""``design``: which mixtures to run proxies on, for domains or for a problem with its constraints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mixopt.errors import InputError, listed, nearest
from mixopt.language.domains import Domains
from mixopt.language.expression import Relation
from mixopt.laws import Law

from .advice import advised, warned
from .kinds import Ask, Dirichlet, Kind, Lattice, Proposal, Sobol, Uniform
from .plan import Design, made
from .space import Space

KINDS: dict[str, type[Kind]] = {kind.name: kind for kind in (Dirichlet, Sobol, Uniform, Lattice)}
"""The kinds of design by name."""


def design(
    where: Domains | Iterable[str] | Any,
    *,
    runs: int | None = None,
    kind: str | Kind = "dirichlet",
    law: str | Law = "exponential",
    prior: Mapping[str, float] | Sequence[float] | None = None,
    subject_to: Iterable[Relation] = (),
    given: Mapping[str, Any] | None = None,
    replicates: int | None = None,
    seed: int = 0,
) -> Design:
    """Choose mixtures [R, k] to train proxies on, all of them within the constraints.

    ``where`` are domains, or a problem over one mixture, whose constraints the design keeps beside those of ``subject_to``;
    ``given`` are the numbers of parameters in them. ``runs`` is R, by default 3 (k + 1). ``kind`` is a name in ``designs.KINDS``, or one of
    the classes there with settings of its own. ``law`` is what will be fitted: too few runs for it are noted. ``prior`` is the
    reference mixture, by default natural proportions, or uniform where sizes are unknown; it is moved into the constraints.

    ``replicates`` of the R runs (by default 2 of few, up to 6 of many) train on the reference mixture with seeds of their own, so that
    ``runs.noise()`` is known; 0 leaves them out. The same seed gives the same design.

    Raises:
        InputError: an unknown kind, no runs, constraints that no mixture keeps, or a prior that does not fit.
    """
    space = Space.of(where, subject_to, given)
    domains = space.domains
    chosen = _kind(kind)
    usual = (chosen.usual(space) if runs is None else None) or 0
    asked = advised(domains) if runs is None else runs
    again = _replicates(replicates, usual or asked, chosen)
    count = usual + again if usual else asked
    rng = np.random.default_rng(seed)
    centre = space.nearest(_prior(domains, prior)) if again or prior is not None or space.linear else _prior(domains, prior)
    found = chosen.propose(Ask(space, count - again, centre, rng)) if count > again else Proposal(np.empty((0, space.k)), ())
    mixtures = np.vstack([np.repeat(centre[None], again, axis=0), found.mixtures])
    ids = [f"run{i:0{len(str(count - 1))}d}" for i in range(count)]
    space.check(mixtures, ids)
    notes = (*found.notes, *warned(law, domains, count))
    return made(domains, mixtures, ids, ("reference",) * again + found.origins, chosen.name, seed, tokens=found.tokens, notes=notes)


def _kind(given: str | Kind) -> Kind:
    if isinstance(given, Kind):
        return given
    if given not in KINDS:
        raise InputError(f"no kind of design {given!r} in {listed(KINDS, most=20)}{nearest(str(given), KINDS)}")
    return KINDS[given]()


def _replicates(given: int | None, count: int, kind: Kind) -> int:
    """How many runs train on the reference mixture."""
    for name, value, least in (("runs", count, 1), ("replicates", 0 if given is None else given, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} is {value!r}; it is a whole number >= {least}")
    if given is None:
        return 0 if kind.whole or count < 6 else 2 if count < 16 else min(max(count // 16, 3), 6)
    if given == 1 or given > count:
        raise InputError(f"{given} of {count} runs as replicates: give 0, or from 2 to {count}, since one run alone tells no noise")
    return given


def _prior(domains: Domains, given: Mapping[str, float] | Sequence[float] | None) -> np.ndarray:
    """The reference mixture [k]."""
    if given is None:
        return domains.natural if domains.tokens else np.full(len(domains), 1 / len(domains))
    return domains.weights(given)
