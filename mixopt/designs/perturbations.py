"""AutoScale's runs: a base run, and for each domain one with less of it and one with more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np

from mixopt.errors import InputError, listed

from .kinds import Ask, Kind, Proposal
from .space import Space

REDUCED = {"code": 1 / 5, "paper": 1 / 3}
"""The lesser amount of a domain, in amounts of the base run."""


@final
@dataclass(frozen=True)
class Perturbations(Kind):
    """2k + 1 runs of their own lengths: the design's ``tokens`` spread evenly; each domain at a fifth of its amount (a third in the text),
    the others as they are; each at three times its amount. ``laws.AutoScale`` is fitted to them.

    Source: Kang et al. 2024, arXiv 2407.20177; code feiyang-k/AutoScale.
    """

    faithful_to: Literal["code", "paper"] = "code"

    name: ClassVar[str] = "autoscale"
    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.faithful_to not in REDUCED:
            raise InputError(f"faithful_to is {self.faithful_to!r}; it is {listed(REDUCED)}")

    def usual(self, space: Space) -> int:
        return 2 * space.k + 1

    def propose(self, ask: Ask) -> Proposal:
        k = ask.space.k
        if ask.count != 2 * k + 1:
            raise InputError(f"AutoScale's runs over {k} domains are {2 * k + 1}, and {ask.count} are asked for; leave runs out")
        if ask.tokens is None:
            raise InputError("AutoScale's runs differ in length; give the tokens of the base run, tokens=...")
        found = amounts(k, self.faithful_to)
        origins = ("base", *(f"less {n}" for n in ask.space.domains), *(f"more {n}" for n in ask.space.domains))
        return Proposal(found / found.sum(axis=1, keepdims=True), origins, found.sum(axis=1) * ask.tokens / k)


def amounts(k: int, faithful_to: Literal["code", "paper"]) -> np.ndarray:
    """How much of each domain [2k + 1, k] the runs have, in amounts of the base run."""
    return np.vstack([np.ones(k), 1 + (REDUCED[faithful_to] - 1) * np.eye(k), 1 + 2 * np.eye(k)])
