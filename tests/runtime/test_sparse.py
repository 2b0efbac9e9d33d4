"""Sparse Jacobians: equal to the dense ones, and never dense on the way; large problems solved and certified with them."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import linprog

import mixopt as mx
from mixopt.report.check import certify, stationarity
from mixopt.runtime import program
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region
from mixopt.solvers import Conic

NAMES = [f"d{i}" for i in range(7)]
W, Z, T = mx.Mixture(NAMES), mx.variable("z", 3), mx.variable("t")
MATRIX = np.random.default_rng(0).normal(size=(4, 7))
PAIRS = W[[0, 1, 2, 3]] - mx.constant(np.ones(4)) * W[3]
VECTORS = {
    "the weights": W,
    "a matrix": mx.constant(MATRIX) @ W - T,
    "a row and a matrix": W @ mx.constant(MATRIX.T),
    "entries": W[[5, 1, 1]] * Z,
    "entry by entry": mx.exp(W) / (W + 1.0) - mx.square(W - 0.2) + mx.log(W + 0.1),
    "kinks": mx.maximum(W, 0.1) + mx.abs(W - T) + mx.pos(W - 0.3),
    "a scalar spread": mx.sum(W) * Z + mx.max(W) + mx.kl(W, np.full(7, 1 / 7)),
    "a scalar": mx.sum_squares(Z) * T + W["d0"],
    "a stack": mx.stack([W[0], T, mx.sum(Z)]),
    "two unknowns": Z * T - mx.norm(W),
    "softer": mx.softplus(W) + mx.sqrt(W + 1.0) + mx.huber(W, 0.1) + (W + 1.0) ** 1.5,
}


@pytest.mark.parametrize("expr", VECTORS.values(), ids=VECTORS)
def test_the_sparse_jacobian_is_the_dense_one(expr, monkeypatch):
    function = Function(expr, (W, Z, T), {})
    x = np.concatenate([np.random.default_rng(1).dirichlet(np.ones(7)), [0.3, -0.2, 0.5], [0.7]])
    expected = function.jacobian(x)
    monkeypatch.setattr(program, "MOST_DENSE", 0)
    np.testing.assert_allclose(function.rows(x).toarray(), expected, atol=1e-14)


def region_of(*constraints) -> Region:
    return Region.compile(W, constraints, {})


def test_a_region_is_the_same_by_sparse_rows(monkeypatch):
    limits = [W <= 0.4, PAIRS <= 0.05, mx.equal(W["d5"], 0.1), mx.equal(mx.mass(W, ["d0", "d1"]), 0.3), W["d6"] >= 0.02]
    dense = region_of(*limits)
    monkeypatch.setattr(program, "MOST_DENSE", 0)
    sparse = region_of(*limits)
    assert sparse.kind == dense.kind == "linear"
    np.testing.assert_allclose(sparse.lower, dense.lower)
    np.testing.assert_allclose(sparse.upper, dense.upper)
    np.testing.assert_allclose(sparse.G.toarray(), dense.G, atol=1e-15)
    np.testing.assert_allclose(sparse.h, dense.h)
    g = np.arange(7.0)
    assert g @ sparse.lowest(g) == pytest.approx(g @ dense.lowest(g), abs=1e-9)
    np.testing.assert_allclose(sparse.project(g / 21), dense.project(g / 21), atol=1e-9)


def test_the_residual_by_known_multipliers_is_that_by_the_best():
    goal = mx.sum_squares(W - np.eye(7)[0])
    limits = [(W["d0"] <= 0.4).named("cap"), (PAIRS <= 0.1).named("pairs")]
    result = mx.solve(mx.minimize(goal, over=W, subject_to=limits), solver=Conic())
    region, gradient = region_of(*limits), 2 * (result.vector - np.eye(7)[0])
    assert stationarity(region, result.vector, gradient, result.duals) <= 1e-6
    assert stationarity(region, result.vector, gradient, {}) is None
    check, _ = certify(region, np.full(7, 1 / 7), np.arange(7.0), "by hand")
    without = stationarity(region_of(), np.full(7, 1 / 7), np.arange(7.0), {})
    assert check.kkt == pytest.approx(without) == pytest.approx(np.linalg.norm(np.arange(7.0) - 3))


def test_many_domains_and_edges_are_solved_without_dense_matrices():
    """A chain of 3000 domains with bounded steps; a dense Jacobian of its 2999 rows would have nine million entries."""
    k = 3000
    domains = mx.Domains([f"d{i}" for i in range(k)])
    w, target = mx.Mixture(domains), np.linspace(0, 2 / k, k)
    graph = nx.path_graph(domains.names)
    steps = mx.graph.differences(w, graph, at_most=1e-3 / k).named("steps")
    problem = mx.minimize(k * mx.sum_squares(w - target), over=w, subject_to=[steps, (w <= 2.5 / k).named("cap")])
    result = mx.solve(problem, solver=Conic())
    assert result.status is mx.Status.OPTIMAL
    assert result.check.feasible
    assert result.check.kkt <= 1e-6
    assert result.check.gap <= 1e-9, "by the solver's multipliers, with no linear program"
    assert "the solver's multipliers" in result.check.oracle
    np.testing.assert_allclose(result.vector, target, atol=1e-3 / k)


def test_a_linear_cost_over_sparse_rows_is_the_linear_programs(monkeypatch):
    cost = np.random.default_rng(4).normal(size=7)
    monkeypatch.setattr(program, "MOST_DENSE", 0)
    region = region_of(mx.constant(MATRIX) @ W <= 0.3)
    by_scipy = linprog(cost, A_ub=MATRIX, b_ub=np.full(4, 0.3), A_eq=np.ones((1, 7)), b_eq=[1.0])
    assert cost @ region.lowest(cost) == pytest.approx(by_scipy.fun, abs=1e-9)
