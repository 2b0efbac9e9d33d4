"""Domains: names, sizes, and given weights checked and put on the simplex."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])


def test_natural_proportions_are_token_shares():
    np.testing.assert_allclose(DOMAINS.natural, [0.8, 0.15, 0.05], rtol=1e-15)
    np.testing.assert_allclose(DOMAINS.sizes, [8e11, 1.5e11, 5e10])


def test_sizes_may_be_given_by_name_in_any_order():
    assert mx.Domains(["a", "b"], tokens={"b": 3.0, "a": 1.0}).tokens == (1.0, 3.0)


def test_an_index_is_equal_by_its_names_alone():
    assert mx.Domains(["a", "b"]) == mx.Domains(["a", "b"], tokens=[1, 2])
    assert mx.Domains(["a", "b"]) != mx.Domains(["b", "a"])
    assert list(DOMAINS) == ["web", "code", "books"]
    assert "code" in DOMAINS
    assert "cod" not in DOMAINS
    assert str(DOMAINS) == "(web, code, books)"


def test_weights_come_in_the_order_of_the_names():
    np.testing.assert_array_equal(DOMAINS.weights({"books": 0.5, "web": 0.5, "code": 0}), [0.5, 0.0, 0.5])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3).filter(lambda v: sum(v) > 1e-3))
def test_given_weights_end_exactly_on_the_simplex(raw):
    w = DOMAINS.weights(np.array(raw) / sum(raw) * (1 + 4e-7))
    assert abs(w.sum() - 1) <= 1e-15
    assert w.min() >= 0


def test_unknown_sizes_are_asked_for():
    with pytest.raises(mx.InputError, match=r"the sizes of \(a, b\) are not known; give Domains\(names, tokens=\[...\]\)"):
        mx.Domains(["a", "b"]).natural  # noqa: B018
