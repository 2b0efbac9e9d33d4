"""A graph over domains from matrices, such as similarities of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mixopt.errors import InputError
from mixopt.language.domains import Domains


def from_matrix(domains: Domains | Sequence[str], **attributes: Any) -> Any:
    """The undirected networkx graph over the domains whose edges have the entries of symmetric matrices [k, k] as attributes.

    The first matrix says which edges there are: those where it is not 0; its diagonal does not count. Name it ``weight`` for the
    penalties and what you like for bounds: ``from_matrix(domains, weight=similarity, limit=0.1 + 1 - similarity)``.

    Raises:
        InputError: no matrix, or one that is not [k, k], finite and symmetric.
    """
    import networkx as nx

    names = domains.names if isinstance(domains, Domains) else tuple(domains)
    tables = {name: np.asarray(value, dtype=float) for name, value in attributes.items()}
    if not tables:
        raise InputError("a graph from matrices takes at least one, such as weight=similarity")
    for name, table in tables.items():
        if table.shape != (len(names), len(names)) or not np.isfinite(table).all() or not np.allclose(table, table.T):
            raise InputError(f"{name} is no finite symmetric matrix [{len(names)}, {len(names)}]: its shape is {list(table.shape)}")
    first = next(iter(tables.values()))
    graph = nx.Graph()
    graph.add_nodes_from(names)
    for i, j in zip(*np.nonzero(np.triu(first, 1)), strict=True):
        graph.add_edge(names[i], names[j], **{name: float(table[i, j]) for name, table in tables.items()})
    return graph
