"""Section 2.1: Laplacian smoothness in its forms, total variation, norms over edges, signed similarity."""

from __future__ import annotations

import math

import cvxpy as cp
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.language.curvature import curvature, sign
from mixopt.runtime.program import Function

NAMES = ("web", "code", "books", "wiki")
TOKENS = (4e11, 3e11, 2e11, 1e11)
WEIGHTS = {("web", "wiki"): 0.9, ("web", "books"): 0.5, ("books", "wiki"): 0.7, ("code", "web"): 0.1}


def similar(weights=WEIGHTS):
    made = nx.Graph()
    made.add_weighted_edges_from((a, b, s) for (a, b), s in weights.items())
    return made


def mixture(names=NAMES, tokens=TOKENS):
    return mx.Mixture(mx.Domains(names, tokens=tokens))


def value(expr, w, at):
    return Function(expr, w, {}).value(np.asarray(at, dtype=float))


@st.composite
def mixtures_on_graphs(draw, least=-1.0):
    """Names, tokens, weights on the simplex, and a connected graph with edge weights."""
    k = draw(st.integers(2, 6))
    names = tuple(f"d{i}" for i in range(k))
    tokens = [draw(st.floats(0.1, 10)) for _ in names]
    w = np.array([draw(st.floats(0.01, 1)) for _ in names])
    weights = {(names[i], names[i + 1]): draw(st.floats(least, 2)) for i in range(k - 1)}
    for i in range(k):
        for j in range(i + 2, k):
            if draw(st.booleans()):
                weights[names[i], names[j]] = draw(st.floats(least, 2))
    weights[names[0], names[1]] = 1.0
    return names, tokens, w / w.sum(), weights


def matrices(names, weights):
    s = np.zeros((len(names), len(names)))
    for (a, b), x in weights.items():
        s[names.index(a), names.index(b)] = s[names.index(b), names.index(a)] = x
    return s


def laplacian(s):
    return np.diag(np.abs(s).sum(1)) - s


@settings(deadline=None, max_examples=40)
@given(mixtures_on_graphs(least=0.0))
def test_the_forms_of_smoothness_are_the_quadratic_forms_of_their_laplacians(case):
    names, tokens, at, weights = case
    w, graph, s = mixture(names, tokens), similar(weights), matrices(names, weights)
    q = np.array(tokens) / sum(tokens)
    u, s_q = at / q, s * np.outer(q, q)
    assert value(mx.graph.smoothness(w, graph), w, at) == pytest.approx(u @ laplacian(s_q) @ u, abs=1e-9)
    half = 0.5 * sum(q[i] * q[j] * s[i, j] * (u[i] - u[j]) ** 2 for i in range(len(q)) for j in range(len(q)))
    assert value(mx.graph.smoothness(w, graph), w, at) == pytest.approx(half, abs=1e-9)
    assert value(mx.graph.smoothness(w, graph, form="raw"), w, at) == pytest.approx(at @ laplacian(s) @ at, abs=1e-9)
    d = s.sum(1)
    root = np.diag(1 / np.sqrt(np.where(d > 0, d, 1)))
    normalised = at @ root @ laplacian(s) @ root @ at
    assert value(mx.graph.smoothness(w, graph, form="normalised"), w, at) == pytest.approx(normalised, abs=1e-9)


def test_laplacians_of_networkx_agree():
    w, graph, at = mixture(), similar(), np.array([0.1, 0.2, 0.3, 0.4])
    raw = nx.laplacian_matrix(graph, nodelist=NAMES).toarray()
    normalised = nx.normalized_laplacian_matrix(graph, nodelist=NAMES).toarray()
    assert value(mx.graph.smoothness(w, graph, form="raw"), w, at) == pytest.approx(at @ raw @ at)
    assert value(mx.graph.smoothness(w, graph, form="normalised"), w, at) == pytest.approx(at @ normalised @ at)


def test_the_normalised_form_pulls_towards_the_roots_of_degrees():
    w, graph = mixture(), similar()
    result = mx.solve(mx.minimize(mx.graph.smoothness(w, graph, form="normalised"), over=w))
    roots = np.sqrt([graph.degree(name, weight="weight") for name in NAMES])
    assert result.vector == pytest.approx(roots / roots.sum(), abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(mixtures_on_graphs(least=-1.0), st.data())
def test_the_density_form_stays_when_a_domain_is_split(case, data):
    """Domain i becomes i and i2, half the tokens and half the weight each, with the same neighbours and any similarity of their own."""
    names, tokens, at, weights = case
    i = data.draw(st.integers(0, len(names) - 1))
    share = data.draw(st.floats(0.1, 0.9))
    own = data.draw(st.floats(0, 2))
    split = (*names, "twin")
    more = (
        weights
        | {("twin", b if a == names[i] else a): s for (a, b), s in weights.items() if names[i] in (a, b)}
        | {(names[i], "twin"): own}
    )
    new_tokens, new_at = [*tokens, tokens[i] * (1 - share)], np.append(at, at[i] * (1 - share))
    new_tokens[i], new_at[i] = tokens[i] * share, at[i] * share
    w, w2 = mixture(names, tokens), mixture(split, new_tokens)
    for penalty in (mx.graph.signed_smoothness,) if min(weights.values()) < 0 else (mx.graph.smoothness, mx.graph.total_variation):
        before = value(penalty(w, similar(weights)), w, at)
        after = value(penalty(w2, similar(more)), w2, new_at)
        assert after == pytest.approx(before, rel=1e-9, abs=1e-9)


def test_splitting_at_the_scale_of_the_note():
    """0.0221 -> 0.0221 in the density form; the raw form changes."""
    tokens, at = (5e11, 3e11, 2e11), np.array([0.3, 0.4, 0.3])
    pairs = {("a", "b"): 1.0, ("b", "c"): 1.0}
    q = np.array(tokens) / sum(tokens)
    u = at / q
    unit = q[0] * q[1] * (u[0] - u[1]) ** 2 + q[1] * q[2] * (u[1] - u[2]) ** 2
    pairs = dict.fromkeys(pairs, 0.0221 / unit)
    w = mixture(("a", "b", "c"), tokens)
    split = mixture(("a", "b1", "b2", "c"), (5e11, 1.5e11, 1.5e11, 2e11))
    halves = similar({(x.replace("b", b), y.replace("b", b)): s for (x, y), s in pairs.items() for b in ("b1", "b2")})
    there = np.array([0.3, 0.2, 0.2, 0.3])
    assert value(mx.graph.smoothness(w, similar(pairs)), w, at) == pytest.approx(0.0221, abs=1e-12)
    assert value(mx.graph.smoothness(split, halves), split, there) == pytest.approx(0.0221, abs=1e-12)
    raw = [value(mx.graph.smoothness(*pair, form="raw"), pair[0], x) for pair, x in (((w, similar(pairs)), at), ((split, halves), there))]
    assert abs(raw[0] - raw[1]) > 0.1 * raw[0]


@settings(deadline=None, max_examples=25)
@given(mixtures_on_graphs(least=0.0), st.randoms(use_true_random=False))
def test_the_order_of_nodes_and_domains_does_not_matter(case, random):
    names, tokens, at, weights = case
    order = list(range(len(names)))
    random.shuffle(order)
    w, w2 = mixture(names, tokens), mixture([names[i] for i in order], [tokens[i] for i in order])
    turned = similar({(b, a): s for (a, b), s in reversed(weights.items())})
    for form in ("density", "raw", "normalised"):
        for penalty in (mx.graph.smoothness, mx.graph.total_variation):
            there = value(penalty(w2, turned, form=form), w2, at[order])
            assert there == pytest.approx(value(penalty(w, similar(weights), form=form), w, at), abs=1e-9)


def test_smoothness_solves_as_the_quadratic_program_written_by_hand():
    """min |w - t|^2 + 2 w'Lw over the simplex, by cvxpy's quad_form."""
    w, graph, target = mixture(), similar(), np.array([0.7, 0.1, 0.1, 0.1])
    found = mx.solve(mx.minimize(mx.sum_squares(w - target) + 2 * mx.graph.smoothness(w, graph, form="raw"), over=w))
    x = cp.Variable(4, nonneg=True)
    L = nx.laplacian_matrix(graph, nodelist=NAMES).toarray()
    cp.Problem(cp.Minimize(cp.sum_squares(x - target) + 2 * cp.quad_form(x, cp.psd_wrap(L))), [cp.sum(x) == 1]).solve(solver="CLARABEL")
    assert found.status is mx.Status.OPTIMAL
    assert found.vector == pytest.approx(x.value, abs=1e-6)


def test_total_variation_is_a_linear_program_whose_clusters_share_a_weight():
    """max <c, w> - TV(w): by linprog with an epigraph variable for each edge."""
    from scipy.optimize import linprog

    graph = nx.Graph()
    graph.add_weighted_edges_from([("web", "code", 2.0), ("books", "wiki", 2.0), ("code", "books", 0.1)])
    w, gain = mixture(tokens=None), np.array([0.9, 0.2, 0.5, 0.4])
    found = mx.solve(mx.maximize(gain @ w - mx.graph.total_variation(w, graph, form="raw"), over=w))
    rows = np.array([[1, -1, 0, 0], [0, 0, 1, -1], [0, 1, -1, 0]])
    scale = np.array([2.0, 2.0, 0.1])
    solved = linprog(
        np.concatenate([-gain, scale]),
        A_ub=np.block([[rows, -np.eye(3)], [-rows, -np.eye(3)]]),
        b_ub=np.zeros(6),
        A_eq=[[1, 1, 1, 1, 0, 0, 0]],
        b_eq=[1],
    )
    assert found.value == pytest.approx(-solved.fun, abs=1e-7)
    assert found.weights["web"] == pytest.approx(found.weights["code"], abs=1e-6)
    assert found.weights["books"] == pytest.approx(found.weights["wiki"], abs=1e-6)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_norms_over_edges(p):
    w, graph, at = mixture(), similar(), np.array([0.1, 0.2, 0.3, 0.4])
    entries = [WEIGHTS[e] * (at[NAMES.index(e[0])] - at[NAMES.index(e[1])]) for e in WEIGHTS]
    penalty = mx.graph.edge_norm(w, graph, p, form="raw")
    assert value(penalty, w, at) == pytest.approx(np.linalg.norm(entries, p))
    assert curvature(penalty) == "convex"


@settings(deadline=None, max_examples=40)
@given(mixtures_on_graphs())
def test_signed_smoothness_is_the_signed_laplacian_and_never_negative(case):
    names, tokens, at, weights = case
    w, s = mixture(names, tokens), matrices(names, weights)
    signed = np.diag(np.abs(s).sum(1)) - s
    penalty = mx.graph.signed_smoothness(w, similar(weights), form="raw")
    assert value(penalty, w, at) == pytest.approx(at @ signed @ at, abs=1e-9)
    assert np.linalg.eigvalsh(signed)[0] >= -1e-9
    q = np.array(tokens) / sum(tokens)
    s_q = s * np.outer(q, q)
    density = (at / q) @ (np.diag(np.abs(s_q).sum(1)) - s_q) @ (at / q)
    assert value(mx.graph.signed_smoothness(w, similar(weights)), w, at) == pytest.approx(density, rel=1e-7, abs=1e-9)


def test_penalties_are_convex_by_the_rules_and_not_negative():
    w, graph = mixture(), similar()
    conflicts = similar(WEIGHTS | {("code", "web"): -0.4})
    for penalty in (mx.graph.smoothness(w, graph), mx.graph.total_variation(w, graph), mx.graph.signed_smoothness(w, conflicts)):
        assert curvature(penalty) == "convex"
        assert sign(penalty) == "+"


def test_a_plain_laplacian_with_negative_weights_is_refused_and_is_indeed_indefinite():
    weights = {("web", "code"): -1.0, ("code", "books"): 0.2, ("books", "wiki"): 0.2}
    s = matrices(NAMES, weights)
    assert np.linalg.eigvalsh(np.diag(s.sum(1)) - s)[0] < -0.1
    with pytest.raises(mx.InputError, match=r"the edge web - code has the weight -1, .* use signed_smoothness"):
        mx.graph.smoothness(mixture(), similar(weights))


def test_given_natural_shares_take_the_place_of_the_domains_own():
    w, graph, at = mixture(tokens=None), similar(), np.array([0.4, 0.3, 0.2, 0.1])
    assert value(mx.graph.smoothness(w, graph, natural=at), w, at) == pytest.approx(0, abs=1e-15)
    assert value(mx.graph.smoothness(mixture(), graph), mixture(), at) == pytest.approx(0, abs=1e-15)
