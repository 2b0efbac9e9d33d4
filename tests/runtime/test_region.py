"""The feasible weights: what constraints compile to, projections and linear minima on polytopes, and empty regions."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import mixopt as mx
from mixopt.runtime.region import InfeasibleError, Region

NAMES = ["web", "code", "books", "wiki"]
W = mx.Mixture(NAMES)


def region(*constraints, **given) -> Region:
    return Region.compile(W, constraints, {n: np.asarray(v, dtype=float) for n, v in given.items()})


@pytest.mark.parametrize(
    ("constraints", "kind"),
    [
        ([], "simplex"),
        ([W["web"] <= 1.5, W >= 0], "simplex"),
        ([W["web"] <= 0.5], "box"),
        ([2 * W["web"] - 1 >= 0], "box"),
        ([mx.mass(W, ["web", "code"]) <= 0.5], "linear"),
        ([mx.equal(W["web"], 0.5)], "box"),
        ([mx.equal(mx.mass(W, ["web", "code"]), 0.5)], "linear"),
        ([mx.sum_squares(W) <= 0.5, W["web"] <= 0.5], "nonlinear"),
    ],
    ids=str,
)
def test_the_kind_is_what_a_step_has_to_respect(constraints, kind):
    assert region(*constraints).kind == kind


def test_bounds_are_read_from_rows_with_one_weight():
    compiled = region(W["web"] <= 0.5, 2 * W["web"] >= 0.2, 1 - W >= [0.4, 0.5, 0.6, 0.7], W["web"] <= mx.parameter("cap"), cap=0.45)
    np.testing.assert_allclose(compiled.lower, [0.1, 0, 0, 0])
    np.testing.assert_allclose(compiled.upper, [0.45, 0.5, 0.4, 0.3])


def test_an_equality_of_one_weight_is_both_its_bounds():
    compiled = region(mx.equal(W["web"], 0.3), mx.equal(0.2, -W["code"] + 0.3))
    np.testing.assert_allclose(compiled.lower, [0.3, 0.1, 0, 0])
    np.testing.assert_allclose(compiled.upper, [0.3, 0.1, 1, 1])
    np.testing.assert_allclose(compiled.project(np.array([0.9, 0.0, 0.1, 0.0])), [0.3, 0.1, 0.35, 0.25])
    assert "lower bound 0.4 and the upper bound 0.3" in region(mx.equal(W["web"], 0.3), mx.equal(W["web"], 0.4)).empty


def test_residuals_go_by_name():
    compiled = region((W["web"] <= 0.5).named("cap"), mx.equal(W["code"], 0.2).named("fixed"), (mx.sum_squares(W) <= 0.5).named("spread"))
    assert compiled.residuals(np.array([0.9, 0.1, 0, 0])) == pytest.approx({"cap": 0.4, "fixed": 0.1, "spread": 0.32})
    assert compiled.residuals(np.array([0.5, 0.2, 0.2, 0.1])) == pytest.approx({"cap": 0, "fixed": 0, "spread": 0})


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        (
            [W["web"] >= 0.6, W["code"] >= 0.5],
            r"the lower bounds sum to 1.1, above 1, by the constraints 'w\[web\] >= 0.6', 'w\[code\] >= 0.5'",
        ),
        ([W <= 0.2], "the upper bounds sum to 0.8, below 1, by the constraints 'w <= 0.2'"),
        (
            [(W["web"] >= 0.6).named("floor"), (W["web"] <= 0.3).named("cap")],
            "the weight of 'web' has the lower bound 0.6 and the upper bound 0.3, by the constraints 'floor', 'cap'",
        ),
        (
            [(W["web"] <= 0.3).named("cap"), (W["web"] - W["code"] >= 0.4).named("more web")],
            "no weights satisfy these constraints together: 'cap', 'more web'",
        ),
    ],
    ids=str,
)
def test_an_empty_region_says_why(constraints, words):
    compiled = region(*constraints)
    assert re.search(words, compiled.empty)
    if compiled.kind == "linear":
        with pytest.raises(InfeasibleError, match="no weights satisfy"):
            compiled.project(np.full(4, 0.25))
        with pytest.raises(InfeasibleError, match="no weights satisfy"):
            compiled.lowest(np.arange(4.0))


@st.composite
def polytopes(draw):
    """A region that holds a known interior point, with rows of several weights, bounds and sometimes an equality."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    inside = rng.dirichlet(np.ones(4))
    rows = rng.normal(size=(draw(st.integers(0, 3)), 4))
    constraints = [(row @ W <= float(row @ inside) + slack) for row, slack in zip(rows, rng.uniform(0, 0.2, len(rows)), strict=True)]
    if draw(st.booleans()):
        constraints.append(np.minimum(inside + rng.uniform(0.01, 0.5, 4), 1) >= W)
    if draw(st.booleans()):
        constraints.append(mx.equal(W["web"] - W["code"], float(inside[0] - inside[1])))
    return region(*constraints), rng


def vertices_below(compiled: Region, cost: np.ndarray) -> float:
    """The least value of <cost, w>, by an independent statement of the linear program."""
    found = linprog(
        cost,
        A_ub=np.vstack([compiled.G, np.eye(4), -np.eye(4)]),
        b_ub=np.concatenate([compiled.h, compiled.upper, -compiled.lower]),
        A_eq=np.vstack([compiled.A, np.ones((1, 4))]),
        b_eq=np.append(compiled.b, 1.0),
        bounds=(None, None),
        method="highs-ipm",
    )
    assert found.status == 0
    return float(found.fun)


@settings(deadline=None, max_examples=60)
@given(polytopes())
def test_a_projection_meets_its_variational_inequality(case):
    """p is the nearest point iff no feasible u has <x - p, u - p> > 0, which one linear program decides."""
    compiled, rng = case
    x = rng.normal(size=4) * rng.choice([0.1, 1, 5, 1000])
    p = compiled.project(x)
    assert abs(p.sum() - 1) <= 1e-10
    assert max(compiled.residuals(p).values(), default=0) <= 1e-9
    assert p.min() >= 0
    assert -vertices_below(compiled, p - x) - (x - p) @ p <= 1e-8 * (1 + np.abs(x).max())
    np.testing.assert_allclose(compiled.project(p), p, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(polytopes())
def test_the_lowest_point_is_that_of_linear_programming(case):
    compiled, rng = case
    cost = rng.normal(size=4)
    at = compiled.lowest(cost)
    assert max(compiled.residuals(at).values(), default=0) <= 1e-8
    assert cost @ at == pytest.approx(vertices_below(compiled, cost), abs=1e-8)


def test_a_start_is_moved_into_the_constraints():
    compiled = region(W["web"] <= 0.1, mx.mass(W, ["code", "books"]) <= 0.5)
    start = compiled.start(None)
    assert max(compiled.residuals(start).values()) <= 1e-12
    np.testing.assert_allclose(compiled.start(start), start, atol=1e-12)


def test_a_single_feasible_point_is_found():
    compiled = region(*(mx.equal(W[n], v) for n, v in zip(NAMES, (0.1, 0.2, 0.3, 0.4), strict=True)))
    np.testing.assert_allclose(compiled.project(np.ones(4)), [0.1, 0.2, 0.3, 0.4], atol=1e-12)
    np.testing.assert_allclose(compiled.lowest(np.ones(4)), [0.1, 0.2, 0.3, 0.4], atol=1e-9)


@pytest.mark.parametrize(("k", "fixed"), [(1, 1.0), *((k, fixed) for k in (2, 3, 4) for fixed in (0.0, 0.3, 1.0))])
def test_one_weight_may_be_fixed_at_a_bound_too(k, fixed):
    w = mx.Mixture(NAMES[:k])
    compiled = Region.compile(w, [mx.equal(w[0], fixed)], {})
    rest = (1 - fixed) / max(k - 1, 1)
    np.testing.assert_allclose(compiled.start(None), [fixed, *[rest] * (k - 1)], atol=1e-12)
    point = compiled.project(np.array([0.3, 5.0, 0.0, 0.0])[:k])
    np.testing.assert_allclose(point, [fixed, 1 - fixed, 0, 0][:k], atol=1e-12)
    assert point.min() >= 0


def test_a_weight_fixed_out_of_reach_is_infeasible():
    assert "the lower bound 1.5 and the upper bound 1, by the constraints" in region(mx.equal(W["web"], 1.5)).empty
    compiled = region(mx.equal(mx.mass(W, ["web", "code"]), 1.5))
    assert "no weights satisfy" in compiled.empty
    with pytest.raises(InfeasibleError, match="no weights satisfy"):
        compiled.project(np.full(4, 0.25))


def test_a_linear_program_that_simplex_steps_cannot_end_is_solved_by_interior_points():
    w = mx.Mixture([f"d{i}" for i in range(6)])
    cap, small = 0.5030710759550321, [-2.1753070518238137e-05, -7.124221624681992e-05, 1.521888691661613e-05, -3.7326974527994175e-08]
    cost = np.array([*small, 0.0009655949156202821, 0.15050577054752887])
    found = Region.compile(w, [w <= cap, mx.mass(w, ["d0", "d1"]) >= 0.4], {}).lowest(cost)
    np.testing.assert_allclose(cost @ found, cost[1] * cap + cost[0] * (1 - cap), atol=1e-12)
