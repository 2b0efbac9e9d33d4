"""Orders without memory are bijections, differ by epoch and domain, and treat all items alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mixopt.loading.permutation import SMALL, Permutation


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40_000), seed=st.integers(0, 2**32))
def test_every_item_comes_once(n, seed):
    assert np.array_equal(np.sort(Permutation(n, (seed, 0, 0)).at(np.arange(n))), np.arange(n))


@pytest.mark.parametrize("n", [SMALL, SMALL + 1, 2**14, 2**14 + 1, 10**12])
def test_places_may_be_asked_for_in_any_order(n):
    order, places = Permutation(n, (5,)), np.random.default_rng(0).integers(0, n, 300)
    together = order.at(places)
    assert together.min() >= 0
    assert together.max() < n
    assert [int(order.at(np.array([p]))[0]) for p in places[:40]] == together[:40].tolist()


@pytest.mark.parametrize("n", [3, 50, 1100, 5000])
def test_the_first_places_are_uniform_over_items(n):
    """Chi-squared over 2,000 keys: which of three parts of the domain stands first, and in the middle."""
    for place in (0, n // 2):
        found = [int(Permutation(n, (key, 1)).at(np.array([place]))[0]) * 3 // n for key in range(2000)]
        counts = np.bincount(found, minlength=3)
        parts = np.bincount(np.arange(n) * 3 // n, minlength=3) / n
        assert stats.chisquare(counts, parts * 2000).pvalue > 1e-4


def test_neighbours_do_not_stay_together():
    order = Permutation(100_000, (1, 2, 3)).at(np.arange(100_000))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert stats.kstest(order[:5000] / 100_000, "uniform").pvalue > 1e-4


def test_epochs_and_domains_have_orders_of_their_own():
    first = Permutation(9000, (0, 1, 1)).at(np.arange(9000))
    for key in ((0, 1, 2), (0, 2, 1), (1, 1, 1)):
        assert np.mean(first == Permutation(9000, key).at(np.arange(9000))) < 0.01
    assert np.array_equal(first, Permutation(9000, (0, 1, 1)).at(np.arange(9000)))
