"""Tables of runs over another set of domains: some added, renamed, split or gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mixopt.errors import InputError, listed, unknown
from mixopt.language.domains import Domains

if TYPE_CHECKING:
    from .table import Runs

_NONE = 1e-5
"""Weight on domains that are gone that counts as none."""

Became = Mapping[str, str | Mapping[str, float]]
"""What became of a domain: its new name, or the shares of the domains that it was split into."""


def over(runs: Runs, domains: Domains | Iterable[str], became: Became) -> Runs:
    """The runs that can be told over other domains; see ``Runs.over``."""
    wanted = domains if isinstance(domains, Domains) else Domains(domains)
    for old in became:
        if old not in runs.domains:
            raise unknown("domain of the runs", old, runs.domains.names)
    parts = {old: _parts(old, became.get(old, old if old in wanted else {}), wanted) for old in runs.domains}
    _check_apart(parts)
    gone = [old for old, shares in parts.items() if not shares]
    lost = runs.mixtures[:, [runs.domains.index(old) for old in gone]].sum(axis=1) > _NONE
    if lost.all():
        raise InputError(f"every run has weight in {listed(gone)}, which the new domains lack; say what became of it, or train new runs")
    move = np.array([[parts[old].get(new, 0.0) for new in wanted] for old in runs.domains])
    kept = runs.subset(~lost)
    mixtures = kept.mixtures @ move
    if gone:
        mixtures = mixtures / mixtures.sum(axis=1, keepdims=True)
    mixtures.flags.writeable = False
    names = {c: n for c, n in runs.name_map.items() if n in runs.targets.names or parts.get(n) == {n: 1.0}}
    notes = (*runs.notes, *_notes(runs, parts, wanted, gone, int(lost.sum())))
    return replace(kept, domains=wanted, mixtures=mixtures, name_map=MappingProxyType(names), notes=notes)


def _parts(old: str, given: str | Mapping[str, float], domains: Domains) -> dict[str, float]:
    """The shares of new domains that an old one consists of, together 1; none where it is gone."""
    shares = {given: 1.0} if isinstance(given, str) else dict(given)
    for new, share in shares.items():
        if new not in domains:
            raise unknown(f"new domain, which {old!r} is said to have become,", new, domains.names)
        if not (np.isfinite(share) and share >= 0):
            raise InputError(f"{old!r} became {new!r} with a share of {share}; shares (or token counts) are finite and >= 0")
    total = sum(shares.values())
    if shares and not total > 0:
        raise InputError(f"the shares of what {old!r} became are all 0; at least one is to be > 0")
    return {new: share / total for new, share in shares.items()}


def _check_apart(parts: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse a new domain that two old ones go into: what it holds would change from run to run."""
    source: dict[str, str] = {}
    for old, shares in parts.items():
        for new in shares:
            if source.setdefault(new, old) != old:
                raise InputError(
                    f"{source[new]!r} and {old!r} would both become {new!r}, whose content would then differ from run to run; "
                    "where all runs kept their ratios, mixopt.problems.merged makes one domain of them"
                )


def _notes(runs: Runs, parts: Mapping[str, Mapping[str, float]], domains: Domains, gone: list[str], lost: int) -> tuple[str, ...]:
    """What was done to the runs, in sentences."""
    notes = [f"{lost} of {len(runs)} runs have weight in {listed(gone)}, which is gone, and are left out"] if lost else []
    for old, shares in parts.items():
        if shares and dict(shares) != {old: 1.0}:
            told = listed(f"{100 * s:.3g} % {n}" for n, s in shares.items()) if len(shares) > 1 else next(iter(shares))
            notes.append(f"{old} of every run is taken as {told}")
    new = [n for n in domains if not any(n in shares for shares in parts.values())]
    return (*notes, *([f"{listed(new)} is new, with weight 0 in every one of these runs"] if new else []))
