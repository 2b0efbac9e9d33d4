"""Section 2.4: group sums, frozen conditionals, caps inside branches, divergence level by level; three ways to say a tree."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import rel_entr

import mixopt as mx
from mixopt.language.curvature import curvature
from mixopt.runtime.program import Function

NAMES = ("web/news", "web/forum", "web/shop", "code", "books/old", "books/new")
TOKENS = (4.0, 2.0, 1.0, 1.5, 1.0, 0.5)
Q = np.array(TOKENS) / 10
DOMAINS = mx.Domains(NAMES, tokens=TOKENS)
AT = np.array([0.1, 0.15, 0.05, 0.3, 0.25, 0.15])


def value(expr, w, at):
    return Function(expr, w, {}).value(np.asarray(at, dtype=float))


def by_slsqp(objective, k, constraints=()):
    sums = {"type": "eq", "fun": lambda x: x.sum() - 1}
    found = minimize(
        objective,
        np.full(k, 1 / k),
        method="SLSQP",
        bounds=[(1e-9, 1)] * k,
        constraints=[sums, *constraints],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.success
    return found.x


def test_names_codes_and_a_networkx_tree_say_the_same_tree():
    by_names = mx.graph.tree(DOMAINS)
    codes = {name: tuple(name.split("/")) for name in NAMES}
    drawn = nx.DiGraph([("all", "web"), ("all", "code"), ("all", "books")])
    drawn.add_edges_from((name.split("/")[0], name) for name in NAMES if "/" in name)
    for source in (codes, drawn, by_names, None):
        assert mx.graph.tree(DOMAINS, source) == by_names
    assert by_names.branches == ("web", "books")
    assert [node.name for node in by_names.cut(2)] == list(NAMES)
    assert [node.name for node in by_names.children("")] == ["web", "code", "books"]


def test_a_name_that_is_a_prefix_of_others_is_a_domain_of_its_own_branch():
    made = mx.graph.tree(mx.Domains(["web", "web/news", "code"]))
    assert made.paths == (("web",), ("web",), ())
    w = mx.Mixture(["web", "web/news", "code"])
    assert value(mx.graph.tree_sums(w), w, [0.2, 0.3, 0.5]) == pytest.approx([0.5, 0.5])


def test_prefix_codes_roll_up():
    """HERMES' codes: cells that share (c1), (c1, c2); two domains in one cell are siblings below it."""
    codes = {"a": (1, 1, 1), "b": (1, 1, 2), "c": (1, 2, 7), "d": (2, 1, 1), "e": (2, 1, 1)}
    w = mx.Mixture(list(codes))
    made = mx.graph.tree(w, codes)
    assert made.branches == ("1", "1/1", "1/2", "2", "2/1", "2/1/1")
    at = [0.1, 0.2, 0.3, 0.15, 0.25]
    top, middle = mx.graph.tree_sums(w, codes), mx.graph.tree_sums(w, codes, level=2)
    assert (top.index, middle.index) == (("1", "2"), ("1/1", "1/2", "2/1"))
    assert value(top, w, at) == pytest.approx([0.6, 0.4])
    assert value(middle, w, at) == pytest.approx([0.3, 0.3, 0.4])


def test_group_sums_are_bounded_by_name():
    w = mx.Mixture(DOMAINS)
    sums = mx.graph.tree_sums(w)
    assert sums.index == ("web", "code", "books")
    found = mx.solve(mx.minimize(mx.kl(w, DOMAINS.natural), over=w, subject_to=[(sums["web"] <= 0.4).named("web")]))
    inside = Q * np.where(["web" in n for n in NAMES], 0.4 / 0.7, 0.6 / 0.3)  # the shares inside stay, by the chain rule
    assert found.vector == pytest.approx(inside, abs=1e-5)


def test_frozen_conditionals_are_mixture_reuse():
    """w = (rho r, rest): one variable for the frozen branch, as Olmix writes it, by SLSQP."""
    w, old = mx.Mixture(DOMAINS), np.array([0.2, 0.2, 0.2, 0.2, 0.1, 0.1])
    aim = np.array([0.0, 0.3, 0.1, 0.1, 0.2, 0.3])
    limits = [mx.graph.frozen(w, "web", natural=old), mx.graph.frozen(w, "books")]
    found = mx.solve(mx.minimize(mx.sum_squares(w - aim), over=w, subject_to=limits))

    def spread(x):
        return np.concatenate([np.full(3, x[0] / 3), [x[1]], x[2] * np.array([2 / 3, 1 / 3])])

    x = by_slsqp(lambda x: ((spread(x) - aim) ** 2).sum(), 3)
    assert found.vector == pytest.approx(spread(x), abs=1e-5)
    assert list(found.duals["frozen web"]) == ["web/news", "web/forum"]


def test_the_root_frozen_leaves_one_mixture():
    w = mx.Mixture(DOMAINS)
    found = mx.solve(mx.maximize(w["code"], over=w, subject_to=[mx.graph.frozen(w, "")]))
    assert found.vector == pytest.approx(Q, abs=1e-6)


def test_caps_inside_a_branch():
    """max w_news with w_news <= 0.5 W_web and W_web <= 0.6: 0.3; and the caps hold for any total."""
    w = mx.Mixture(DOMAINS)
    caps = mx.graph.conditional_caps(w, "web", 0.5)
    found = mx.solve(mx.maximize(w["web/news"], over=w, subject_to=[caps, mx.graph.tree_sums(w)["web"] <= 0.6]))
    assert found.value == pytest.approx(0.3, abs=1e-7)
    assert set(found.duals["caps inside web"]) == {"web/news", "web/forum", "web/shop"}
    some = mx.graph.conditional_caps(w, "", {"web": 0.25, "code": 0.1})
    found = mx.solve(mx.minimize(mx.kl(w, DOMAINS.natural), over=w, subject_to=[some]))
    sums = dict(zip(mx.graph.tree_sums(w).index, value(mx.graph.tree_sums(w), w, found.vector), strict=True))
    assert sums == pytest.approx({"web": 0.25, "code": 0.1, "books": 0.65}, abs=1e-5)


def two_levels(w, first, second):
    """lambda_1 KL(W || Q) + lambda_2 sum_v W_v KL(w_|v || q_|v), written out."""
    groups = [[0, 1, 2], [3], [4, 5]]
    top = sum(rel_entr(w[g].sum(), Q[g].sum()) for g in groups)
    inside = sum(w[g].sum() * rel_entr(w[g] / w[g].sum(), Q[g] / Q[g].sum()).sum() for g in groups)
    return first * top + second * inside


def test_level_wise_divergence_is_its_formula_and_convex():
    w = mx.Mixture(DOMAINS)
    penalty = mx.graph.level_kl(w, (0.3, 2.0))
    assert value(penalty, w, AT) == pytest.approx(two_levels(AT, 0.3, 2.0))
    assert curvature(penalty) == "convex"
    cost = np.array([1.0, 0.2, 0.4, 0.8, 0.1, 0.6])
    found = mx.solve(mx.minimize(cost @ w + penalty, over=w))
    assert found.status is mx.Status.OPTIMAL
    assert found.vector == pytest.approx(by_slsqp(lambda x: cost @ x + two_levels(x, 0.3, 2.0), 6), abs=1e-5)


def test_a_level_of_strength_zero_is_free():
    w = mx.Mixture(DOMAINS)
    assert value(mx.graph.level_kl(w, (0.0, 1.5)), w, AT) == pytest.approx(two_levels(AT, 0.0, 1.5))
    assert value(mx.graph.level_kl(w, (2.0, 0.0)), w, AT) == pytest.approx(two_levels(AT, 2.0, 0.0))


@st.composite
def trees(draw):
    """Prefix codes of different depths, natural shares and weights."""
    k = draw(st.integers(2, 8))
    codes = {f"d{i}": tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=4))) for i in range(k)}
    q, w = (np.array([draw(st.floats(0.01, 1)) for _ in codes]) for _ in "qw")
    return codes, q / q.sum(), w / w.sum()


@settings(deadline=None, max_examples=60)
@given(trees(), st.floats(0.1, 3))
def test_equal_strengths_are_the_divergence_itself(case, strength):
    codes, q, at = case
    w = mx.Mixture(list(codes))
    penalty = mx.graph.level_kl(w, strength, codes, natural=q)
    assert value(penalty, w, at) == pytest.approx(strength * rel_entr(at, q).sum(), rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(trees())
def test_each_cut_holds_every_domain_once(case):
    codes, _, at = case
    w = mx.Mixture(list(codes))
    made = mx.graph.tree(w, codes)
    for level in range(1, made.depth + 1):
        assert sorted(i for node in made.cut(level) for i in node.leaves) == list(range(len(codes)))
        sums = mx.graph.tree_sums(w, made, level)
        assert value(sums, w, at).sum() == pytest.approx(1)
    assert [node.name for node in made.cut(made.depth)] == list(mx.graph.tree_sums(w, made, made.depth).index)
    assert set(mx.graph.tree_sums(w, made, made.depth).index) == set(codes)
