"""The way back from a problem that was rewritten: what was done in words, and what its answer says of the problem as it was written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mixopt.language.expression import Expr, Relation
from mixopt.language.problem import Problem

Duals = dict[str, "float | dict[str, float]"]
Evaluate = Callable[[Expr], Any]


class Recover(ABC):
    """The way back from the answer of a rewritten problem to what the user asked for."""

    @abstractmethod
    def duals(self, duals: Duals, evaluate: Evaluate) -> Duals:
        """The duals with those of the rewrite in the user's names; ``evaluate`` gives the value of an expression at the answer."""

    def check(self, evaluate: Evaluate) -> None:  # noqa: B027  (most hold at any numbers)
        """Raise InputError where the rewrite does not hold at the numbers of a run; ``evaluate`` gives the value of parameters."""

    def inner(self) -> tuple[Expr, tuple[Relation, ...]] | None:
        """The inner weights and their constraints, which must have a point for the rewrite to mean what was written; None without any."""
        return None

    def slack(self, slack: Mapping[str, float]) -> Mapping[str, float]:
        """By how much constraints would have to give way, by name, in the user's own numbers."""
        return slack


@dataclass(frozen=True)
class Rewritten:
    """A problem after its rewrites: what was done, in words, and the ways back."""

    problem: Problem
    steps: tuple[str, ...] = ()
    recover: tuple[Recover, ...] = ()
