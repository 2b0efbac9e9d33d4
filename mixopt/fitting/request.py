"""One fit as flags or a configuration ask for it: which tables, which objective, which limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, listed
from mixopt.language.domains import Domains
from mixopt.runs import Runs

from .chosen import CONVEX
from .recommend import Recommendation, recommend


@final
@dataclass(frozen=True)
class Request:
    """The tables of a fit and everything that ``recommend`` is told; ``support`` keeps only runs on these domains alone.

    With ``all_used`` a run must also have each of them. ``notes`` are sentences on how a configuration was read, ``files``
    the files that were.
    """

    mixtures: str
    losses: str | None = None
    on: str | None = None
    direction: Mapping[str, str] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    only: Sequence[str] | None = None
    drop: Sequence[str] = ()
    support: Sequence[str] = ()
    all_used: bool = False
    objective: str = "mean"
    weights: Mapping[str, float] = field(default_factory=dict)
    families: Mapping[str, Sequence[str]] = field(default_factory=dict)
    aggregate: bool = False
    kl: float = 0.0
    prior: Mapping[str, float] | None = None
    tokens: Mapping[str, float] | None = None
    budget: float | None = None
    cap: float | None = None
    at_most: Mapping[str, float] = field(default_factory=dict)
    at_least: Mapping[str, float] = field(default_factory=dict)
    fix: Mapping[str, float] = field(default_factory=dict)
    law: str = CONVEX
    ridge: float | None = None
    huber: float | None = None
    folds: int = 5
    seed: int = 0
    noise: float | None = None
    target_size: float | None = None
    target_tokens: float | None = None
    target_steps: float | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def runs(self) -> Runs:
        """The table of runs, restricted to ``support``; the notes of the request come first.

        Raises:
            InputError: what ``Runs.from_csv`` refuses, or a support that no run has.
        """
        runs = Runs.from_csv(
            self.mixtures, self.losses, on=self.on, direction=self.direction, unit=self.unit, only=self.only, drop=self.drop
        )
        if self.support:
            runs = restricted(runs, self.support, self.all_used)
        return replace(runs, notes=(*self.notes, *runs.notes))

    def recommend(self, runs: Runs | None = None, begun: Callable[[], None] | None = None) -> Recommendation:
        """Read the tables, where they are not given, and recommend a mixture; ``begun`` is as of ``recommend``."""
        asked: dict[str, Any] = {name: getattr(self, name) for name in _PASSED}
        return recommend(self.runs() if runs is None else runs, **asked, begun=begun)


_PASSED = (
    "objective",
    "weights",
    "families",
    "aggregate",
    "kl",
    "prior",
    "tokens",
    "budget",
    "cap",
    "at_most",
    "at_least",
    "fix",
    "law",
    "ridge",
    "huber",
    "folds",
    "seed",
    "noise",
    "target_size",
    "target_tokens",
    "target_steps",
)


def restricted(runs: Runs, support: Sequence[str], all_used: bool) -> Runs:
    """The runs on these domains alone, over these domains alone; with ``all_used`` each has weight in every one.

    Raises:
        InputError: an unknown domain, or no such run.
    """
    places = [runs.domains.index(n) for n in support]
    inside = runs.mixtures[:, places]
    mask = np.isclose(inside.sum(axis=1), 1)
    if all_used:
        mask &= (inside > 0).all(axis=1)
    if not mask.any():
        raise InputError(f"no run is on {listed(support)} alone{' with weight in each' if all_used else ''}; choose other domains")
    tokens = None if runs.domains.tokens is None else [runs.domains.tokens[i] for i in places]
    kept = runs.subset(mask)
    note = f"{int((~mask).sum())} of {len(runs)} runs are not on {listed(support)} alone and are left out"
    mixtures = inside[mask] / inside[mask].sum(axis=1, keepdims=True)
    return replace(kept, domains=Domains(list(support), tokens), mixtures=mixtures, notes=(*runs.notes, note))
