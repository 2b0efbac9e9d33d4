"""Exact shares: sums that stay, units that are within one, floors that hold."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.export.shares import apportion, exact, lifted, rounded

POSITIVE = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40).filter(lambda ws: sum(ws) > 1e-3)


def simplex(values: list[float]) -> dict[str, float]:
    total = sum(values)
    return {f"d{i}": v / total for i, v in enumerate(values)}


@settings(deadline=None, max_examples=200)
@given(POSITIVE, st.integers(0, 10**7))
def test_apportionment_keeps_the_sum_and_stays_within_one_unit(weights, total):
    counts = apportion(weights, total)
    whole = sum(map(Fraction, weights))
    assert sum(counts) == total
    assert all(abs(count - Fraction(w) * total / whole) < 1 for count, w in zip(counts, weights, strict=True))


@settings(deadline=None, max_examples=200)
@given(POSITIVE, st.randoms(use_true_random=False))
def test_exact_weights_sum_to_one_in_any_order_and_stay_where_they_were(values, chance: random.Random):
    weights = simplex(values)
    found = list(exact(weights).values())
    chance.shuffle(found)
    assert sum(found) == 1.0
    assert np.sum(found) == 1.0
    assert all(abs(exact(weights)[n] - w) < 1e-14 for n, w in weights.items())


@settings(deadline=None, max_examples=200)
@given(POSITIVE, st.integers(1, 15))
def test_rounded_weights_add_up_to_one_as_decimals(values, digits):
    weights = simplex(values)
    found = rounded(weights, digits)
    assert sum(round(Fraction(w) * 10**digits) for w in found.values()) == 10**digits
    assert all(abs(found[n] - w) < 10.0**-digits * (1 + 1e-6) for n, w in weights.items())


@settings(deadline=None, max_examples=200)
@given(POSITIVE, st.floats(0, 1))
def test_a_floor_holds_and_those_above_it_keep_their_proportions(values, part):
    weights = simplex(values)
    floor = part / len(weights)
    found = lifted(weights, floor)
    assert sum(found.values()) == pytest.approx(1, abs=1e-9)
    assert min(found.values()) >= floor * (1 - 1e-12)
    above = [n for n in found if found[n] > floor * (1 + 1e-9)]
    ratios = [found[n] / weights[n] for n in above]
    assert all(r == pytest.approx(ratios[0], rel=1e-9) for r in ratios)


def test_a_floor_that_is_too_high_and_digits_that_are_none_are_refused():
    with pytest.raises(InputError, match=r"the floor is 0.6; with 2 domains it lies between 0 and 0.5"):
        lifted({"a": 0.5, "b": 0.5}, 0.6)
    with pytest.raises(InputError, match="rounded to 1 to 15 decimals"):
        rounded({"a": 1.0}, 0)
