"""A networkx graph whose nodes are domains, read into positions and checked: what fits, and what is said where it does not."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, ProblemError, listed, nearest
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Operand, constant

Positions = tuple[int, ...]
LARGE = 2_000_000
"""Matrices with more entries are not formed."""


class GraphWarning(UserWarning):
    """A graph that can be used, but may not say what is meant: its parts are not connected."""


@final
@dataclass(frozen=True, eq=False)
class Edges:
    """The m edges of a graph as positions among the domains: ``first`` and ``second`` [m] (from, to where directed), ``weights`` [m]."""

    names: tuple[str, ...]
    first: Positions
    second: Positions
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def labels(self, word: str = " - ") -> tuple[str, ...]:
        """The names of the edges [m], as they stand in duals."""
        return tuple(f"{self.names[a]}{word}{self.names[b]}" for a, b in zip(self.first, self.second, strict=True))

    def both_ways(self) -> Edges:
        """Each edge in both directions [2m]."""
        return Edges(self.names, self.first + self.second, self.second + self.first, np.concatenate([self.weights, self.weights]))

    def keep(self, chosen: np.ndarray) -> Edges:
        """The edges that a mask [m] chooses."""
        at = np.flatnonzero(chosen)
        return Edges(self.names, tuple(self.first[i] for i in at), tuple(self.second[i] for i in at), self.weights[at])


def names_of(w: Expr) -> tuple[str, ...]:
    """The domains that a vector of weights is over; raises where it is none."""
    if not isinstance(w, Expr) or w.shape is None or len(w.shape) != 1 or w.index is None:
        raise ProblemError(f"'{w}' is no vector over domains; give the mixture, made by Mixture(domains)")
    return w.index


def shares(w: Expr, natural: Sequence[float] | np.ndarray | None, why: str) -> np.ndarray:
    """The natural shares [k], given or those of the mixture's domains; every one must be > 0, or there is no density w_i / q_i."""
    names = names_of(w)
    if natural is None:
        found = [n.data[1] for n in w.walk() if n.op == "mixture" and n.data[1].names == names]
        if not found or found[0].tokens is None:
            raise InputError(f"{why} needs the natural shares of {listed(names)}; give Domains(names, tokens=[...]) or natural=[...]")
        q = np.asarray(found[0].natural)
    else:
        q = Domains(names).weights(natural)
    none = [name for name, share in zip(names, q, strict=True) if share <= 0]
    if none:
        raise InputError(f"{why} divides by the natural shares, 0 for {listed(none)}; leave these out or give natural=[...]")
    return q


def undirected(graph: Any, names: tuple[str, ...], where: str, weight: str | None = "weight", signed: bool = False) -> Edges:
    """The edges of an undirected graph over the domains; warns where its parts are not connected.

    Raises:
        InputError: nodes that are no domains, domains that are no nodes, self-loops, a direction, weights that are no numbers, or
            negative ones unless ``signed``.
    """
    import networkx as nx

    check_nodes(graph, names, where)
    if graph.is_directed():
        raise InputError(f"{where} is of an undirected graph, and this one is directed; give graph.to_undirected()")
    edges = _edges(graph, names, weight)
    if not signed and len(edges) and edges.weights.min() < 0:
        name, value = edges.labels()[int(edges.weights.argmin())], edges.weights.min()
        raise InputError(
            f"the edge {name} has the weight {value:.6g}, and {where} with negative weights need not be convex; "
            "use signed_smoothness for conflicts, or leave these edges out"
        )
    parts = nx.number_connected_components(graph)
    if parts > 1:
        smallest = sorted(sorted(nx.connected_components(graph), key=len)[0])
        text = f"the graph falls into {parts} parts, one of them {listed(smallest)}; {where} says nothing about the shares between parts"
        warnings.warn(text, GraphWarning, stacklevel=3)
    return edges


def acyclic(graph: Any, names: tuple[str, ...], where: str, reduce: bool = False) -> Edges:
    """The edges of a directed graph without cycles over the domains; ``reduce`` keeps only those that no path implies.

    Raises:
        InputError: as for an undirected graph, no direction, or a cycle, which is named.
    """
    import networkx as nx

    check_nodes(graph, names, where)
    refuse_cycles(graph, where)
    edges = _edges(graph, names, None)
    if not reduce:
        return edges
    needed = nx.transitive_reduction(graph)
    return edges.keep(np.array([needed.has_edge(a, b) for a, b in graph.edges], dtype=bool))


def refuse_cycles(graph: Any, where: str) -> None:
    """Raises where a graph has no direction or a cycle."""
    import networkx as nx

    if not graph.is_directed():
        raise InputError(f"{where} is along the edges of a directed graph, and this one has no direction; give a networkx.DiGraph")
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [edge[0] for edge in nx.find_cycle(graph)]
        path = " -> ".join(map(str, [*cycle, cycle[0]]))
        raise InputError(f"{where} needs a graph without cycles, but it has {path}; along a cycle all weights would be equal, or 0")


def refuse_unless_graph(graph: Any) -> None:
    """Raises where the object is no networkx graph, has parallel edges, or an edge from a node to itself."""
    import networkx as nx

    if not isinstance(graph, nx.Graph):
        raise InputError(f"a {type(graph).__name__} is no networkx graph; give one whose nodes are the domains' names")
    if graph.is_multigraph():
        raise InputError("the graph may have parallel edges; give a networkx.Graph or DiGraph, with their weights added up")
    loop = next(nx.selfloop_edges(graph), None)
    if loop is not None:
        raise InputError(
            f"the graph has an edge from {loop[0]!r} to itself, which says nothing; graph.remove_edge(node, node) takes it out"
        )


def check_nodes(graph: Any, names: tuple[str, ...], where: str) -> None:
    """Raises where the nodes of a graph are not the domains."""
    refuse_unless_graph(graph)
    known = set(names)
    for node in graph:
        if node not in known:
            raise InputError(f"node {node!r} of the graph is no domain; the domains are {listed(names)}{nearest(str(node), names)}")
    missing = [name for name in names if name not in graph]
    if missing:
        raise InputError(f"the graph for {where} lacks the domains {listed(missing)}; graph.add_nodes_from({missing[:3]!r}) adds nodes")


def _edges(graph: Any, names: tuple[str, ...], weight: str | None) -> Edges:
    at = {name: i for i, name in enumerate(names)}
    pairs = [(at[a], at[b]) for a, b in graph.edges]
    values = np.ones(len(pairs)) if weight is None else attribute(graph, weight)
    return Edges(names, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), values)


def attribute(graph: Any, name: str, needed: bool = False) -> np.ndarray:
    """An attribute of every edge as numbers [m]; 1 where no edge at all has it, unless it is ``needed``."""
    found = [(a, b, data.get(name)) for a, b, data in graph.edges(data=True)]
    lacking = [(a, b) for a, b, value in found if value is None]
    if len(lacking) == len(found) and not needed:
        return np.ones(len(found))
    if lacking:
        known = sorted({str(key) for *_, data in graph.edges(data=True) for key in data} - {name})
        a, b = lacking[0]
        count = f"which {len(lacking)} of {len(found)} edges lack and all need"
        raise InputError(f"the edge {a} - {b} has no attribute {name!r}, {count}{nearest(name, known)}")
    for a, b, value in found:
        if isinstance(value, (bool, str)) or not np.isreal(value) or not math.isfinite(value):
            raise InputError(f"the edge {a} - {b} has the {name} {value!r}; it is a finite number")
    return np.array([float(value) for *_, value in found])


def at(w: Expr, positions: Positions, labels: tuple[str, ...]) -> Expr:
    """The entries of w at some positions, with repeats, under other names, so that an edge's two ends can be compared."""
    return Expr("take", (w,), (len(positions),), labels, positions)


def summed(x: Expr, groups: Sequence[Positions], labels: tuple[str, ...]) -> Expr:
    """The sums of x over groups of positions [n], none of them empty, under names.

    Single entries are indexed, groups are summed by a matrix, and where that would be large by halving, which needs none.
    """
    if all(len(group) == 1 for group in groups):
        return at(x, tuple(group[0] for group in groups), labels)
    if len(groups) * len(x) > LARGE:
        return _halved(x, groups, labels)
    matrix = np.zeros((len(groups), len(x)))
    for row, group in zip(matrix, groups, strict=True):
        row[list(group)] = 1.0
    return replace(constant(matrix) @ x, index=labels)


def _halved(x: Expr, groups: Sequence[Positions], labels: tuple[str, ...]) -> Expr:
    """The sums of groups: neighbours are added in pairs until one of each group is left."""
    while max(map(len, groups)) > 1:
        left = [group[i] for group in groups for i in range(0, len(group), 2)]
        right = [group[i + 1] if i + 1 < len(group) else None for group in groups for i in range(0, len(group), 2)]
        names = tuple(map(str, range(len(left))))
        paired = constant(np.array([float(p is not None) for p in right]), names)
        x = at(x, tuple(left), names) + paired * at(x, tuple(p or 0 for p in right), names)
        sizes = [(len(group) + 1) // 2 for group in groups]
        starts = np.cumsum([0, *sizes])
        groups = [tuple(range(start, start + size)) for start, size in zip(starts, sizes, strict=False)]
    return at(x, tuple(group[0] for group in groups), labels)


def ends(w: Expr, edges: Edges, by: np.ndarray | None, word: str = " - ") -> tuple[Expr, Expr]:
    """The two ends of every edge [m], named by the edge, and divided by the vector ``by`` [k] where it is given."""
    labels = edges.labels(word)
    first, second = at(w, edges.first, labels), at(w, edges.second, labels)
    if by is None:
        return first, second
    return first * constant(1 / by[list(edges.first)]), second * constant(1 / by[list(edges.second)])


def bound(at_most: Operand | str, graph: Any, edges: Edges, what: str, least: float) -> Operand:
    """A bound for each edge: one number or parameter for all, or the name of an edge attribute.

    ``edges`` may hold every edge of the graph twice, one direction behind the other.
    """
    if isinstance(at_most, Expr):
        if at_most.shape != ():
            raise ProblemError(f"at_most is one number for all edges, and '{at_most}' has shape {at_most.shape}; name an edge attribute")
        return at_most
    if isinstance(at_most, str):
        values = attribute(graph, at_most, needed=True)
        values = np.tile(values, len(edges) // max(len(values), 1))
    else:
        values = np.asarray(at_most, dtype=float)
        if values.shape != ():
            raise ProblemError(f"at_most is one number, a parameter or the name of an edge attribute, not {values.size} numbers")
    if not np.isfinite(values).all() or values.min() < least:
        raise ProblemError(f"{what} of at most {float(np.min(values)):.6g} are asked for; the bound is a finite number >= {least:g}")
    return values if values.shape else float(values)
