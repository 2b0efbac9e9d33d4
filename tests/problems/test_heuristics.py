"""Mixtures without training: on the simplex, in their limits, and UniMax against its optimality conditions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mixopt.errors import InputError
from mixopt.language.domains import Domains
from mixopt.problems.heuristics import proportional, temperature, uniform, unimax

sizes = st.lists(st.floats(1, 1e13), min_size=1, max_size=8)


def over(tokens) -> Domains:
    return Domains([f"d{i}" for i in range(len(tokens))], tokens=tokens)


def vector(weights: dict[str, float]) -> np.ndarray:
    return np.array(list(weights.values()))


@given(tokens=sizes, tau=st.floats(0.05, 50), epochs=st.floats(0.1, 20), share=st.floats(1e-6, 1))
@settings(deadline=None, max_examples=60)
def test_all_lie_on_the_simplex(tokens, tau, epochs, share):
    domains = over(tokens)
    budget = share * epochs * sum(tokens)
    for weights in (uniform(domains), proportional(domains), temperature(domains, tau), unimax(domains, budget, epochs)):
        assert tuple(weights) == domains.names
        assert abs(sum(weights.values()) - 1) < 1e-12
        assert min(weights.values()) >= 0


@given(tokens=sizes, tau=st.floats(0.2, 50))
@settings(deadline=None, max_examples=40)
def test_temperature_is_a_power_of_the_shares(tokens, tau):
    domains = over(tokens)
    by_hand = domains.natural ** (1 / tau)
    np.testing.assert_allclose(vector(temperature(domains, tau)), by_hand / by_hand.sum(), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(vector(temperature(domains, 1)), vector(proportional(domains)), rtol=1e-12)


def test_temperature_in_its_limits():
    domains = over([0, 1, 3])
    assert vector(temperature(domains, math.inf)).tolist() == [0, 0.5, 0.5]
    assert vector(temperature(domains, 1e-4)).tolist() == [0, 0, 1]
    for tau in (0, -1, math.nan):
        with pytest.raises(InputError, match="must be > 0"):
            temperature(domains, tau)


@given(tokens=sizes, epochs=st.floats(0.1, 20), share=st.floats(1e-4, 0.999))
@settings(deadline=None, max_examples=80)
def test_unimax_is_the_point_of_the_capped_simplex_closest_to_uniform(tokens, epochs, share):
    domains = over(tokens)
    budget = share * epochs * sum(tokens)
    w, caps = vector(unimax(domains, budget, epochs)), epochs * domains.sizes / budget
    assert (w <= caps * (1 + 1e-9)).all()
    free = w < caps * (1 - 1e-9)
    if free.any():  # KKT of min |w - 1/k|^2: the free ones are equal, and no capped one lies above them
        assert np.ptp(w[free]) < 1e-12
        assert (w[~free] <= w[free].max() + 1e-12).all()
    level = brentq(lambda t: np.minimum(caps, t).sum() - 1, 0, 1 + 1e-9, xtol=1e-15)
    np.testing.assert_allclose(w, np.minimum(caps, level), atol=1e-9)


def test_unimax_of_an_example_worked_by_hand():
    # caps 4, 40, 400 of a budget of 100: the first gets 4, the second all its 40, the last the rest
    assert vector(unimax(over([1, 10, 100]), 100, 4)) == pytest.approx([0.04, 0.4, 0.56], abs=1e-15)
    # at one epoch of everything nothing is left to choose
    assert unimax(over([1, 10, 100]), 111, 1) == pytest.approx(proportional(over([1, 10, 100])), abs=1e-15)
    # a budget below every cap is uniform
    assert vector(unimax(over([50, 10, 100]), 3, 1)) == pytest.approx([1 / 3] * 3, abs=1e-15)
    assert vector(unimax(over([0, 10, 100]), 3, 1)).tolist() == [0, 0.5, 0.5]


def test_unimax_says_what_budget_or_epochs_would_do():
    with pytest.raises(InputError, match=r"more than 2 epochs of all 111 tokens; lower it to 222, or allow at_most=4.505 epochs"):
        unimax(over([1, 10, 100]), 500, 2)
    for budget, epochs in ((0, 1), (math.inf, 1), (1, -1), (1, math.nan)):
        with pytest.raises(InputError, match="must be a finite number > 0"):
            unimax(over([1, 2]), budget, epochs)


def test_sizes_are_needed_where_they_matter():
    unsized = Domains(["web", "code"])
    assert uniform(unsized) == {"web": 0.5, "code": 0.5}
    for call in (lambda: proportional(unsized), lambda: temperature(unsized, 2), lambda: unimax(unsized, 1, 1)):
        with pytest.raises(InputError, match="are not known"):
            call()
