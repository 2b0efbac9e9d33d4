"""Sections 2.6 and 2.7: scores from affinities, and games that balance progress, as problems of the language.

Sections 2.1 to 2.5 are in the files beside this one: test_penalties (2.1), test_bounds (2.2, 2.3 static), test_curricula and
test_supports (2.3 staged and mixed-integer), test_trees (2.4), test_flows (2.5), test_priors (2.6, diffusion).
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, minimize
from scipy.special import softmax

import mixopt as mx

K = 5
NAMES = list("abcde")
RANDOM = np.random.default_rng(7)
GRADIENTS = RANDOM.normal(size=(K, 12)) + 0.4
GRAM = GRADIENTS @ GRADIENTS.T
Q = np.array([0.4, 0.25, 0.2, 0.1, 0.05])


def mixture():
    return mx.Mixture(mx.Domains(NAMES, tokens=list(Q * 1e12)))


def test_leverage_scores_are_what_a_ridge_fit_of_each_domain_leaves():
    """2.6, Chameleon: S_i = [K (K + c I)^-1]_ii; here 1 - S_i = min over x of |e_i - K^1/2 x|^2 + c |x|^2, as a program of ours."""
    c = 10.0
    values, vectors = np.linalg.eigh(GRAM)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    scores = np.diag(GRAM @ np.linalg.inv(GRAM + c * np.eye(K)))
    w, x = mixture(), mx.variable("x", K)
    for i in range(K):
        left = mx.sum_squares(mx.constant(np.eye(K)[i]) - mx.constant(root) @ x) + c * mx.sum_squares(x)
        found = mx.solve(mx.minimize(left + 0 * mx.sum(w), over=(w, x)))
        assert 1 - found.value == pytest.approx(scores[i], abs=1e-6)
    shares = scores / scores.sum()
    goal = mx.constant(1 / (5 * shares)) @ w + mx.entropy(w)  # pretraining weights: softmax(1 / (5 S))
    assert mx.solve(mx.maximize(goal, over=w)).vector == pytest.approx(softmax(1 / (5 * shares)), abs=1e-5)


def test_a_score_from_a_gram_matrix_is_one_entropic_step():
    """2.6, R&B: w = softmax(a G p / |G p|) is the argmax of a <G p, w> / |G p| + H(w); DoGE's step has the last weights as centre."""
    w, p, rate = mixture(), np.full(K, 1 / K), 3.0
    score = GRAM @ p / np.linalg.norm(GRAM @ p)
    assert mx.solve(mx.maximize(rate * (score @ w) + mx.entropy(w), over=w)).vector == pytest.approx(softmax(rate * score), abs=1e-5)
    step = mx.solve(mx.maximize(rate * (score @ w) - mx.kl(w, Q), over=w)).vector
    assert step == pytest.approx(softmax(rate * score + np.log(Q)), abs=1e-5)


def test_the_skills_graph_scores_by_its_columns():
    """2.6, Skill-It: A [train, val] times the weighted losses, negative entries included, with a prior as centre."""
    A = np.array([[0.9, 0.2, -0.3], [0.1, 0.8, 0.1], [0.4, 0.0, 0.7], [-1.77, 0.3, 0.2], [0.0, 0.1, 0.6]])
    losses, w, rate = np.array([2.0, 1.0, 1.5]), mixture(), 0.5
    found = mx.solve(mx.maximize(rate * mx.sum(mx.constant(losses) * (mx.constant(A.T) @ w)) + mx.entropy(w), over=w))
    assert found.vector == pytest.approx(softmax(rate * A @ losses), abs=1e-5)


def test_coverage_of_a_graph_chooses_a_support():
    """2.6, facility location: the s domains whose neighbourhoods cover the most, against all choices of two."""
    from itertools import combinations

    similar = np.exp(-np.abs(np.subtract.outer([0.0, 0.1, 1.0, 1.2, 3.0], [0.0, 0.1, 1.0, 1.2, 3.0])))
    best = max(sum(similar[i, list(two)].max() * Q[i] for i in range(K)) for two in combinations(range(K), 2))
    switch = [mx.Mixture(["open", "shut"], f"open {n}") for n in NAMES]
    ways = [mx.Mixture(NAMES, f"served {n}") for n in NAMES]  # who serves domain n: a point of the simplex, at a corner in the optimum
    covered = sum(float(Q[i]) * (similar[i] @ ways[i]) for i in range(K))
    opened = mx.stack([s["open"] for s in switch], NAMES)
    limits = [(way <= opened).named(f"{n} is served by what is open") for n, way in zip(NAMES, ways, strict=True)]
    limits += [mx.cardinality(s, 1).named(f"{n} is open or shut") for n, s in zip(NAMES, switch, strict=True)]
    limits.append((mx.sum(opened) <= 2).named("two"))
    found = mx.solve(mx.maximize(covered, over=(*ways, *switch), subject_to=limits))
    assert found.value == pytest.approx(best, abs=1e-6)


def game(rows=None, bounds=None):
    """max over w of min over n of (A' w)_n by linprog: value and the tasks' prices."""
    A = GRAM[:, :4] / 10
    cost = np.append(np.zeros(K), -1.0)
    upper = np.hstack([-A.T, np.ones((4, 1))])
    if rows is not None:
        upper = np.vstack([upper, np.hstack([rows, np.zeros((len(rows), 1))])])
    right = np.append(np.zeros(4), [] if bounds is None else bounds)
    solved = linprog(cost, A_ub=upper, b_ub=right, A_eq=[[*np.ones(K), 0]], b_eq=[1], bounds=[(0, None)] * K + [(None, None)])
    return A, -solved.fun, -solved.ineqlin.marginals[:4]


def test_the_balance_game_and_its_prices():
    """2.7: max over w of the least progress; the duals of t <= (A' w)_n are the tasks' weights, which sum to 1."""
    A, value, prices = game()
    w, t = mixture(), mx.variable("t")
    direct = mx.solve(mx.maximize(mx.min(mx.constant(A.T) @ w), over=w))
    level = mx.solve(mx.maximize(t, over=(w, t), subject_to=[(t <= mx.constant(A.T) @ w).named("progress")]))
    assert direct.value == pytest.approx(value, abs=1e-6)
    assert level.value == pytest.approx(value, abs=1e-6)
    duals = np.array(list(level.duals["progress"].values()))
    assert duals.sum() == pytest.approx(1, abs=1e-6)
    assert duals == pytest.approx(prices, abs=1e-5)


def test_the_balance_game_with_edges_loses_value():
    """2.7 with 2.2: still a linear program, and its value drops."""
    graph = nx.path_graph(NAMES)
    pairs = [(i, i + 1) for i in range(K - 1)]
    rows = np.array([np.eye(K)[i] - np.eye(K)[j] for i, j in pairs + [(j, i) for i, j in pairs]])
    A, value, _ = game(rows, np.full(8, 0.02))
    w = mixture()
    found = mx.solve(mx.maximize(mx.min(mx.constant(A.T) @ w), over=w, subject_to=[mx.graph.differences(w, graph, 0.02)]))
    assert found.value == pytest.approx(value, abs=1e-6)
    assert value < game()[1] - 0.01


def test_the_least_norm_of_a_mixed_gradient():
    """2.7, MGDA: min |sum w_i g_i|^2, from the Gram matrix alone, by SLSQP on the gradients."""
    w = mixture()
    found = mx.solve(mx.minimize(mx.quad_form(w, GRAM), over=w))
    solved = minimize(
        lambda x: ((x @ GRADIENTS) ** 2).sum(),
        np.full(K, 1 / K),
        jac=lambda x: 2 * GRAM @ x,
        method="SLSQP",
        bounds=[(0, 1)] * K,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert found.vector == pytest.approx(solved.x, abs=1e-5)


def filled(weight_of, low, high):
    """Water-filling: the price at which the weights sum to 1."""
    price = brentq(lambda v: weight_of(v).sum() - 1, low, high, xtol=1e-14)
    return weight_of(price)


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(0.2, 3), min_size=K, max_size=K), st.lists(st.floats(-2, 2), min_size=K, max_size=K))
def test_separable_quadratics_fill_like_water(curve, slope):
    """2.7, PiKE: min sum w_i l_i + w_i^2 k_i / 2 has w_i = max(0, -(m + l_i) / k_i)."""
    kappa, lam, w = np.array(curve), np.array(slope), mixture()
    found = mx.solve(mx.minimize(lam @ w + 0.5 * (kappa @ mx.square(w)), over=w))
    assert found.vector == pytest.approx(filled(lambda m: np.maximum(0, -(m + lam) / kappa), -10, 10), abs=1e-5)


def test_separable_power_laws_fill_like_water():
    """2.7: BiMix, w_i = (a_i K_i / v)^(1 / (1 + a_i)), and AutoScale, w_i = [((g_i D / v)^(1 / (g_i + 1)) - D0_i) / D]+."""
    scale, power = np.array([1.0, 0.8, 0.5, 0.6, 0.3]), np.array([0.3, 0.5, 0.2, 0.8, 0.4])
    w = mixture()
    bimix = sum(float(a) * w[i] ** float(-p) for i, (a, p) in enumerate(zip(scale, power, strict=True)))
    expected = filled(lambda v: (power * scale / v) ** (1 / (1 + power)), 1e-3, 1e3)
    assert mx.solve(mx.minimize(bimix, over=w)).vector == pytest.approx(expected, abs=1e-5)
    start, size = np.array([0.1, 0.5, 0.02, 0.3, 0.05]), 2.0
    autoscale = sum((float(d) + size * w[i]) ** float(-g) for i, (d, g) in enumerate(zip(start, power, strict=True)))
    expected = filled(lambda v: np.maximum(0, ((power * size / v) ** (1 / (power + 1)) - start) / size), 1e-4, 1e4)
    assert mx.solve(mx.minimize(autoscale, over=w)).vector == pytest.approx(expected, abs=1e-5)
