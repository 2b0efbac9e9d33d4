"""Orders on which domains are used at all, and from which stage on: relations with switches, which mixed-integer solvers take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mixopt.errors import ProblemError
from mixopt.language import atoms
from mixopt.language.expression import Expr, Relation, constant
from mixopt.language.support import cardinality
from mixopt.language.symbols import Mixture

from .curricula import exposures
from .read import acyclic, at, ends, names_of


@final
@dataclass(frozen=True)
class Choice:
    """Yes-or-no choices: ``switches``, mixtures of ("on", "off") of which one is used, and ``relations`` that tie them to the weights.

    ``on`` [n] is 1 for what is switched on and 0 else, so ``sum(choice.on) <= 3`` allows three. The switches go into ``over``
    beside the mixture, and ``relations`` into ``subject_to``.
    """

    on: Expr
    switches: tuple[Expr, ...]
    relations: tuple[Relation, ...]


def support_order(w: Expr, dag: Any, at_least: float, name: str = "use") -> Choice:
    """Support precedence: a domain may be used only if its parents in a graph without cycles are, with at least ``at_least`` each.

    z_i at_least <= w_i <= z_i and z_child <= z_parent with z_i 0 or 1: every weight is 0 or at least ``at_least``.
    A linear objective makes it a mixed-integer linear program.

    Raises:
        InputError: a graph over other nodes, without direction, or with a cycle, which is named.
        ProblemError: a share that is not in (0, 1], or a graph without edges.
    """
    if not 0 < at_least <= 1:
        raise ProblemError(f"a domain that is used has at least {at_least}; a share is a number in (0, 1]")
    names = names_of(w)
    edges = acyclic(dag, names, "support_order", reduce=True)
    if not len(edges):
        raise ProblemError("the graph has no edge, so it orders nothing")
    on, switches, relations = _switches(name, names, names)
    parent, child = ends(on, edges, None, " -> ")
    tied = ((w <= on).named(f"{name}: none if off"), (w >= at_least * on).named(f"{name}: some if on"))
    return Choice(on, switches, (*relations, *tied, (child <= parent).named(f"{name}: parents first")))


def start_order(stages: Expr, dag: Any, after: float, lengths: Sequence[float] | None = None, name: str = "start") -> Choice:
    """Start-time precedence: a stage may use a domain only if, before it, every parent has had the share ``after`` of all tokens.

    W_t,child <= z_t,child and after * z_t,child <= C_t-1,parent with z 0 or 1 and C what has been seen by the end of a stage;
    so the first stage uses no child. ``lengths`` are the stages' shares of the tokens, equal by default.

    Raises:
        InputError: a graph over other nodes, without direction, or with a cycle, which is named.
        ProblemError: fewer than two stages, a share that is not in (0, 1], or a graph without edges.
    """
    seen = exposures(stages, lengths)
    if not 0 < after <= 1:
        raise ProblemError(f"a child starts after {after} of all tokens; a share is a number in (0, 1]")
    if len(seen) < 2:
        raise ProblemError(f"'{stages}' has one stage, so no domain can come before another; make it by Mixture(domains, stages=T)")
    names = names_of(seen[0])
    edges = acyclic(dag, names, "start_order")
    if not len(edges):
        raise ProblemError("the graph has no edge, so it orders nothing")
    children = tuple(dict.fromkeys(edges.second))
    labels = tuple(names[i] for i in children)
    keys = tuple(f"{child} in stage {t}" for t in range(1, len(seen)) for child in labels)
    on, switches, relations = _switches(name, keys, keys)
    limits = [(at(stages.args[0], children, labels) <= constant(np.zeros(len(children)), labels)).named(f"{name}: none in stage 0")]
    for t in range(1, len(seen)):
        first = (t - 1) * len(children)
        rows = tuple(range(first, first + len(children)))
        of_edges = tuple(first + children.index(child) for child in edges.second)
        limits.append((at(stages.args[t], children, labels) <= at(on, rows, labels)).named(f"{name}: stage {t}"))
        arrows = edges.labels(" -> ")
        due = after * at(on, of_edges, arrows) <= at(seen[t - 1], edges.first, arrows)
        limits.append(due.named(f"{name}: parents before stage {t}"))
    return Choice(on, switches, (*relations, *limits))


def _switches(name: str, keys: tuple[str, ...], labels: tuple[str, ...]) -> tuple[Expr, tuple[Expr, ...], tuple[Relation, ...]]:
    """A switch for each key: the vector that is 1 where it is on, the symbols, and that each is on or off."""
    symbols = tuple(Mixture(["on", "off"], f"{name} {key}") for key in keys)
    whole = tuple(cardinality(symbol, 1).named(f"{name} {key}: on or off") for symbol, key in zip(symbols, keys, strict=True))
    return atoms.stack([symbol["on"] for symbol in symbols], labels), symbols, whole
