"""Relations along the edges of a graph: bounded differences and ratios, and the order of a directed graph without cycles."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from mixopt.errors import ProblemError
from mixopt.language.expression import Expr, Operand, Relation

from .penalties import Natural
from .read import acyclic, bound, ends, names_of, shares, undirected

Compared = Literal["raw", "density"]


def differences(w: Expr, graph: Any, at_most: Operand | str, natural: Natural = None, form: Compared = "raw") -> Relation:
    """Bounded differences: |w_i - w_j| <= at_most on every edge, as two linear rows an edge [2m].

    In the ``"density"`` form |w_i / q_i - w_j / q_j|, the difference in relative repetition, is bounded. ``at_most`` is one
    number, a parameter, or the name of an edge attribute. The dual of the row "web - code" is what it costs that web may not
    lie further above code.

    Raises:
        InputError: a graph over other nodes, directed or with self-loops.
        ProblemError: a negative bound.
    """
    edges = undirected(graph, names_of(w), "differences", None).both_ways()
    limit = bound(at_most, graph, edges, "differences", 0)
    first, second = ends(w, edges, _by(w, natural, form), " - ")
    return (first - second <= limit).named("edge differences")


def ratios(w: Expr, graph: Any, at_most: Operand | str, natural: Natural = None, form: Compared = "raw") -> Relation:
    """Bounded ratios: w_i <= at_most * w_j and w_j <= at_most * w_i on every edge, as two linear rows an edge [2m].

    In the ``"density"`` form the ratio is of w_i / q_i to w_j / q_j. ``at_most`` >= 1 is one number, a parameter, or the name of
    an edge attribute. The bounds compound: over a path of n edges the ratio may reach at_most^n.
    """
    edges = undirected(graph, names_of(w), "ratios", None).both_ways()
    limit = bound(at_most, graph, edges, "ratios", 1)
    first, second = ends(w, edges, _by(w, natural, form), " / ")
    return (first <= limit * second).named("edge ratios")


def order(w: Expr, dag: Any, factor: float | Expr = 1.0, natural: Natural = None, form: Compared = "raw") -> Relation:
    """Static dominance along a directed graph without cycles: w_child <= factor * w_parent on every edge parent -> child.

    With factor 1 the order is transitive, so only the edges of the transitive reduction become rows. Any other factor
    compounds: a descendant n edges below has at most factor^n of its ancestor's weight, and every edge given is a row of its own.

    Raises:
        InputError: a graph over other nodes, without direction, or with a cycle, which is named.
        ProblemError: a factor that is not > 0.
    """
    plain = not isinstance(factor, Expr)
    if not isinstance(factor, Expr) and not (math.isfinite(factor) and factor > 0):
        raise ProblemError(f"the factor is {factor}; a child's weight is at most factor * its parent's, for a finite number > 0")
    edges = acyclic(dag, names_of(w), "order", reduce=plain and factor == 1)
    if not len(edges):
        raise ProblemError("the graph has no edge, so it orders nothing")
    parent, child = ends(w, edges, _by(w, natural, form), " -> ")
    return (child <= (parent if plain and factor == 1 else factor * parent)).named("order")


def each(relation: Relation) -> list[Relation]:
    """The rows of a vector relation as relations of their own, named by edge, branch or domain.

    A conflict then names single edges: ``subject_to=[*each(differences(w, graph, at_most=0.1)), ...]``.

    Raises:
        ProblemError: the relation is a single row.
    """
    names, size = relation.gap.index, relation.gap.shape
    if not size:
        raise ProblemError(f"'{relation.label}' is one row already; give a relation of a vector")
    labels = names or tuple(map(str, range(size[0])))
    sides = [(side, bool(side.shape)) for side in (relation.left, relation.right)]
    rows = [[side[i] if vector else side for side, vector in sides] for i in range(size[0])]
    return [Relation(left, relation.sense, right, f"{relation.label}: {label}") for (left, right), label in zip(rows, labels, strict=True)]


def _by(w: Expr, natural: Natural, form: Compared) -> np.ndarray | None:
    if form not in ("raw", "density"):
        raise ProblemError(f"no form {form!r} of a comparison; there are 'raw' and 'density'")
    if form == "raw":
        if natural is not None:
            raise ProblemError("the raw form uses no natural shares; leave natural= out, or take form='density'")
        return None
    return shares(w, natural, "the density form")
