"""Orders over the stages of a curriculum: what has been seen of a domain by then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixopt.errors import ProblemError
from mixopt.language.expression import Expr, Relation

from .read import acyclic, ends, names_of


def cumulative_order(stages: Expr, dag: Any, factor: float = 1.0, lengths: Sequence[float] | None = None) -> tuple[Relation, ...]:
    """A staged curriculum in which, by the end of every stage, at most ``factor`` times as much of a child has been seen as of its parent.

    With C_t the sum over stages s <= t of length_s * W_s: C_t,child <= factor * C_t,parent for every edge parent -> child of a
    graph without cycles, one relation a stage. ``lengths`` are the stages' shares of the tokens, equal by default. With factor
    1 only the edges of the transitive reduction become rows; any other factor compounds along a path.

    Raises:
        InputError: a graph over other nodes, without direction, or with a cycle, which is named.
        ProblemError: no stages, lengths that are not one number > 0 for each, or a factor that is not > 0.
    """
    rows = exposures(stages, lengths)
    if not (math.isfinite(factor) and factor > 0):
        raise ProblemError(f"the factor is {factor}; a child is seen at most factor times as much as its parent, for a finite number > 0")
    edges = acyclic(dag, names_of(rows[0]), "cumulative_order", reduce=factor == 1)
    if not len(edges):
        raise ProblemError("the graph has no edge, so it orders nothing")
    relations = []
    for t, seen in enumerate(rows):
        parent, child = ends(seen, edges, None, " -> ")
        relations.append((child <= (parent if factor == 1 else factor * parent)).named(f"order by stage {t}"))
    return tuple(relations)


def exposures(stages: Expr, lengths: Sequence[float] | None) -> list[Expr]:
    """What has been seen of each domain by the end of every stage: T vectors [k], in shares of all tokens."""
    if not isinstance(stages, Expr) or stages.op != "stages":
        raise ProblemError(f"'{stages}' has no stages; make it by Mixture(domains, stages=T)")
    shares = np.ones(len(stages.args)) if lengths is None else np.asarray(lengths, dtype=float)
    if shares.shape != (len(stages.args),) or not np.isfinite(shares).all() or (shares <= 0).any():
        raise ProblemError(f"lengths are {len(stages.args)} numbers > 0, one for each stage, not {lengths!r}")
    shares = shares / shares.sum()
    total: Expr | None = None
    seen = []
    for row, share in zip(stages.args, shares, strict=True):
        total = share * row if total is None else total + share * row
        seen.append(total)
    return seen
