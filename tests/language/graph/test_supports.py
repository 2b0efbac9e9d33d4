"""Section 2.3, mixed-integer: support precedence and start-time precedence, against all choices tried one by one."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import linprog

import mixopt as mx

NAMES = ("basic", "maths", "code", "proofs")
DAG = nx.DiGraph([("basic", "maths"), ("basic", "code"), ("maths", "proofs")])
EDGES = [(0, 1), (0, 2), (1, 3)]


def supports():
    for z in itertools.product([0, 1], repeat=4):
        if all(z[child] <= z[parent] for parent, child in EDGES) and any(z):
            yield np.array(z)


@pytest.mark.parametrize("gain", [[0.0, 0.2, 0.1, 1.0], [0.0, 0.3, 0.9, 0.7], [0.5, 0.2, 0.1, 0.3]])
def test_support_precedence_is_the_best_of_all_supports(gain):
    w = mx.Mixture(list(NAMES))
    order = mx.graph.support_order(w, DAG, at_least=0.15)
    found = mx.solve(mx.maximize(np.array(gain) @ w, over=(w, *order.switches), subject_to=order.relations))
    values = []
    for z in supports():
        solved = linprog(-np.array(gain), A_eq=[np.ones(4)], b_eq=[1], bounds=np.column_stack([0.15 * z, z]))
        values.append(-solved.fun if solved.status == 0 else -np.inf)
    assert found.value == pytest.approx(max(values), abs=1e-6)
    weights = np.array(list(found[w].values()))
    assert all(weights[child] < 1e-6 or weights[parent] > 0.15 - 1e-6 for parent, child in EDGES)


def test_a_convex_objective_and_a_number_of_domains():
    """max 2 <gain, w> - |w|^2 with at most 2 domains: w_proofs would need three."""
    gain = np.array([0.1, 0.4, 0.6, 1.0])
    w = mx.Mixture(list(NAMES))
    order = mx.graph.support_order(w, DAG, at_least=0.1)
    limits = [*order.relations, (mx.sum(order.on) <= 2).named("two")]
    found = mx.solve(mx.maximize(2 * (gain @ w) - mx.sum_squares(w), over=(w, *order.switches), subject_to=limits))
    best = max(  # basic and one child: the optimum of a + (1 - a) in closed form
        2 * (a * gain[0] + (1 - a) * gain[i]) - a**2 - (1 - a) ** 2 for i in (1, 2) for a in np.linspace(0.1, 1, 90001)
    )
    assert found.value == pytest.approx(best, abs=1e-6)
    assert found[w]["proofs"] == pytest.approx(0, abs=1e-6)


def by_enumeration(gain, dag, after):
    """The best curriculum [T, 3] by a linear program for each choice of what may start when."""
    stages, k = gain.shape
    children = sorted({child for _, child in dag})
    best = -np.inf
    for z in itertools.product([0, 1], repeat=(stages - 1) * len(children)):
        upper, rows = np.ones((stages, k)), []
        upper[0, children] = 0
        for (t, child), on in zip(itertools.product(range(1, stages), children), z, strict=True):
            upper[t, child] = on
            for parent in (p for p, c in dag if c == child and on):
                row = np.zeros((stages, k))
                row[:t, parent] = -1 / stages
                rows.append(row.ravel())
        sums = np.kron(np.eye(stages), np.ones(k))
        more = {"A_ub": rows, "b_ub": np.full(len(rows), -after)} if rows else {}
        solved = linprog(
            -gain.ravel(), A_eq=sums, b_eq=np.ones(stages), bounds=np.column_stack([np.zeros(stages * k), upper.ravel()]), **more
        )
        best = max(best, -solved.fun) if solved.status == 0 else best
    return best


@pytest.mark.parametrize("after", [0.1, 0.3, 0.5])
def test_start_times_are_the_best_of_all_starts(after):
    names = ["basic", "maths", "proofs"]
    p = mx.Mixture(names, name="p", stages=3)
    gain = np.array([[0.1, 0.5, 1.0], [0.1, 0.5, 1.0], [0.1, 0.5, 1.0]])
    order = mx.graph.start_order(p, nx.DiGraph([("basic", "maths"), ("maths", "proofs")]), after)
    objective = sum(g @ row for g, row in zip(gain, p, strict=True))
    found = mx.solve(mx.maximize(objective, over=(p, *order.switches), subject_to=order.relations))
    assert found.value == pytest.approx(by_enumeration(gain, [(0, 1), (1, 2)], after), abs=1e-6)


def test_refusals():
    w, p = mx.Mixture(list(NAMES)), mx.Mixture(list(NAMES), name="p", stages=1)
    for call, message in (
        (lambda: mx.graph.support_order(w, DAG, 0), "a domain that is used has at least 0; a share is a number in (0, 1]"),
        (lambda: mx.graph.support_order(w, nx.create_empty_copy(DAG), 0.1), "the graph has no edge, so it orders nothing"),
        (lambda: mx.graph.start_order(p, DAG, 2), "a child starts after 2 of all tokens; a share is a number in (0, 1]"),
        (
            lambda: mx.graph.start_order(p, DAG, 0.2),
            "'p' has one stage, so no domain can come before another; make it by Mixture(domains, stages=T)",
        ),
    ):
        with pytest.raises(mx.ProblemError) as caught:
            call()
        assert str(caught.value) == message
