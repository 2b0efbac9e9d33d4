"""Graphs and trees over many domains: the same numbers without large matrices."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import mixopt as mx
from mixopt.language.graph import priors, read
from mixopt.runtime.program import Function

K = 30


def largest(expr):
    return max((n.data.value.size for n in expr.walk() if n.op == "constant"), default=0)


def value(expr, symbols, at):
    return Function(expr, symbols, {}).value(np.asarray(at, dtype=float))


@pytest.fixture
def small(monkeypatch):
    """No matrix is small enough to be formed."""
    monkeypatch.setattr(read, "LARGE", 0)


def test_sums_by_halving_are_the_sums(small):
    names = [f"d{i}" for i in range(K)]
    codes = {name: (i % 3, i % 7, i % 2) for i, name in enumerate(names)}
    w, at = mx.Mixture(names), np.random.default_rng(0).dirichlet(np.ones(K))
    for level in (1, 2):
        sums = mx.graph.tree_sums(w, codes, level)
        expected: dict[str, float] = {}
        for name, x in zip(names, at, strict=True):
            key = "/".join(map(str, codes[name][:level]))
            expected[key] = expected.get(key, 0.0) + x
        assert dict(zip(sums.index, value(sums, w, at), strict=True)) == pytest.approx(expected)
        assert largest(sums) <= K


def test_a_problem_by_halving_has_the_same_optimum(monkeypatch):
    names = list("abcdefg")
    w, graph = mx.Mixture(names), nx.wheel_graph(7)
    graph = nx.relabel_nodes(graph, dict(enumerate(names)))
    gain, answers = np.arange(7.0), []
    for limit in (read.LARGE, 0):
        monkeypatch.setattr(read, "LARGE", limit)
        moved = mx.graph.wasserstein(w, np.full(7, 1 / 7), graph)
        problem = mx.maximize(gain @ w, over=(w, moved.amounts), subject_to=[*moved.relations, moved.cost <= 0.3])
        answers.append(mx.solve(problem).value)
    assert answers[0] == pytest.approx(answers[1], abs=1e-6)


def test_a_walk_step_by_step_is_the_walk_at_once(monkeypatch):
    graph = nx.relabel_nodes(nx.path_graph(K), {i: f"d{i}" for i in range(K)})
    domains = mx.Domains(list(graph), tokens=np.arange(1.0, K + 1))
    at_once = mx.graph.diffused(domains, graph, 0.9)
    monkeypatch.setattr(priors, "DENSE", 0)
    assert mx.graph.diffused(domains, graph, 0.9) == pytest.approx(at_once, abs=1e-12)


def test_ten_thousand_domains_and_fifty_thousand_edges_need_no_matrix():
    k, m = 10_000, 50_000
    names = [f"source {i % 100}/topic {i}" for i in range(k)]
    random = np.random.default_rng(0)
    graph = nx.path_graph(names)
    pairs = random.integers(0, k, (m - k + 1, 2))
    graph.add_edges_from((names[i], names[j]) for i, j in pairs if i != j)
    domains = mx.Domains(names, tokens=random.uniform(1, 10, k))
    w, at = mx.Mixture(domains), domains.natural
    penalty, limit = mx.graph.smoothness(w, graph), mx.graph.differences(w, graph, 1e-3)
    inside, moved = mx.graph.level_kl(w, (1.0, 2.0)), mx.graph.wasserstein(w, at, graph)
    for expr in (penalty, limit.gap, inside, moved.relations[0].gap):
        assert largest(expr) <= 2_000_000
    assert value(penalty, w, at) == pytest.approx(0, abs=1e-12)
    assert value(inside, w, at) == pytest.approx(0, abs=1e-9)
    assert value(limit.gap, w, at).shape == (2 * graph.number_of_edges(),)
    assert len(str(mx.minimize(penalty + inside, over=w, subject_to=[limit]))) < 2000
