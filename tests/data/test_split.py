"""Splits: shares are met in every stretch, and no token is in two parts or in none."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.data import PARTS, Split
from mixopt.errors import InputError

SHARES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))


@settings(deadline=None, max_examples=50)
@given(SHARES, st.integers(0, 10_000), st.integers(1, 400))
def test_every_stretch_of_documents_gives_each_part_its_share(shares, first, count):
    split = Split(*shares)
    dealt = Counter(split.part(number) for number in range(first, first + count))
    for part, share in (("validation", shares[0]), ("test", shares[1])):
        assert abs(dealt[part] - share * count) < 4  # chance alone would stray by three times the root of the count


def test_a_domain_of_twenty_documents_has_something_in_each_part_of_five_percent():
    assert Counter(Split(0.05, 0.05).part(number) for number in range(20)).keys() == set(PARTS)


@settings(deadline=None, max_examples=50)
@given(SHARES, st.integers(1, 40_000_000))
def test_stretches_cover_a_row_once_at_the_shares(shares, size):
    split = Split(*shares)
    stretches = split.stretches(size)
    ends = sorted(stretch for some in stretches.values() for stretch in some)
    assert ends[0][0] == 0
    assert ends[-1][1] == size
    assert all(one[1] == two[0] for one, two in pairwise(ends))
    for part, share in (("validation", shares[0]), ("test", shares[1])):
        assert abs(sum(stop - start for start, stop in stretches[part]) - share * size) <= 16


def test_a_long_row_gives_to_each_part_in_several_places():
    assert [len(some) for some in Split(0.05, 0.05).stretches(2**24).values()] == [16, 16, 16]


def test_all_may_go_to_one_part():
    assert {Split(1, 0).part(number) for number in range(100)} == {"validation"}
    assert {Split(0, 0).part(number) for number in range(100)} == {"train"}
    assert Split(1, 0).stretches(7) == {"train": [], "validation": [(0, 7)], "test": []}


@pytest.mark.parametrize("shares", [(-0.1, 0), (0, -0.1), (0.6, 0.5), (float("nan"), 0)])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(InputError, match="at most 1"):
        Split(*shares)
