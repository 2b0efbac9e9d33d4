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


TREE = mx.Domains(["web/news", "code", "web/forum/good", "web/forum", "website"], tokens=[4, 2, 1, 2, 1])


def test_a_branch_is_the_name_and_everything_below_it_and_no_name_that_only_begins_alike():
    assert TREE.under("web") == ("web/news", "web/forum/good", "web/forum")
    assert TREE.under("web/forum/") == ("web/forum/good", "web/forum")
    assert TREE.under("code") == ("code",)


def test_the_mass_of_a_branch_binds_in_a_problem():
    w = mx.Mixture(TREE)
    problem = mx.minimize(mx.kl(w, TREE.natural), over=w, subject_to=[(mx.mass(w, TREE.under("web")) <= 0.35).named("web")])
    weights = mx.solve(problem).weights
    assert sum(weights[name] for name in TREE.under("web")) == pytest.approx(0.35, abs=1e-6)
    assert weights["code"] / weights["website"] == pytest.approx(2, rel=1e-4)


def test_an_unknown_branch_names_the_nearest():
    with pytest.raises(mx.InputError, match=r"no branch 'web/form' in .*did you mean 'web/forum'"):
        TREE.under("web/form")


def test_the_tree_nests_by_levels_and_ends_in_names():
    assert TREE.tree == {
        "web": {"news": "web/news", "forum": {"good": "web/forum/good", "": "web/forum"}},
        "code": "code",
        "website": "website",
    }


def test_names_that_end_with_a_slash_stay_apart_in_the_tree():
    assert mx.Domains(["a", "a/", "/b"]).tree == {"a": {"": "a", "/": "a/"}, "/": {"b": "/b"}}
