"""Rules on inner products: optimality conditions on random gradients, the definitions done by hand, and the degenerate cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.balancing import IMTLG, MGDA, CAGrad, PCGrad, UPGrad
from mixopt.balancing.nearest import gap, min_norm
from mixopt.runtime.region import Region

RULES = [MGDA(), MGDA("norm"), CAGrad(), PCGrad(), IMTLG(), UPGrad()]


@st.composite
def gradients(draw, most=12):
    """Random gradients [k, d], of one length or of very different ones, sometimes with one of them twice or fewer dimensions than k."""
    k, d = draw(st.integers(1, most)), draw(st.integers(1, 15))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread, shift = draw(st.sampled_from([0.0, 1.0, 3.0])), draw(st.sampled_from([0.0, 0.5, 3.0]))
    g = (rng.normal(size=(k, d)) + shift * rng.normal(size=d)) * 10 ** rng.uniform(-spread, spread, (k, 1))
    if draw(st.booleans()):
        g[-1] = g[0]
    return g


@settings(deadline=None, max_examples=150)
@given(gradients(), st.sampled_from([1e-6, 1.0, 1e6]))
def test_mgda_meets_the_conditions_of_the_nearest_point(g, scale):
    """w is it exactly where <g_i, g_w> >= <g_w, g_w> for all i (Wolfe's criterion)."""
    w = MGDA().direction(scale**2 * g @ g.T).coefficients
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1, abs=1e-12)
    near = w @ g
    assert near @ near <= (g @ near).min() + 1e-13 * (g**2).sum(1).max()


def test_mgda_is_exact_for_256_gradients():
    rng = np.random.default_rng(3)
    g = rng.normal(size=(256, 300)) + 0.1
    gram = g @ g.T
    assert gap(gram, MGDA().direction(gram).coefficients) < 1e-12 * gram.max()


def test_mgda_with_unit_gradients():
    g = np.array([[1.0, 0.0], [0.0, 2.0]])
    found = MGDA("norm").direction(g @ g.T)
    assert found.inner == pytest.approx([0.5, 0.5])
    assert found.coefficients @ g == pytest.approx([0.5, 0.5])
    assert not found.simplex
    assert found.mixture == pytest.approx([2 / 3, 1 / 3])


@settings(deadline=None, max_examples=80)
@given(gradients(), st.sampled_from([0.05, 0.4, 0.9, 2.0]))
def test_cagrad_solves_its_problem_on_both_sides(g, c):
    """Strong duality: the least inner product of the direction with a gradient is the value of the problem in the weights."""
    gram = g @ g.T
    found = CAGrad(c=c).direction(gram)
    mean, d, size = g.mean(0), found.coefficients @ g, np.linalg.norm(g, axis=1).max()
    if found.coefficients.max() == 0:  # no direction of the ball improves all
        assert np.linalg.norm(found.inner @ g) <= 1e-6 * size or np.linalg.norm(mean) <= 1e-6 * size
        return
    assert np.linalg.norm(d - mean) <= c * np.linalg.norm(mean) * (1 + 1e-9)
    value = found.inner @ g @ mean + c * np.linalg.norm(mean) * np.linalg.norm(found.inner @ g)
    assert (g @ d).min() == pytest.approx(value, abs=1e-9 * size**2)


@pytest.mark.parametrize("c", [0.2, 0.5])
def test_cagrad_is_that_of_a_cone_solver(c):
    cp = pytest.importorskip("cvxpy")
    rng = np.random.default_rng(0)
    for k in (2, 5, 20):
        g = rng.normal(size=(k, 2 * k)) + 0.3
        w, mean = cp.Variable(k), g.mean(0)
        cost = (g @ mean) @ w + c * np.linalg.norm(mean) * cp.norm(g.T @ w)
        problem = cp.Problem(cp.Minimize(cost), [w >= 0, cp.sum(w) == 1])
        problem.solve(cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        found = CAGrad(c=c).direction(g @ g.T)
        assert found.inner == pytest.approx(w.value, abs=1e-5)
        ours = found.inner @ g @ mean + c * np.linalg.norm(mean) * np.linalg.norm(found.inner @ g)
        assert ours <= problem.value + 1e-9


def test_cagrad_is_the_mean_where_the_radius_is_zero_and_nothing_where_all_cancel():
    g = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert CAGrad(c=0).direction(g @ g.T).coefficients == pytest.approx([0.5, 0.5])
    against = np.array([[1.0, 0.0], [-1.0, 0.0]])
    found = CAGrad().direction(against @ against.T)
    assert found.coefficients.tolist() == [0, 0]
    assert found.mixture == pytest.approx([0.5, 0.5]), "the weights under which the gradients cancel"
    tilted = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert np.allclose(CAGrad().direction(tilted @ tilted.T).coefficients @ tilted, [(1 / 3) * 0.6, 0]), "the ball holds no common descent"


def projected(g, order):
    """PCGrad on the gradients themselves, as its Algorithm 1 says."""
    total = np.zeros(g.shape[1])
    for i in range(len(g)):
        mine = g[i].copy()
        for j in order:
            if j != i and mine @ g[j] < 0:
                mine -= mine @ g[j] / (g[j] @ g[j]) * g[j]
        total += mine
    return total


@settings(deadline=None, max_examples=60)
@given(gradients(most=6), st.randoms(use_true_random=False))
def test_pcgrad_on_inner_products_is_that_on_gradients(g, random):
    order = list(range(len(g)))
    random.shuffle(order)
    found = PCGrad(order).direction(g @ g.T)
    assert found.coefficients.min() >= 0
    assert found.coefficients @ g == pytest.approx(projected(g, order), rel=1e-6, abs=1e-7 * np.abs(g).max())


def test_pcgrad_draws_an_order_for_each_gradient():
    g = np.array([[1.0, 2.0, -1.0], [-2.0, 1.0, 0.5], [0.5, -1.0, 2.0]])
    rule = PCGrad()
    draws = rule.begin(3, seed=0)
    seen = {tuple(np.round(rule.direction(g @ g.T, memory=draws).coefficients, 9)) for _ in range(60)}
    assert len(seen) == 8, "each of three gradients has two orders of the others"


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_imtl_g_has_equal_projections(k, seed):
    g = np.random.default_rng(seed).normal(size=(k, k + 2))
    w = IMTLG().direction(g @ g.T).coefficients
    assert w.sum() == pytest.approx(1)
    shadows = g @ (w @ g) / np.linalg.norm(g, axis=1)
    assert shadows == pytest.approx(np.full(k, shadows.mean()), abs=1e-7 * max(1, np.abs(w).max()))


@settings(deadline=None, max_examples=60)
@given(gradients(most=8))
def test_upgrad_projects_each_gradient_onto_the_directions_against_none(g):
    """d_i = g_i + sum_j u_j g_j is the projection of g_i where u >= 0, <g_j, d_i> >= 0, and u_j <g_j, d_i> = 0 for all j."""
    gram, size = g @ g.T, np.linalg.norm(g, axis=1)
    rows = UPGrad().projected(gram)
    added, along = rows - np.eye(len(g)), rows @ gram
    assert added.min() >= 0
    assert (along >= -1e-7 * np.outer(size, size)).all()
    assert np.abs(added * along).max() <= 1e-7 * size.max() ** 2
    assert UPGrad().direction(gram).coefficients == pytest.approx(rows.mean(0))


def test_upgrad_of_two_gradients_in_conflict_by_hand():
    """The projection of g_1 on the half-plane of g_2 is g_1 - <g_1, g_2> / |g_2|^2 g_2, and the other way round."""
    g = np.array([[3.0, 0.0], [-1.0, 1.0]])
    by_hand = ((g[0] + 1.5 * g[1]) + (g[1] + g[0] / 3)) / 2
    assert UPGrad().direction(g @ g.T).coefficients @ g == pytest.approx(by_hand)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_gradient_is_its_own_direction(rule):
    found = rule.direction([[4.0]])
    size = {MGDA("norm"): 0.5, CAGrad(): 1.4}.get(rule, 1.0)
    assert found.coefficients == pytest.approx([size])
    assert found.mixture == pytest.approx([1.0])


def test_gradients_that_are_zero():
    zero = np.zeros((3, 3))
    assert MGDA().direction(zero).coefficients == pytest.approx([1 / 3] * 3)
    assert CAGrad().direction(zero).coefficients.tolist() == [0, 0, 0]
    assert PCGrad().direction(zero).coefficients.tolist() == [1, 1, 1]
    assert UPGrad().direction(zero).coefficients == pytest.approx([1 / 3] * 3)
    one = np.diag([1.0, 0.0, 4.0])
    assert MGDA().direction(one).coefficients.tolist() == [0, 1, 0]
    assert PCGrad().direction(one).coefficients.tolist() == [1, 1, 1]
    with pytest.raises(mx.InputError, match=r"the gradients at \[1\] are 0, so they have no direction"):
        IMTLG().direction(one)


def test_gradients_on_one_line():
    """Twice the same: any split is exact; g and 2 g: all on the shorter; g and -g: they cancel."""
    same, longer, against = (np.array([[1.0, 1.0], [a, a]]) for a in (1.0, 2.0, -1.0))
    assert MGDA().direction(same @ same.T).coefficients @ same == pytest.approx([1, 1])
    assert MGDA().direction(longer @ longer.T).coefficients == pytest.approx([1, 0])
    assert MGDA().direction(against @ against.T).coefficients == pytest.approx([0.5, 0.5])
    assert IMTLG().direction(longer @ longer.T).coefficients @ longer == pytest.approx([4 / 3, 4 / 3])
    with pytest.raises(mx.InputError, match="no weights with sum 1 give these gradients equal projections: they cancel"):
        IMTLG().direction(against @ against.T)
    assert UPGrad().direction(against @ against.T).coefficients @ against == pytest.approx([0, 0])
    assert PCGrad("natural").direction(against @ against.T).coefficients @ against == pytest.approx([0, 0])


@pytest.mark.parametrize(
    ("gram", "message"),
    [
        (np.ones((2, 3)), r"are a matrix \[k, k\]; this has the shape \[2, 3\]"),
        (np.ones(3), r"this has the shape \[3\]"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "a gradient is not finite"),
        (np.array([[1.0, 0.5], [-0.5, 1.0]]), "the matrix is not symmetric"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "the matrix has a negative eigenvalue"),
    ],
)
def test_what_is_no_matrix_of_inner_products(gram, message):
    for rule in RULES:
        with pytest.raises(mx.InputError, match=message):
            rule.direction(gram)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MGDA("l2"), "normalise is 'l2'"),
        (lambda: CAGrad(c=-0.1), "c is -0.1; it is a finite number >= 0"),
        (lambda: CAGrad(rescale=3), "rescale is 3"),
        (lambda: PCGrad("random"), "the order is 'random'; it is 'shuffled', 'natural'"),
        (lambda: PCGrad([0, 2]), r"the order is \(0, 2\)"),
        (lambda: PCGrad([1, 0]).direction(np.eye(3)), "the order is of 2 places, and there are 3 gradients"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(mx.InputError, match=message):
        make()


@settings(deadline=None, max_examples=25)
@given(gradients(most=6), st.floats(0.3, 0.9))
def test_under_constraints_mgda_is_the_nearest_of_the_mixtures_allowed(g, cap):
    """No vertex of the polytope is lower along the slope: the Frank-Wolfe gap, by an independent linear program."""
    k = len(g)
    w = mx.Mixture([f"d{i}" for i in range(k)])
    limits = [w <= max(cap, 1.5 / k)] if k > 1 else []
    region = Region.compile(w, [*limits, *([mx.mass(w, ["d0", "d1"]) >= 0.4] if k > 3 else [])], {})
    gram = g @ g.T / (g**2).sum(1).max()
    found = min_norm(gram, region)
    assert all(v <= 1e-9 for v in region.residuals(found).values())
    slope = gram @ found
    assert slope @ found - slope @ region.lowest(slope) <= 1e-9


@pytest.mark.parametrize("seed", [5, 9, 24, 43])
def test_gradients_of_very_different_lengths_are_mixed_exactly_under_constraints(seed):
    """Spectral steps left gaps of 1e-8 to 1e-7 here after 5,000 of them."""
    rng = np.random.default_rng(seed)
    k, d = int(rng.integers(2, 20)), int(rng.integers(1, 8))
    g = rng.normal(size=(k, d)) * 10.0 ** rng.uniform(-3, 3, (k, 1) if rng.random() < 0.6 else (1, d))
    w = mx.Mixture([f"d{i}" for i in range(k)])
    region = Region.compile(w, [w <= max(0.5, 1.5 / k), mx.mass(w, ["d0", "d1"]) >= 0.4], {})
    gram = g @ g.T / (g**2).sum(1).max()
    found = min_norm(gram, region)
    slope = gram @ found
    assert slope @ found - slope @ region.lowest(slope) <= 1e-9
    assert max(region.layout.off(found), *region.residuals(found).values()) <= 1e-9
