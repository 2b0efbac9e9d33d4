"""Simulation and Grid: draws by hand, exact grids, constraints, opaque programs, and Conic where the program is convex."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.solvers import Conic, Grid, Simulation
from mixopt.solvers.grid import counted, enumerated

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6.0, 3.0, 1.0])
W = mx.Mixture(DOMAINS)
BEST = np.array([0.5, 0.3, 0.2])
BOWL = mx.opaque(W, lambda rows: ((rows - BEST) ** 2).sum(axis=1), "bowl")


def test_an_opaque_program_is_drawn_and_told_to_be_uncertified():
    ready = mx.plan(mx.minimize(BOWL, over=W, subject_to=[W["code"] <= 0.25]))
    assert str(ready.solver) == "Simulation()"
    assert ready.choice.also == ("Grid",)
    for name, reason in ready.choice.refusals.items():
        if name in ("Conic", "Projected"):
            assert "opaque" in reason[0], reason
    result = ready.run()
    assert result.status is mx.Status.SEARCHED
    assert 0.05**2 * 1.5 <= result.value <= 0.01
    assert result.check.gap is None
    assert result.check.feasible
    assert "'bowl(w)' is opaque, so that there is no gradient, and optimality is not certified" in str(result.check)
    assert "of 100,000 draws meet the constraints; the mean of the best 128 has the value" in result.message


def test_the_draws_and_the_mean_are_numpys():
    draws = np.random.RandomState(7).dirichlet(2.0 * DOMAINS.natural, 25_000)
    heights = ((draws - BEST) ** 2).sum(axis=1)
    settings = {"draws": 25_000, "top": 10, "strength": 2.0, "seed": 7}
    mean = mx.solve(mx.minimize(BOWL, over=W), solver=Simulation(**settings))
    np.testing.assert_allclose(mean.vector, draws[np.argsort(heights)[:10]].mean(axis=0), atol=1e-12)
    least = mx.solve(mx.minimize(BOWL, over=W), solver=Simulation(best="argmin", **settings))
    np.testing.assert_allclose(least.vector, draws[np.argmin(heights)], atol=1e-12)
    assert least.value == pytest.approx(heights.min())
    assert len(least.trace["value"]) == 3
    assert (np.diff(least.trace["value"]) <= 0).all()


def test_the_seed_is_the_runs_unless_it_is_set():
    problem = mx.minimize(BOWL, over=W)
    once, again, other = (mx.solve(problem, solver=Simulation(draws=500), seed=s) for s in (1, 1, 2))
    assert once.weights == again.weights != other.weights
    assert mx.solve(problem, solver=Simulation(draws=500, seed=1), seed=5).weights == once.weights


def test_a_maximum_and_a_prior_by_name():
    prior = {"web": 0.2, "code": 0.2, "books": 0.6}
    result = mx.solve(mx.maximize(-BOWL, over=W), solver=Simulation(best="argmin", prior=prior, strength=3.0))
    assert result.value == pytest.approx(0, abs=1e-4)
    with pytest.raises(mx.InputError, match="gives 'web' the weight 0"):
        mx.solve(mx.minimize(BOWL, over=W), solver=Simulation(prior={"web": 0, "code": 0.4, "books": 0.6}))


@pytest.mark.parametrize(
    "limit",
    [mx.equal(W["code"], 0.3), mx.equal(W["web"] + 2 * W["code"], 0.9), mx.kl(W, [0.1, 0.1, 0.8]) <= 0.001],
    ids=["equality", "row", "ball"],
)
def test_where_no_draw_meets_the_constraints_some_are_moved_there(limit):
    problem = mx.minimize(mx.sum_squares(W - BEST) + 0 * BOWL, over=W, subject_to=[limit.named("thin")])
    result = mx.solve(problem, solver=Simulation(draws=2000, best="argmin"))
    assert "of 2,000 draws meet the constraints, and " in result.message
    assert result.check.feasible
    sure = mx.solve(mx.minimize(mx.sum_squares(W - BEST), over=W, subject_to=[limit]), solver=Conic())
    assert result.value <= sure.value + 0.01


def test_a_constraint_that_nothing_meets():
    impossible = mx.minimize(BOWL, over=W, subject_to=[(mx.opaque(W, lambda rows: rows[:, 0] + 1, "high") <= 0.5).named("low")])
    result = mx.solve(impossible, solver=Simulation(draws=200))
    assert result.status is mx.Status.STUCK
    assert "0 of 200 draws meet the constraints" in result.message
    assert not result.check.feasible
    assert mx.solve(impossible, solver=Grid()).status is mx.Status.STUCK
    empty = mx.minimize(BOWL, over=W, subject_to=[(W <= 0.2).named("caps")])
    assert mx.solve(empty).status is mx.Status.INFEASIBLE


def test_a_mean_that_breaks_a_constraint_is_not_returned():
    """Two islands: the mean of draws from both lies in the water."""
    sea = mx.opaque(W, lambda rows: np.abs(rows[:, 0] - 0.5), "distance")
    result = mx.solve(mx.minimize(mx.opaque(W, lambda rows: rows[:, 0] * 0, "flat"), over=W, subject_to=[sea >= 0.45]), solver=Simulation())
    assert "the mean breaks a constraint, so the best draw is returned" in result.message
    assert result.check.feasible


def test_on_a_convex_program_it_comes_near_to_conic():
    problem = mx.minimize(mx.sum(mx.exp(-3 * W)) + 0.2 * mx.kl(W, DOMAINS.natural), over=W, subject_to=[W <= 0.5])
    sure = mx.solve(problem, solver=Conic())
    drawn = mx.solve(problem, solver=Simulation(draws=20_000))
    gridded = mx.solve(problem, solver=Grid(rounds=6))
    assert sure.value - 1e-9 <= drawn.value <= sure.value + 2e-3
    assert sure.value - 1e-9 <= gridded.value <= sure.value + 1e-5
    assert drawn.check.gap >= drawn.value - sure.value - 1e-9, "of a convex program the gap bounds what is lost"


def test_a_grid_is_all_of_its_mixtures():
    result = mx.solve(mx.minimize(BOWL, over=W), solver=Grid(parts=10))
    np.testing.assert_allclose(result.vector, BEST, atol=1e-12)
    assert result.message == "the best of 66 mixtures, in steps of 1/10"
    assert result.status is mx.Status.SEARCHED
    finer = mx.solve(mx.minimize(BOWL, over=W), solver=Grid(parts=4, rounds=7))
    np.testing.assert_allclose(finer.vector, BEST, atol=1 / 256)


def test_halving_grids_under_caps_are_those_of_the_source():
    """Caps 1, 0.586 and 0.259 in steps of 1/16: 16, 8, 4, 2, 1, 0; then 9, 4, 2, 1, 0; then 4, 2, 1, 0."""
    levels = ((16, 8, 4, 2, 1, 0), (9, 4, 2, 1, 0), (4, 2, 1, 0))
    mixtures = np.array([m for m in product(*levels) if sum(m) == 16]) / 16
    seen = []
    spy = mx.opaque(W, lambda rows: seen.extend(rows.tolist()) or rows[:, 0], "spy")
    mx.solve(mx.minimize(spy, over=W, subject_to=[W["code"] <= 0.586, W["books"] <= 0.259]), solver=Grid(spacing="halving"))
    assert sorted(map(tuple, mixtures.tolist())) == sorted({tuple(row) for row in seen})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True), min_size=1, max_size=5), st.integers(1, 8))
def test_what_is_counted_is_what_is_enumerated(levels, total):
    arrays = [np.array(each) for each in levels]
    found = enumerated(arrays, total)
    assert sorted(map(tuple, found.tolist())) == sorted(m for m in product(*levels) if sum(m) == total)
    assert counted(arrays, total) == len(found)


def test_a_grid_that_is_too_large_is_refused_with_its_count():
    many = mx.Mixture([f"d{i}" for i in range(17)])
    with pytest.raises(mx.RefusalError, match="a grid of steps of 1/16 over 17 domains has 601,080,390 mixtures, more than 1,000,000"):
        mx.plan(mx.minimize(mx.sum_squares(many), over=many), solver=Grid())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Simulation(draws=0), "draws is 0"),
        (lambda: Simulation(top=True), "top is True"),
        (lambda: Simulation(best="median"), "it is 'mean'"),
        (lambda: Simulation(strength=0.0), "strength is 0.0"),
        (lambda: Simulation(seed=-1), "seed is -1"),
        (lambda: Grid(parts=0), "parts is 0"),
        (lambda: Grid(spacing="odd"), "'even' or 'halving'"),
    ],
)
def test_settings_out_of_range(make, text):
    with pytest.raises(mx.InputError, match=text):
        make()


def test_they_move_one_mixture():
    z = mx.variable("z", lower=0.0)
    for solver in (Simulation(), Grid()):
        with pytest.raises(mx.RefusalError, match="it moves one mixture"):
            mx.plan(mx.minimize(mx.sum_squares(W) + z, over=(W, z)), solver=solver)
