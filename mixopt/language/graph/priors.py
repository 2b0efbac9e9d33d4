"""Prior shares from a graph: natural shares diffused along its edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixopt.errors import InputError, ProblemError
from mixopt.language.domains import Domains

from .read import attribute, check_nodes

DENSE = 1000
"""Up to so many domains, or for long walks, all steps are solved for at once; beyond, one by one along the edges."""


def diffused(natural: Domains | Mapping[str, float], graph: Any, alpha: float, weight: str = "weight") -> np.ndarray:
    """Natural shares after a random walk on the graph [k]: (1 - alpha) (I - alpha P)^-1 q, a point of the simplex.

    Column j of P has the chances with which the walk goes on from domain j: its edges' weights (along their direction where the
    graph has one) over their sum; a domain without a way out keeps its share. The walk ends at each step with chance 1 - alpha.
    A centre for ``kl``, under which a domain is strong where its neighbours are (personalised PageRank).

    >>> import networkx as nx
    >>> diffused(Domains(["web", "code"], tokens=[3e9, 1e9]), nx.Graph([("web", "code")]), alpha=0.5).round(3)
    array([0.583, 0.417])

    Raises:
        InputError: a graph over other nodes, with self-loops or negative weights.
        ProblemError: an alpha outside [0, 1).
    """
    if not 0 <= alpha < 1:
        raise ProblemError(f"alpha is {alpha}; it is the chance of a further step, at least 0 and below 1")
    domains = natural if isinstance(natural, Domains) else Domains(list(natural))
    q = domains.natural if isinstance(natural, Domains) else domains.weights(natural)
    start, end, chances = _walk(graph, domains, weight)
    k = len(domains)
    out = np.zeros(k)
    np.add.at(out, start, chances)
    stay = np.flatnonzero(out == 0)
    start, end = np.append(start, stay), np.append(end, stay)
    values = np.append(chances, np.ones(len(stay))) / np.where(out == 0, 1.0, out)[start]
    found = _walked(q, start, end, values, alpha)
    return found / found.sum()


def _walked(q: np.ndarray, start: np.ndarray, end: np.ndarray, chances: np.ndarray, alpha: float) -> np.ndarray:
    """(1 - alpha) times the sum of alpha^t P^t q [k]: all terms by one solve, or one by one until the rest is below 1e-13 of the whole."""
    from scipy.sparse import coo_array

    step = coo_array((chances, (end, start)), shape=(len(q), len(q))).tocsr()
    if len(q) <= DENSE or alpha > 0.999:
        solved: np.ndarray = np.linalg.solve(np.eye(len(q)) - alpha * step.toarray(), (1 - alpha) * q)
        return np.clip(solved, 0.0, None)
    term = total = (1 - alpha) * q
    while term.sum() > 1e-13 * (1 - alpha):
        term = alpha * (step @ term)
        total = total + term
    return total


def _walk(graph: Any, domains: Domains, weight: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each step starts and ends, and its weight; an edge without direction is two steps."""
    names = domains.names
    check_nodes(graph, names, "diffused")
    weights = attribute(graph, weight)
    if len(weights) and weights.min() < 0:
        raise InputError(f"an edge has the weight {weights.min():.6g}; a walk needs weights >= 0, so leave conflicts out of the graph")
    at = {name: i for i, name in enumerate(names)}
    start = np.array([at[a] for a, _ in graph.edges], dtype=int)
    end = np.array([at[b] for _, b in graph.edges], dtype=int)
    if graph.is_directed():
        return start, end, weights
    return np.append(start, end), np.append(end, start), np.append(weights, weights)
