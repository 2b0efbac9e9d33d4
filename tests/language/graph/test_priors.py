"""Section 2.6: priors by diffusion along a graph."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx

NAMES = ["a", "b", "c", "d"]
DOMAINS = mx.Domains(NAMES, tokens=[4.0, 3.0, 2.0, 1.0])


def drawn(directed=False):
    made = nx.DiGraph() if directed else nx.Graph()
    made.add_weighted_edges_from([("a", "b", 1.0), ("b", "c", 2.0), ("c", "a", 0.5), ("c", "d", 3.0), ("d", "b", 1.5)])
    return made


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.85])
def test_diffusion_is_personalised_pagerank(directed, alpha):
    graph = drawn(directed)
    q = dict(zip(NAMES, DOMAINS.natural, strict=True))
    expected = nx.pagerank(graph, alpha=alpha, personalization=q, tol=1e-14, max_iter=1000)
    assert mx.graph.diffused(DOMAINS, graph, alpha) == pytest.approx([expected[n] for n in NAMES], abs=1e-10)
    assert mx.graph.diffused(q, graph, alpha) == pytest.approx([expected[n] for n in NAMES], abs=1e-10)


def test_the_formula_by_hand():
    """(1 - alpha) (I - alpha P)^-1 q on two domains: with P the exchange, (1 - a) (q + a P q) / (1 - a^2)."""
    graph = nx.Graph([("a", "b")])
    found = mx.graph.diffused({"a": 0.75, "b": 0.25}, graph, alpha=0.5)
    assert found == pytest.approx([(0.75 + 0.125) / 1.5, (0.25 + 0.375) / 1.5], abs=1e-14)


@settings(deadline=None, max_examples=30)
@given(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda e: e[0] < e[1])), st.floats(0, 0.99), st.booleans())
def test_the_simplex_is_kept_and_lonely_domains_keep_their_share(pairs, alpha, directed):
    names = [f"n{i}" for i in range(6)]
    graph = nx.DiGraph() if directed else nx.Graph()
    graph.add_nodes_from(names)
    graph.add_edges_from((names[i], names[j]) for i, j in pairs)
    q = np.arange(1.0, 7) / 21
    found = mx.graph.diffused(dict(zip(names, q, strict=True)), graph, alpha)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-12)
    for i, name in enumerate(names):
        if nx.degree(graph, name) == 0:
            assert found[i] == pytest.approx(q[i], abs=1e-12)


def test_a_centre_for_kl():
    w = mx.Mixture(DOMAINS)
    centre = mx.graph.diffused(DOMAINS, drawn(), alpha=0.5)
    assert mx.solve(mx.minimize(mx.kl(w, centre), over=w)).vector == pytest.approx(centre, abs=1e-5)
