"""Sections 2.2 and 2.3: bounded differences and ratios on edges, order along a directed graph without cycles."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import mixopt as mx
from mixopt.language.curvature import curvature

NAMES = ("a", "b", "c", "d", "e")
GAIN = np.array([1.0, 0.7, 0.1, 0.4, 0.2])
Q = np.array([0.4, 0.3, 0.1, 0.15, 0.05])
PATH = nx.path_graph(NAMES)


def mixture(names=NAMES):
    return mx.Mixture(mx.Domains(names, tokens=list(Q * 1e12)))


def best(rows, h, gain=GAIN, extra=None):
    """max <gain, w> over the simplex with rows @ w <= h: value, weights and the multipliers of the rows."""
    solved = linprog(-gain, A_ub=rows, b_ub=h, A_eq=np.ones((1, len(gain))), b_eq=[1], method="highs")
    assert solved.status == 0
    return -solved.fun, solved.x, -solved.ineqlin.marginals


def incidence(pairs, left=1.0, right=1.0):
    """A row left * e_i - right * e_j for each pair; the factors may depend on it."""
    rows = np.zeros((len(pairs), len(NAMES)))
    for row, (i, j) in zip(rows, pairs, strict=True):
        row[i] = left(i, j) if callable(left) else left
        row[j] = -(right(i, j) if callable(right) else right)
    return rows


def both(graph):
    pairs = [(NAMES.index(a), NAMES.index(b)) for a, b in graph.edges]
    return pairs + [(j, i) for i, j in pairs]


def test_bounded_differences_are_the_linear_program_with_its_duals():
    w = mixture()
    limit = mx.graph.differences(w, PATH, at_most=0.05)
    found = mx.solve(mx.maximize(GAIN @ w, over=w, subject_to=[limit]))
    value, weights, prices = best(incidence(both(PATH)), np.full(8, 0.05))
    assert found.value == pytest.approx(value, abs=1e-7)
    assert found.vector == pytest.approx(weights, abs=1e-6)
    duals = found.duals["edge differences"]
    assert list(duals) == ["a - b", "b - c", "c - d", "d - e", "b - a", "c - b", "d - c", "e - d"]
    assert list(duals.values()) == pytest.approx(prices, abs=1e-6)


def test_density_differences_and_bounds_of_their_own():
    w, graph = mixture(), PATH.copy()
    for n, (_, _, data) in enumerate(graph.edges(data=True)):
        data["gap"] = 0.1 * (n + 1)
    limit = mx.graph.differences(w, graph, at_most="gap", form="density")
    found = mx.solve(mx.maximize(GAIN @ w, over=w, subject_to=[limit]))
    rows = incidence(both(graph), lambda i, j: 1 / Q[i], lambda i, j: 1 / Q[j])
    value, weights, _ = best(rows, np.tile([0.1, 0.2, 0.3, 0.4], 2))
    assert found.value == pytest.approx(value, abs=1e-7)
    assert found.vector == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize("form", ["raw", "density"])
def test_bounded_ratios_are_the_linear_program(form):
    w = mixture()
    limit = mx.graph.ratios(w, PATH, at_most=1.5, form=form)
    found = mx.solve(mx.maximize(GAIN @ w, over=w, subject_to=[limit]))
    by = Q if form == "density" else np.ones(5)
    rows = incidence(both(PATH), lambda i, j: 1 / by[i], lambda i, j: 1.5 / by[j])
    value, weights, _ = best(rows, np.zeros(8))
    assert found.value == pytest.approx(value, abs=1e-7)
    assert found.vector == pytest.approx(weights, abs=1e-6)
    ratio = found.vector / by
    assert max(ratio[i] / ratio[j] for i, j in both(PATH)) == pytest.approx(1.5, abs=1e-5)


def test_a_parameter_bounds_at_each_run():
    w, slack = mixture(), mx.parameter("slack", nonneg=True)
    plan = mx.plan(mx.maximize(GAIN @ w, over=w, subject_to=[mx.graph.differences(w, PATH, at_most=slack)]))
    for bound in (0.02, 0.1):
        value, _, _ = best(incidence(both(PATH)), np.full(8, bound))
        assert plan.run(given={"slack": bound}).value == pytest.approx(value, abs=1e-6)


def test_uniform_weights_meet_raw_bounds_and_natural_ones_those_of_densities():
    w = mixture()
    for form, start in (("raw", np.full(5, 0.2)), ("density", Q)):
        for limit in (mx.graph.differences(w, PATH, 0, form=form), mx.graph.ratios(w, PATH, 1, form=form)):
            found = mx.solve(mx.minimize(mx.sum_squares(w - start), over=w, subject_to=[limit]))
            assert found.vector == pytest.approx(start, abs=1e-6)


DAG = nx.DiGraph([("a", "b"), ("b", "c"), ("a", "c"), ("a", "d"), ("d", "e"), ("a", "e")])


def test_order_keeps_the_edges_that_no_path_implies():
    w = mixture()
    relation = mx.graph.order(w, DAG)
    assert relation.gap.index == ("a -> b", "a -> d", "b -> c", "d -> e")
    gain = GAIN[::-1].copy()
    found = mx.solve(mx.maximize(gain @ w, over=w, subject_to=[relation]))
    child_parent = [(NAMES.index(b), NAMES.index(a)) for a, b in DAG.edges]
    value, _, _ = best(incidence(child_parent), np.zeros(6), gain)
    assert found.value == pytest.approx(value, abs=1e-7)
    assert curvature(relation.gap) == "affine"


def test_a_factor_compounds_along_paths():
    """a -> b -> c with factor 1/2: c has at most a quarter of a, and the best is (4, 2, 1) / 7."""
    w = mx.Mixture(["a", "b", "c"])
    chain = nx.DiGraph([("a", "b"), ("b", "c")])
    found = mx.solve(mx.maximize(w["c"], over=w, subject_to=[mx.graph.order(w, chain, factor=0.5)]))
    assert found.vector == pytest.approx(np.array([4, 2, 1]) / 7, abs=1e-6)
    shortcut = nx.DiGraph([("a", "b"), ("b", "c"), ("a", "c")])
    assert len(mx.graph.order(w, shortcut, factor=0.5).gap) == 3  # every edge given is a row


def test_order_of_densities():
    w = mixture()
    found = mx.solve(mx.maximize(w["e"], over=w, subject_to=[mx.graph.order(w, DAG, form="density")]))
    u = found.vector / Q
    assert all(u[NAMES.index(b)] <= u[NAMES.index(a)] + 1e-6 for a, b in DAG.edges)
    assert found.value == pytest.approx(Q[4] / (Q[0] + Q[3] + Q[4]), abs=1e-6)  # a, d and e at one density, b and c at none


@settings(deadline=None, max_examples=25)
@given(st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1), st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_the_reduction_allows_the_same_weights_as_all_edges(pairs, values):
    """Raising every vector to meet the reduced rows meets all edges, by transitivity."""
    names = tuple("abcdefg")
    pairs = {(names[i], names[j]) for i, j in pairs if i < j} or {("a", "b")}
    dag = nx.DiGraph(sorted(pairs))
    dag.add_nodes_from(names)
    w = mx.Mixture(list(names))
    relation = mx.graph.order(w, dag)
    point = dict(zip(names, values, strict=True))
    kept = [label.split(" -> ") for label in relation.gap.index]
    assert {tuple(edge) for edge in kept} <= pairs
    if all(point[b] <= point[a] for a, b in kept):
        assert all(point[b] <= point[a] for a, b in pairs)
    for a, b in pairs:
        assert nx.has_path(nx.DiGraph(kept), a, b)


def test_each_row_is_a_relation_of_its_own_and_a_conflict_names_the_edges():
    w = mixture()
    limit = mx.graph.differences(w, PATH, at_most=0.05)
    rows = mx.graph.each(limit)
    assert [r.name for r in rows][:2] == ["edge differences: a - b", "edge differences: b - c"]
    together = mx.solve(mx.maximize(GAIN @ w, over=w, subject_to=[limit]))
    apart = mx.solve(mx.maximize(GAIN @ w, over=w, subject_to=rows))
    assert apart.value == pytest.approx(together.value, abs=1e-7)
    duals = [apart.duals[r.name] for r in rows]
    assert duals == pytest.approx(list(together.duals["edge differences"].values()), abs=1e-5)
    bounds = [(w["a"] >= 0.3).named("floor"), (w["c"] <= 0.15).named("cap")]
    found = mx.solve(mx.maximize(GAIN @ w, over=w, subject_to=[*rows, *bounds]))
    assert found.status is mx.Status.INFEASIBLE
    assert set(found.conflict) == {"edge differences: a - b", "edge differences: b - c", "floor", "cap"}
    with pytest.raises(mx.ProblemError, match="'cap' is one row already; give a relation of a vector"):
        mx.graph.each(bounds[1])
