"""Certificates: gaps that bound the distance to the optimum, multipliers, and the gap of programs with kinks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.compiler.classify import classify
from mixopt.forms import Program
from mixopt.report.check import certify, program_check
from mixopt.report.kinks import Tangent, dual_gap, linear_gap
from mixopt.runtime.layout import Layout
from mixopt.runtime.program import Function
from mixopt.runtime.region import Region

pytest.importorskip("cvxpy")

NAMES = ["a", "b", "c", "d"]
W = mx.Mixture(NAMES)


def checked(problem: mx.Problem, w):
    """The check and multipliers of weights for a program."""
    form = classify(problem)
    assert isinstance(form, Program)
    return program_check(form, Region.compile(form.mixture, form.constraints, {}), np.asarray(w, dtype=float), {})


def test_the_gap_of_a_linear_objective_is_the_distance_in_value():
    check, _ = checked(mx.minimize(W @ [1.0, 2.0, 3.0, 4.0], over=W), [0.25, 0.25, 0.25, 0.25])
    assert check.gap == pytest.approx(1.5)
    assert check.oracle == "the exact gradient in float64"


def test_residuals_and_distance_to_the_simplex_are_told():
    check, _ = checked(mx.minimize(mx.sum(W), over=W, subject_to=[(W["a"] <= 0.2).named("cap")]), [0.5, 0.5, 0.1, -0.1])
    assert check.simplex == pytest.approx(0.1)
    assert check.constraints == pytest.approx({"cap": 0.3})
    assert not check.feasible
    assert Layout.of(W).off(np.array([0.5, 0.6, 0.0, 0.0])) == pytest.approx(0.1)


def test_multipliers_solve_a_known_kkt_system():
    """min (w - t)^2 with caps that bind at a: by hand, m = 2 (0.7 - 0.4) + nu with nu the slope of the free entries."""
    problem = mx.minimize(mx.sum_squares(W - [0.7, 0.1, 0.1, 0.1]), over=W, subject_to=[(W <= [0.4, 0.5, 0.5, 0.5]).named("caps")])
    check, duals = checked(problem, [0.4, 0.2, 0.2, 0.2])
    assert check.kkt == pytest.approx(0, abs=1e-12)
    assert duals["caps"] == pytest.approx({"a": 0.8, "b": 0.0, "c": 0.0, "d": 0.0}, abs=1e-12)


def test_a_point_that_is_not_stationary_has_a_residual():
    check, _ = checked(mx.minimize(mx.sum_squares(W), over=W), [0.4, 0.3, 0.2, 0.1])
    assert check.kkt == pytest.approx(np.linalg.norm(2 * (np.array([0.4, 0.3, 0.2, 0.1]) - 0.25)))
    assert check.gap == pytest.approx(2 * (0.3 - 0.1))


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.003])
def test_a_divergence_that_leaves_a_domain_almost_empty_still_has_a_tight_gap(rate):
    """min <c, w> + rate KL(w || q) has the softmax of log q - c / rate; the weight of d is below 1e-17, and 0 as it is given here."""
    costs, prior = np.array([1.0, 3.0, 2.0, 5.0]), np.array([0.8, 0.15, 0.04, 0.01])
    best = prior * np.exp((1 - costs) / rate)
    best /= best.sum()
    value = float(costs @ best + rate * (best[best > 0] * np.log(best[best > 0] / prior[best > 0])).sum())
    problem = mx.minimize(W @ costs + rate * mx.kl(W, prior), over=W)
    cut = np.where(best < 1e-9, 0, best) / best[best >= 1e-9].sum()
    check, _ = checked(problem, cut)
    assert check.gap < 1e-6
    assert check.kkt is not None
    assert check.kkt < 1e-3
    far = np.array([0.5, 0.5, 0.0, 0.0])
    check, _ = checked(problem, far)
    assert check.gap >= far @ costs + rate * (0.5 * np.log(0.5 / prior[:2])).sum() - value - 1e-12


def test_a_gradient_alone_is_enough_for_a_certificate():
    region = Region.compile(W, [], {})
    check, duals = certify(
        region, np.array([1.0, 0, 0, 0]), np.array([1.0, 2, 3, 4]), "a gradient from elsewhere", inner=1e-9, notes=("by hand",)
    )
    assert (check.gap, duals) == (0.0, {})
    assert check.kkt == pytest.approx(0, abs=1e-12)
    assert str(check) == (
        "off the simplex by 0.0e+00; constraints off by 0.0e+00; gap 0.0e+00; KKT residual 0.0e+00; inner gradient 1.0e-09; "
        "by a gradient from elsewhere; by hand"
    )


def kinked(seed: int) -> tuple[mx.Problem, np.ndarray]:
    """A convex program with kinks of every sort, and feasible weights."""
    rng = np.random.default_rng(seed)
    A, w = rng.normal(size=(3, 4)), rng.dirichlet(np.ones(4))
    laws = mx.exp(A @ W) + rng.normal(size=3)
    terms = [
        mx.max(laws),
        mx.norm(W - rng.dirichlet(np.ones(4)), 1 if seed % 2 else np.inf),
        mx.sum(mx.pos(laws - 0.5)),
        mx.mean(mx.maximum(laws, A[::-1] @ W)),
        mx.exp(mx.max(laws)),
        mx.sum(mx.abs(A @ W)),
        -mx.min(mx.log(W + 0.1)),
        mx.sum_squares(mx.pos(A @ W - 0.2)),
        -mx.sum(mx.minimum(A @ W, 0.3)),
        mx.kl(W, np.full(4, 0.25)),
    ]
    chosen = [terms[i] for i in rng.permutation(len(terms))[: 1 + seed % 3]]
    limits = [np.minimum(w + 0.2, 1) >= W, mx.norm(W - w) <= 0.4, mx.max(A @ W) <= float((A @ w).max()) + 0.1]
    constraints = [limit for limit in limits if rng.random() < 0.4]
    return mx.minimize(sum(chosen[1:], chosen[0]), over=W, subject_to=constraints), w


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100_000))
def test_the_gap_bounds_the_distance_to_the_optimum_and_closes_at_it(seed):
    problem, w = kinked(seed)
    note(str(problem))
    form = classify(problem)
    assert isinstance(form, Program)
    assert form.convex
    best = mx.solve(problem)
    assert best.status is mx.Status.OPTIMAL or best.message.endswith("optimal_inaccurate")  # it says where it is not sure
    away = Function(form.objective, W, {}).value(w) - best.value
    gap = linear_gap(form, w, {})
    assert gap is not None
    assert gap >= away - 1e-6
    assert best.check.gap is not None
    assert best.check.gap <= 1e-3 * (1 + abs(best.value))


def test_a_euclidean_norm_is_certified_at_its_kink():
    center = np.array([0.1, 0.2, 0.3, 0.4])
    check, _ = checked(mx.minimize(mx.norm(W - center) + 0.1 * W["a"], over=W), center)
    assert check.gap == pytest.approx(0, abs=1e-9)
    check, _ = checked(mx.minimize(mx.norm(W - center), over=W), center[::-1])
    assert check.gap >= np.linalg.norm(center - center[::-1]) - 1e-9


def test_without_kinks_it_is_the_frank_wolfe_gap():
    problem = mx.minimize(mx.kl(W, [0.1, 0.2, 0.3, 0.4]), over=W, subject_to=[W["d"] <= 0.3])
    check, _ = checked(problem, [0.25, 0.25, 0.25, 0.25])
    assert linear_gap(classify(problem), np.full(4, 0.25), {}) == pytest.approx(check.gap, abs=1e-9)


def test_the_worst_of_several_laws_is_certified_at_a_kink():
    """At the optimum of max(w) no single piece has a gap of zero; a convex combination of them has."""
    check, duals = checked(mx.minimize(mx.max(W), over=W), np.full(4, 0.25))
    assert check.gap == pytest.approx(0, abs=1e-9)
    assert (check.kkt, duals, check.notes) == (None, {}, ())
    assert check.oracle == "the exact gradients of the pieces in float64"
    assert checked(mx.minimize(mx.max(W), over=W), [0.4, 0.2, 0.2, 0.2])[0].gap == pytest.approx(0.15, abs=1e-9)


def test_a_kink_of_numbers_alone_is_a_number():
    """abs(c) bounds the concave objective from above: as a variable it would be free to grow."""
    limit = mx.abs(mx.constant([-1.0, 0.1, 1.0, 0.3]))
    check, _ = checked(mx.maximize(mx.sum(mx.minimum(W, limit)), over=W), [0.3, 0.1, 0.3, 0.3])
    assert check.gap == pytest.approx(0.0, abs=1e-9)


def test_a_tail_and_any_norm_are_certified_at_their_kinks():
    worst, _ = checked(mx.minimize(mx.tail(W * [1.0, 2.0, 3.0, 4.0], 0.5), over=W), np.array([12, 6, 4, 3]) / 25)
    assert worst.gap == pytest.approx(0.0, abs=1e-9)
    parts = [0.4, 0.3, 0.2, 0.1]
    shared, _ = checked(mx.minimize(mx.tail(W * [1.0, 2.0, 3.0, 4.0], 0.5, parts), over=W), np.array([12, 6, 4, 3]) / 25)
    assert shared.gap == pytest.approx(0.0, abs=1e-9)
    target = np.array([0.4, 0.3, 0.2, 0.1])
    near, _ = checked(mx.minimize(mx.norm(W - target, 1.5), over=W), target)
    assert near.gap == pytest.approx(0.0, abs=1e-9)
    off, _ = checked(mx.minimize(mx.norm(W - target, 1.5), over=W), [0.25] * 4)
    assert off.gap >= np.sum(np.abs(target - 0.25) ** 1.5) ** (1 / 1.5) - 1e-9


def test_a_slope_that_is_not_finite_gives_no_gap_and_no_warning():
    zero = W * [1.0, 0.0, 1.0, 1.0]
    check, _ = checked(mx.minimize(mx.sum(mx.rel_entropy(zero, zero)) + mx.sum_squares(W), over=W), [0.25] * 4)
    assert check.gap is None
    assert "not finite" in " ".join(check.notes)


def test_a_root_at_zero_has_no_slope_to_certify_by():
    """min sum sqrt(w), concave: at a corner the slopes of the other weights have no bound, and no residual is made of them."""
    check, _ = checked(mx.minimize(mx.sum(mx.sqrt(W)), over=W), [1.0, 0.0, 0.0, 0.0])
    assert check.kkt is None
    assert check.gap is None
    assert "the gradient there is not finite" in " ".join(check.notes)


def test_a_kink_that_is_not_convex_has_no_gap_and_says_so():
    check, _ = checked(mx.minimize(-mx.max(W), over=W), np.full(4, 0.25))
    assert check.gap is None
    assert check.notes == ("no gap or KKT residual: there is a kink at 'max(w)'",)


def test_convex_constraints_that_are_not_linear_are_certified_too():
    result = mx.solve(mx.minimize(W @ [1.0, 2.0, 3.0, 4.0], over=W, subject_to=[mx.sum_squares(W) <= 0.4]))
    assert result.check.gap == pytest.approx(0, abs=1e-6)
    assert result.check.kkt == pytest.approx(0, abs=1e-5)


def test_a_gap_by_multipliers_is_a_bound_whatever_they_are():
    """Weak duality: right multipliers give the gap of the linear program, wrong ones a larger one, and none are made up."""
    limits = [(mx.sum_squares(W) <= 0.3).named("ball"), (W["a"] <= 0.35).named("cap")]
    cost = np.array([1.0, 2.0, 3.0, 5.0])
    problem = mx.minimize(W @ cost, over=W, subject_to=limits)
    best = mx.solve(problem)
    form, region = classify(problem), Region.compile(W, limits, {})
    function = Function(form.objective, W, {})

    def at(w):
        return Tangent(w, *function.value_and_gradient(w))

    tight, _ = dual_gap(function, region, at(best.vector), best.duals)
    assert 0 <= tight <= 1e-4, "of the first order in the error of the weights, for the ball bends"
    for duals in ({"ball": 0.0, "cap": 0.0}, {"ball": 3.0, "cap": 1.0}, {"ball": -5.0, "cap": 0.2}):
        for w in (best.vector, np.full(4, 0.25)):
            gap, _ = dual_gap(function, region, at(w), duals)
            assert gap >= w @ cost - best.value - 1e-9
    assert dual_gap(function, region, at(best.vector), {"ball": 1.0})[0] is None


def test_a_gap_by_multipliers_needs_bounds_for_every_variable():
    t = mx.variable("t")
    problem = mx.minimize(t + mx.sum_squares(W), over=(W, t), subject_to=[(t >= W @ [1.0, 2.0, 3.0, 4.0]).named("above")])
    form, region = classify(problem), Region.compile((W, t), problem.subject_to, {})
    function, best = Function(form.objective, (W, t), {}), mx.solve(problem)
    x = np.append(best.vector, best[t])
    at = Tangent(x, *function.value_and_gradient(x))
    assert dual_gap(function, region, at, {"above": 1.0})[0] <= 1e-6
    assert dual_gap(function, region, at, {"above": 0.5})[0] is None, "t could fall without end"


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.floats(0.1, 3), st.floats(-2, 2))
def test_a_constraint_with_kinks_has_all_its_normals(shares, force, level):
    """On a path with a tie, |w_a - w_b| + |w_b - w_c| + |w_c - w_d| has every slope in [-1, 1] on that edge, and its sign on the others."""
    w = np.array([0.4, 0.2, 0.2, 0.2])
    edges = np.array([[1.0, -1, 0, 0], [0, 1, -1, 0], [0, 0, 1, -1]])
    region = Region.compile(W, [(mx.norm(mx.constant(edges) @ W, 1) <= mx.parameter("most")).named("variation")], {"most": np.array(0.2)})
    slopes = np.array([1.0, *shares[1:]])
    check, duals = certify(region, w, level - force * (edges.T @ slopes), "by hand")
    assert check.kkt <= 1e-9
    assert duals["variation"] == pytest.approx(force)
    outside, _ = certify(region, w, level - force * (edges.T @ np.array([1.0, 1.5, 0.0])), "by hand")
    assert outside.kkt > 0.01 * force


def test_a_largest_entry_and_a_tail_that_bind_have_the_normals_of_their_ties():
    w = np.array([0.3, 0.3, 0.3, 0.1])
    for limit, slope in ((mx.max(W) <= 0.3, [0.5, 0.2, 0.3, 0.0]), (mx.tail(W, 0.5) <= 0.3, [0.5, 0.4, 0.1, 0.0])):
        region = Region.compile(W, [limit.named("top")], {})
        check, duals = certify(region, w, 1.0 - 2.0 * np.array(slope), "by hand")
        assert check.kkt <= 1e-9
        assert duals["top"] == pytest.approx(2.0)
        assert certify(region, w, 1.0 - 2.0 * np.array([0.8, 0.4, -0.2, 0.0]), "by hand")[0].kkt > 0.1
