"""Flows: weights that reach the domains through a taxonomy with several parents, and the transport of one mixture into another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from mixopt.errors import InputError, ProblemError, listed, unknown
from mixopt.language import atoms
from mixopt.language.domains import Domains
from mixopt.language.expression import Expr, Relation, constant, equal
from mixopt.language.symbols import variable

from .read import attribute, check_nodes, names_of, refuse_cycles, refuse_unless_graph, summed


@final
@dataclass(frozen=True)
class Flow:
    """What flows along m directed ``edges``: the variable ``amounts`` [m] >= 0, ``relations`` that tie it to the weights, its ``cost`` [].

    ``amounts`` goes into ``over`` beside the mixture, and ``relations`` into ``subject_to``.
    """

    amounts: Expr
    edges: tuple[tuple[str, str], ...]
    relations: tuple[Relation, ...]
    cost: Expr

    def along(self, start: str, end: str) -> Expr:
        """What flows along an edge []; raises where there is none, with the nearest suggested."""
        if (start, end) not in self.edges:
            raise unknown("edge", f"{start} -> {end}", [f"{a} -> {b}" for a, b in self.edges])
        return self.amounts[self.edges.index((start, end))]

    def into(self, node: str) -> Expr:
        """What flows into a node []."""
        found = [i for i, (_, end) in enumerate(self.edges) if end == node]
        if not found:
            raise unknown("node with an edge into it", node, dict.fromkeys(end for _, end in self.edges))
        return atoms.sum(self.amounts[found])


def flow(w: Expr, taxonomy: Any, name: str = "flow", cost: str = "cost") -> Flow:
    """Weights that reach the domains along the edges of a taxonomy in which a domain may have several parents.

    All weight starts at the one root, is conserved at every inner node, and w_i is what flows into domain i, a leaf. Bounds on
    ``into(node)`` cap a topic, on ``along(parent, child)`` what a topic may give to a domain; the flow's ``cost`` adds up the
    edge attribute ``cost`` (1 where no edge has it) times what flows. In a tree the flow is unique.

    Raises:
        InputError: no direction, a cycle, several roots, or leaves that are not the domains.
    """
    names = names_of(w)
    refuse_unless_graph(taxonomy)
    refuse_cycles(taxonomy, "flow")
    _one_root(taxonomy, names)
    edges = tuple(taxonomy.edges)
    amounts = variable(name, len(edges), nonneg=True)
    inner = [node for node in taxonomy if taxonomy.in_degree(node) and taxonomy.out_degree(node)]
    relations = [equal(_sums(amounts, edges, names, 1), w).named(f"{name} into the domains")]
    if inner:
        labels = tuple(map(str, inner))
        kept = equal(_sums(amounts, edges, inner, 1, labels), _sums(amounts, edges, inner, 0, labels))
        relations.append(kept.named(f"{name} conserved"))
    return Flow(amounts, edges, tuple(relations), constant(attribute(taxonomy, cost)) @ amounts)


def wasserstein(
    w: Expr, centre: Expr | Mapping[str, float] | Sequence[float], graph: Any, name: str = "moved", length: str = "length"
) -> Flow:
    """The least cost of moving the mixture ``centre`` along the edges of a graph until it is w: W_1 in the graph's metric.

    ``cost`` is that distance wherever it is minimised or bounded from above, so ``cost <= radius`` is a trust region that lets
    weight move to similar domains sooner than to others. An edge costs its attribute ``length`` (1 where no edge has it) for each
    unit of weight, in both directions. ``centre`` may be another mixture over the same domains, such as the stage before.
    The balance of the last domain follows from the others and is left out [k - 1].

    Raises:
        InputError: a graph over other nodes, directed, in several parts, or with a length that is not > 0.
    """
    import networkx as nx

    names = names_of(w)
    check_nodes(graph, names, "wasserstein")
    if graph.is_directed():
        raise InputError("wasserstein is of an undirected graph, and this one is directed; give graph.to_undirected()")
    if not nx.is_connected(graph):
        part = sorted(next(iter(nx.connected_components(graph))))
        raise InputError(f"nothing can move between {listed(part)} and the other domains, for the graph is not connected; add an edge")
    if len(names) < 2:
        raise InputError("there is one domain, so nothing can move")
    lengths = attribute(graph, length)
    if lengths.min() <= 0:
        raise InputError(f"an edge has the {length} {lengths.min():.6g}; lengths are > 0")
    here = _centre(w, centre)
    edges = (*graph.edges, *((b, a) for a, b in graph.edges))
    amounts = variable(name, len(edges), nonneg=True)
    rows = names[:-1]
    places = list(range(len(rows)))
    arriving = _sums(amounts, edges, rows, 1) - _sums(amounts, edges, rows, 0)
    balance = equal(w[places] - here[places], arriving).named(f"{name} balance")
    return Flow(amounts, edges, (balance,), constant(np.tile(lengths, 2)) @ amounts)


def transport(w: Expr, old: Mapping[str, float], costs: Any, name: str = "transported", length: str = "length") -> Flow:
    """The least cost of turning a mixture over an old partition into w over a new one: optimal transport between the two.

    ``old`` has the old domains' weights; ``costs`` is what a unit of weight costs from each old to each new domain: a matrix
    [old, new], or a networkx graph that has both as nodes, whose shortest paths by the edge attribute ``length`` (1 where no edge
    has it) are taken. ``amounts`` is the plan, one entry for each pair, and ``cost`` the distance wherever it is minimised or
    bounded from above.
    The row of the last old domain follows from the others and is left out.

    Raises:
        InputError: weights that are none, costs of another shape, negative or not finite, or pairs that no path joins.
    """
    names, before = names_of(w), Domains(list(old))
    weights = before.weights(old)
    matrix = _costs(costs, before.names, names, length)
    edges = tuple((a, b) for a in before.names for b in names)
    amounts = variable(name, len(edges), nonneg=True)
    m, k = len(before), len(names)
    new = equal(summed(amounts, [tuple(range(j, m * k, k)) for j in range(k)], names), w).named(f"{name} new")
    relations = [new]
    if m > 1:
        rows = [tuple(range(i * k, (i + 1) * k)) for i in range(m - 1)]
        given = constant(weights[:-1], before.names[:-1])
        relations.append(equal(summed(amounts, rows, before.names[:-1]), given).named(f"{name} old"))
    return Flow(amounts, edges, tuple(relations), constant(matrix.ravel()) @ amounts)


def _one_root(taxonomy: Any, names: tuple[str, ...]) -> None:
    roots = [node for node in taxonomy if taxonomy.in_degree(node) == 0]
    if len(roots) != 1:
        raise InputError(f"a taxonomy has one root, but {len(roots)} nodes have no parent: {listed(roots)}; add a root above them")
    leaves = [node for node in taxonomy if taxonomy.out_degree(node) == 0]
    known = set(names)
    for leaf in leaves:
        if leaf not in known:
            raise unknown("domain", leaf, names)
    missing = [name for name in names if name not in set(leaves)]
    if missing:
        raise InputError(f"the taxonomy does not have the domains {listed(missing)} as leaves; each domain is one")


def _sums(
    amounts: Expr, edges: tuple[tuple[str, str], ...], nodes: Sequence[str], side: int, labels: tuple[str, ...] | None = None
) -> Expr:
    """What leaves (0) or enters (1) some nodes."""
    groups: dict[str, list[int]] = {node: [] for node in nodes}
    for i, edge in enumerate(edges):
        if edge[side] in groups:
            groups[edge[side]].append(i)
    return summed(amounts, [tuple(group) for group in groups.values()], labels or tuple(nodes))


def _centre(w: Expr, centre: Expr | Mapping[str, float] | Sequence[float]) -> Expr:
    names = names_of(w)
    if not isinstance(centre, Expr):
        return constant(Domains(names).weights(centre), names)
    if centre.index != names:
        raise ProblemError(f"the centre '{centre}' is over {listed(centre.index or ())}, not over {listed(names)}")
    return centre


def _costs(costs: Any, old: tuple[str, ...], new: tuple[str, ...], length: str) -> np.ndarray:
    import networkx as nx

    if not isinstance(costs, nx.Graph):
        matrix = np.asarray(costs, dtype=float)
        if matrix.shape != (len(old), len(new)) or not np.isfinite(matrix).all() or matrix.min() < 0:
            raise InputError(
                f"costs are a graph or a matrix [{len(old)}, {len(new)}] of finite numbers >= 0, not one of shape {matrix.shape}"
            )
        return matrix
    refuse_unless_graph(costs)
    for name in (*old, *new):
        if name not in costs:
            raise unknown("node", name, map(str, costs))
    lengths = attribute(costs, length)
    if len(lengths) and lengths.min() < 0:
        raise InputError(f"an edge has the {length} {lengths.min():.6g}; lengths are >= 0")
    matrix = np.zeros((len(old), len(new)))
    for i, a in enumerate(old):
        reached = nx.single_source_dijkstra_path_length(costs, a, weight=lambda u, v, data: data.get(length, 1))
        for j, b in enumerate(new):
            if b not in reached:
                raise InputError(f"no path leads from {a!r} to {b!r}, so nothing can be transported between them; join the graph's parts")
            matrix[i, j] = reached[b]
    return matrix
