"""Ranges and extents against closed answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mixopt.fitting.ranges import ranges
from mixopt.language.atoms import kl, sum_squares
from mixopt.language.domains import Domains
from mixopt.language.expression import constant, equal
from mixopt.language.symbols import Mixture
from mixopt.laws.extent import extent
from mixopt.runs import Runs


def box(k: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(k), np.ones(k)


@given(seed=st.integers(0, 10**6), k=st.integers(2, 5))
@settings(deadline=None, max_examples=8)
def test_the_range_of_a_quadratic_is_a_balls(seed, k):
    t = 0.5 / k + 0.5 * np.random.default_rng(seed).dirichlet(np.ones(k))
    w = Mixture(Domains([f"d{i}" for i in range(k)]))
    tolerance = 0.5 * (t.min() ** 2)
    low, high = ranges(w, (), {"near": (sum_squares(w - constant(t)), tolerance)}, t, box(k))
    reach = np.sqrt(tolerance * (1 - 1 / k))  # a step along e_i less its mean
    np.testing.assert_allclose(low, t - reach, atol=1e-6)
    np.testing.assert_allclose(high, t + reach, atol=1e-6)


def test_the_range_of_a_divergence_of_two_is_its_two_roots():
    q, tolerance = np.array([0.7, 0.3]), 0.05
    w = Mixture(Domains(["web", "code"]))
    low, high = ranges(w, (), {"near": (kl(w, q), tolerance)}, q, box(2))

    def gap(x: float) -> float:
        return x * np.log(x / 0.7) + (1 - x) * np.log((1 - x) / 0.3) - tolerance

    np.testing.assert_allclose([low[0], high[0]], [brentq(gap, 1e-9, 0.7), brentq(gap, 0.7, 1 - 1e-9)], atol=1e-6)
    np.testing.assert_allclose([low[1], high[1]], [1 - high[0], 1 - low[0]], atol=1e-6)


def test_ranges_keep_the_constraints_the_box_and_the_optimum():
    w = Mixture(Domains(["web", "code", "books"]))
    t = np.array([0.4, 0.4, 0.2])
    loose = {"near": (sum_squares(w - constant(t)), 10.0)}
    limits = ((w["web"] <= 0.5).named("cap"), equal(w["books"], 0.2).named("fixed"))
    low, high = ranges(w, limits, loose, t, (np.array([0, 0, 0.2]), np.array([0.5, 1, 0.2])))
    np.testing.assert_allclose(low, [0, 0.3, 0.2], atol=1e-6)
    np.testing.assert_allclose(high, [0.5, 0.8, 0.2], atol=1e-6)
    low, high = ranges(w, (), {"near": (sum_squares(w - constant(t)), 0.0)}, t, box(3))  # a single point
    np.testing.assert_allclose(low, t, atol=1e-4)
    np.testing.assert_allclose(high, t, atol=1e-4)
    assert (low <= t).all()
    assert (high >= t).all()


def runs_at(*mixtures: list[float]) -> Runs:
    return Runs.from_arrays(["web", "code", "books"], mixtures, ["loss"], np.zeros((len(mixtures), 1)), ids="abcdef"[: len(mixtures)])


@pytest.mark.parametrize(
    ("weights", "run", "nearest", "hull"),
    [
        ([0.5, 0.5, 0.0], "a", 0.5, 0.0),  # between a and b
        ([1.0, 0.0, 0.0], "a", 0.0, 0.0),
        ([0.25, 0.25, 0.5], "c", 0.0, 0.0),
        ([0.0, 0.0, 1.0], "c", 0.5, 0.5),  # beyond c
        ([0.1, 0.1, 0.8], "c", 0.3, 0.3),
    ],
)
def test_distances_to_the_runs_and_to_their_hull(weights, run, nearest, hull):
    found = extent(runs_at([1, 0, 0], [0, 1, 0], [0.25, 0.25, 0.5]), np.array(weights))
    assert (found.run, found.nearest, found.hull) == (run, pytest.approx(nearest), pytest.approx(hull, abs=1e-7))


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_a_blend_of_runs_is_in_their_hull_and_no_point_is_farther_than_the_nearest_run(seed):
    rng = np.random.default_rng(seed)
    mixtures = rng.dirichlet(np.ones(3), 6)
    inside = rng.dirichlet(np.ones(6)) @ mixtures
    assert extent(runs_at(*mixtures.tolist()), inside).hull == pytest.approx(0, abs=1e-6)
    far = extent(runs_at(*mixtures.tolist()), rng.dirichlet(np.full(3, 0.1)))
    assert far.hull <= far.nearest + 1e-9
