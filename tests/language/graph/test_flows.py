"""Section 2.5: flow through a taxonomy with several parents, transport between mixtures and between partitions."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import mixopt as mx
from mixopt.runtime.program import Function

NAMES = ("math", "code", "news", "forum")
TAXONOMY = nx.DiGraph(
    [
        ("all", "stem"),
        ("all", "web"),
        ("stem", "math"),
        ("stem", "code"),
        ("web", "code"),
        ("web", "news"),
        ("web", "talk"),
        ("talk", "forum"),
    ]
)


def edges_at(edges, node, side):
    return np.array([float(edge[side] == node) for edge in edges])


def test_flow_is_the_linear_program_written_by_hand():
    """max <gain, w> with the STEM topic capped and what the web may give to code capped, over the edge flows alone."""
    gain = np.array([1.0, 0.9, 0.2, 0.1])
    w = mx.Mixture(list(NAMES))
    route = mx.graph.flow(w, TAXONOMY)
    limits = [*route.relations, (route.into("stem") <= 0.5).named("stem"), (route.along("web", "code") <= 0.2).named("web to code")]
    found = mx.solve(mx.maximize(gain @ w, over=(w, route.amounts), subject_to=limits))
    edges = list(TAXONOMY.edges)
    inflow = np.array([edges_at(edges, name, 1) for name in NAMES])
    kept = [edges_at(edges, node, 1) - edges_at(edges, node, 0) for node in ("stem", "web", "talk")]
    capped = [edges_at(edges, "stem", 1), np.array([float(edge == ("web", "code")) for edge in edges])]
    solved = linprog(-gain @ inflow, A_ub=capped, b_ub=[0.5, 0.2], A_eq=[*kept, edges_at(edges, "all", 0)], b_eq=[0, 0, 0, 1])
    assert found.value == pytest.approx(-solved.fun, abs=1e-7)
    assert found.value == pytest.approx(0.5 + 0.18 + 0.06, abs=1e-7)
    assert found[w] == pytest.approx({"math": 0.5, "code": 0.2, "news": 0.3, "forum": 0.0}, abs=1e-6)
    assert found.duals["stem"] == pytest.approx(0.8, abs=1e-6)


def test_in_a_tree_the_flow_is_the_tree_s_sums():
    names = ["web/news", "web/forum", "books/old", "books/new"]
    domains = mx.Domains(names, tokens=[4.0, 3.0, 2.0, 1.0])
    w = mx.Mixture(domains)
    drawn = nx.DiGraph([("all", "web"), ("all", "books"), *((n.split("/")[0], n) for n in names)])
    route = mx.graph.flow(w, drawn)
    pull = mx.kl(w, domains.natural)
    by_flow = mx.solve(mx.minimize(pull, over=(w, route.amounts), subject_to=[*route.relations, route.into("web") <= 0.4]))
    by_tree = mx.solve(mx.minimize(pull, over=w, subject_to=[mx.graph.tree_sums(w)["web"] <= 0.4]))
    assert list(by_flow[w].values()) == pytest.approx(by_tree.vector, abs=1e-5)
    assert by_flow[route.amounts][list(drawn.edges).index(("all", "web"))] == pytest.approx(0.4, abs=1e-5)


def test_the_cost_of_a_flow():
    graph = TAXONOMY.copy()
    for a, b in graph.edges:
        graph[a][b]["cost"] = 5.0 if (a, b) == ("web", "code") else 1.0
    w = mx.Mixture(list(NAMES))
    route = mx.graph.flow(w, graph)
    fixed = mx.equal(w["code"], 1)
    found = mx.solve(mx.minimize(route.cost, over=(w, route.amounts), subject_to=[*route.relations, fixed]))
    assert found.value == pytest.approx(2.0, abs=1e-6)  # all -> stem -> code


def distance(w, centre, graph, at):
    """W_1 of a fixed point, as the least cost of the flow that reaches it."""
    moved = mx.graph.wasserstein(w, centre, graph)
    limits = [*moved.relations, mx.equal(w[:-1], np.array(at)[:-1]).named("at")]
    return mx.solve(mx.minimize(moved.cost, over=(w, moved.amounts), subject_to=limits)).value


def by_linprog(costs, old, new):
    m, k = costs.shape
    rows = np.vstack([np.kron(np.eye(m), np.ones(k)), np.kron(np.ones(m), np.eye(k))])
    return linprog(costs.ravel(), A_eq=rows, b_eq=np.concatenate([old, new])).fun


def test_on_a_path_it_is_the_area_between_cumulative_weights():
    names = list("abcde")
    centre, at = np.array([0.5, 0.1, 0.1, 0.1, 0.2]), np.array([0.1, 0.2, 0.3, 0.1, 0.3])
    expected = np.abs(np.cumsum(centre - at)).sum()
    assert distance(mx.Mixture(names), centre, nx.path_graph(names), at) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6))
def test_it_is_optimal_transport_by_shortest_paths(seed):
    random = np.random.default_rng(seed)
    names = list("abcdef")
    graph = nx.cycle_graph(names)
    graph.add_edge("a", "d")
    for a, b in graph.edges:
        graph[a][b]["length"] = float(random.uniform(0.5, 2))
    metric = dict(nx.all_pairs_dijkstra_path_length(graph, weight="length"))
    costs = np.array([[metric[a][b] for b in names] for a in names])
    centre, at = random.dirichlet(np.ones(6), 2)
    assert distance(mx.Mixture(names), centre, graph, at) == pytest.approx(by_linprog(costs, centre, at), abs=1e-6)


def test_a_ball_lets_weight_move_to_neighbours_first():
    """max <gain, w> within W_1 <= 0.3 of the centre on a path: 0.3 moves from b to c at distance 1, nothing from a at 2."""
    names = ["a", "b", "c"]
    w = mx.Mixture(names)
    moved = mx.graph.wasserstein(w, [0.4, 0.4, 0.2], nx.path_graph(names))
    limits = [*moved.relations, (moved.cost <= 0.3).named("ball")]
    found = mx.solve(mx.maximize(w["c"] + 0.4 * w["b"], over=(w, moved.amounts), subject_to=limits))
    assert found[w] == pytest.approx({"a": 0.4, "b": 0.1, "c": 0.5}, abs=1e-6)
    assert found.duals["ball"] == pytest.approx(0.6, abs=1e-6)


def test_stages_that_move_little():
    """Three stages from one corner of a path to the other, each within W_1 <= 1 of the last."""
    names = ["a", "b", "c"]
    p = mx.Mixture(names, stages=3)
    graph = nx.path_graph(names)
    moves = [mx.graph.wasserstein(p[t], p[t - 1], graph, name=f"move {t}") for t in (1, 2)]
    limits = [r for m in moves for r in m.relations] + [(m.cost <= 0.75).named(f"step {t}") for t, m in enumerate(moves, 1)]
    start = mx.equal(p[0]["a"], 1).named("start")
    over = (p, *(m.amounts for m in moves))
    found = mx.solve(mx.maximize(p[2]["c"], over=over, subject_to=[*limits, start]))
    assert found.value == pytest.approx(0.75, abs=1e-6)


def test_transport_between_partitions_is_the_linear_program():
    """KL of the new mixture plus the transport cost, against cvxpy written by hand."""
    import cvxpy as cp

    old = {"crawl": 0.6, "books": 0.3, "wiki": 0.1}
    q = np.array([0.4, 0.3, 0.2, 0.1])
    costs = np.array([[3, 2, 0.5, 0.4], [0.3, 2, 2, 2], [0.2, 1, 1, 1.5]])
    w = mx.Mixture(list(NAMES))
    plan = mx.graph.transport(w, old, costs)
    found = mx.solve(mx.minimize(plan.cost + mx.kl(w, q), over=(w, plan.amounts), subject_to=plan.relations))
    pi = cp.Variable((3, 4), nonneg=True)
    objective = cp.sum(cp.multiply(costs, pi)) + cp.sum(cp.rel_entr(cp.sum(pi, axis=0), q))
    problem = cp.Problem(cp.Minimize(objective), [cp.sum(pi, axis=1) == np.array(list(old.values()))])
    problem.solve(solver="CLARABEL")
    assert found.value == pytest.approx(problem.value, abs=1e-6)
    assert list(found[w].values()) == pytest.approx(pi.value.sum(0), abs=1e-4)
    assert plan.edges[1] == ("crawl", "code")


def test_costs_by_shortest_paths_are_those_of_the_matrix():
    graph = nx.Graph([("crawl", "x"), ("x", "math"), ("x", "code"), ("books", "code"), ("books", "news"), ("news", "forum")])
    w = mx.Mixture(list(NAMES))
    by_graph = mx.graph.transport(w, {"crawl": 0.5, "books": 0.5}, graph)
    by_hand = mx.graph.transport(w, {"crawl": 0.5, "books": 0.5}, [[2, 2, 4, 5], [3, 1, 1, 2]])
    assert by_graph.cost == by_hand.cost


def test_relations_hold_at_a_plan():
    w = mx.Mixture(list(NAMES))
    plan = mx.graph.transport(w, {"crawl": 0.5, "books": 0.5}, np.ones((2, 4)))
    at = np.array([0.25, 0.25, 0.25, 0.25])
    gaps = [Function(r.gap, (w, plan.amounts), {}).value(np.concatenate([at, np.full(8, 0.125)])) for r in plan.relations]
    assert np.concatenate([np.atleast_1d(g) for g in gaps]) == pytest.approx(0, abs=1e-12)
