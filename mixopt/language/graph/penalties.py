"""Penalties for weights that differ across the edges of a graph: Laplacian smoothness, total variation, norms, conflicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from mixopt.errors import ProblemError, nearest
from mixopt.language import atoms
from mixopt.language.expression import Expr, constant

from .read import Edges, ends, names_of, shares, undirected

Form = Literal["density", "raw", "normalised"]
Natural = Sequence[float] | np.ndarray | None


def smoothness(w: Expr, graph: Any, natural: Natural = None, form: Form = "density", weight: str = "weight") -> Expr:
    """Laplacian smoothness []: neighbours in the graph should be treated alike.

    "density": the sum over edges of q_i q_j s_ij (u_i - u_j)^2 with u_i = w_i / q_i, how often domain i is repeated relative to its
    natural share q_i. A domain split into two like halves leaves it as it was.

    "raw": the sum of s_ij (w_i - w_j)^2 = w' L w, which pulls towards uniform weights and changes when a domain is split.

    "normalised": the sum of s_ij (w_i / sqrt(d_i) - w_j / sqrt(d_j))^2 with d the sums of edge weights: it is 0 where w_i is
    proportional to sqrt(d_i), so it pulls towards domains that have many neighbours. Rarely what is meant.

    Similarities s_ij are the edge attribute ``weight`` (1 where no edge has it); ``natural`` is q [k], the domains' own by default.

    Raises:
        InputError: a graph over other nodes, directed, with self-loops or negative weights; no natural shares, or one that is 0.
    """
    edges = _weighted(undirected(graph, names_of(w), "smoothness", weight))
    return _squares(w, edges, natural, form, np.sign(edges.weights))


def signed_smoothness(w: Expr, graph: Any, natural: Natural = None, form: Form = "density", weight: str = "weight") -> Expr:
    """Smoothness with conflicts []: similar domains (s_ij > 0) are treated alike, conflicting ones (s_ij < 0) pay for being used together.

    The quadratic form of the signed Laplacian D_|s| - S: the sum of |s_ij| (x_i - sign(s_ij) x_j)^2, which is convex, where a plain
    Laplacian with negative weights need not be. x and the factor q_i q_j are as ``form`` says in ``smoothness``.
    """
    edges = _weighted(undirected(graph, names_of(w), "signed_smoothness", weight, signed=True))
    return _squares(w, edges, natural, form, np.sign(edges.weights))


def total_variation(w: Expr, graph: Any, natural: Natural = None, form: Form = "density", weight: str = "weight") -> Expr:
    """Total variation on a graph []: the sum over edges of s_ij |x_i - x_j|, under which whole clusters share one value.

    x = w in the ``"raw"`` form; in the ``"density"`` form x_i = w_i / q_i and each edge counts q_i q_j s_ij, so that a domain split
    into two like halves leaves it as it was.
    """
    return edge_norm(w, graph, 1, natural, form, weight)


def edge_norm(w: Expr, graph: Any, p: float, natural: Natural = None, form: Form = "density", weight: str = "weight") -> Expr:
    """The p-norm [] over edges of s_ij (x_i - x_j), or of q_i q_j s_ij (x_i - x_j) in the density form; p >= 1."""
    edges = _weighted(undirected(graph, names_of(w), "total_variation" if p == 1 else "edge_norm", weight))
    scale, by = _scaled(w, edges, natural, form)
    first, second = ends(w, edges, by)
    return atoms.norm(constant(scale) * (first - second), p)


def _weighted(edges: Edges) -> Edges:
    """The edges whose weight is not 0; there must be some."""
    kept = edges.keep(edges.weights != 0)
    if not len(kept):
        raise ProblemError("the graph has no edge with a weight other than 0, so nothing is asked of any weight")
    return kept


def _squares(w: Expr, edges: Edges, natural: Natural, form: Form, signs: np.ndarray) -> Expr:
    scale, by = _scaled(w, edges, natural, form)
    root = np.sqrt(np.abs(scale))
    places = edges.first, edges.second
    of_first, of_second = (root if by is None else root / by[list(place)] for place in places)
    first, second = ends(w, edges, None)
    return atoms.sum_squares(constant(of_first) * first - constant(signs * of_second) * second)


def _scaled(w: Expr, edges: Edges, natural: Natural, form: Form) -> tuple[np.ndarray, np.ndarray | None]:
    """The factor of each edge [m], and what the weights are divided by [k], if by anything."""
    if form not in get_args(Form):
        raise ProblemError(f"no form {form!r} of a penalty; there are 'density', 'raw' and 'normalised'{nearest(form, get_args(Form))}")
    if form == "density":
        q = shares(w, natural, "the density form")
        return edges.weights * q[list(edges.first)] * q[list(edges.second)], q
    if natural is not None:
        raise ProblemError(f"the {form} form uses no natural shares; leave natural= out, or take form='density'")
    if form == "raw":
        return edges.weights, None
    degrees = np.zeros(len(edges.names))
    np.add.at(degrees, [*edges.first, *edges.second], np.abs(np.concatenate([edges.weights, edges.weights])))
    return edges.weights, np.sqrt(np.where(degrees > 0, degrees, 1.0))
