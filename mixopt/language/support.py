"""How many domains a mixture uses, and how much of each at least: relations that only mixed-integer solvers take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from mixopt.errors import ProblemError

from .expression import Expr, Relation

SUPPORT = 1e-9
"""A weight above this counts as used."""


@final
@dataclass(frozen=True)
class Switch:
    """A relation that turns weights on and off: of ``positions`` of ``mixture`` at most ``most`` are used, with ``least`` each or more."""

    relation: Relation
    mixture: Expr
    positions: tuple[int, ...]
    most: int
    least: float


def cardinality(w: Expr, at_most: int) -> Relation:
    """At most so many of the weights [k] are not zero.

    ``w`` is a mixture, a stage of one, or some of its domains, ``w[["code", "books"]]``. A program with this is solved over its supports
    by branch and bound; its certificate holds for the support that was found.

    Raises:
        ProblemError: no mixture, or a number that is no whole number >= 1.
    """
    if isinstance(at_most, bool) or not isinstance(at_most, (int, np.integer)) or at_most < 1:
        raise ProblemError(f"cardinality is at most {at_most!r}; a number of domains is a whole number >= 1")
    return count(w) <= int(at_most)


def used(w: Expr, at_least: float) -> Relation:
    """Each weight is zero, or at least so much: domains that are not worth a small share are left out.

    ``w`` is as in ``cardinality``; the two go together.

    Raises:
        ProblemError: no mixture, or a share that is not in (0, 1].
    """
    if not isinstance(at_least, (int, float, np.number)) or not 0 < at_least <= 1:
        raise ProblemError(f"a weight that is used is at least {at_least!r}; a share is a number in (0, 1]")
    return least_used(w) >= float(at_least)


def count(w: Expr) -> Expr:
    """The number of weights above 1e-9 []."""
    return Expr("cardinality", (_weights(w, "cardinality"),))


def least_used(w: Expr) -> Expr:
    """The smallest weight above 1e-9 [], infinite where there is none."""
    return Expr("least_used", (_weights(w, "used"),))


def switch(relation: Relation) -> Switch | None:
    """What a relation turns on and off, or None where it is of another kind."""
    counted, limit = relation.left, relation.right
    if limit.op != "constant" or limit.shape != () or (counted.op, relation.sense) not in (("cardinality", "<="), ("least_used", ">=")):
        return None
    weights = counted.args[0]
    mixture = weights if weights.op == "mixture" else weights.args[0]
    positions = tuple(range(len(mixture))) if weights is mixture else weights.data
    number = float(limit.data.value)
    few = counted.op == "cardinality"
    return Switch(relation, mixture, positions, int(number) if few else len(positions), 0.0 if few else number)


def _weights(w: Expr, where: str) -> Expr:
    plain = isinstance(w, Expr) and (w.op == "mixture" or (w.op == "take" and w.args[0].op == "mixture" and w.shape != ()))
    if not plain:
        raise ProblemError(
            f"{where} is of the weights of a mixture, or of some of its domains, and '{w}' is neither; write {where}(w, ...)"
        )
    return w
