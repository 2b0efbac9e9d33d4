"""Tables of runs over another set of domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx

ROWS = [[0.6, 0.4, 0.0], [0.5, 0.3, 0.2], [0.2, 0.8, 0.0]]


def table(**settings):
    return mx.Runs.from_arrays(["web", "code", "pdf"], ROWS, ["loss"], [[2.0], [1.9], [1.8]], ids="abc", **settings)


def test_added_renamed_split_and_gone():
    sized = mx.Domains(["news", "forum", "python", "maths"], tokens=[3e9, 1e9, 2e9, 1e9])
    found = table(seeds=[1, 2, 3], tokens=1e6).over(sized, {"web": {"news": 3e9, "forum": 1e9}, "code": "python"})
    assert found.domains.tokens == sized.tokens
    assert found.ids == ("a", "c")
    np.testing.assert_allclose(found.mixtures, [[0.45, 0.15, 0.4, 0], [0.15, 0.05, 0.8, 0]], atol=1e-15)
    assert found.metrics.tolist() == [[2.0], [1.8]]
    assert found.seeds.tolist() == [1, 3]
    assert found.notes == (
        "1 of 3 runs have weight in (pdf), which is gone, and are left out",
        "web of every run is taken as (75 % news, 25 % forum)",
        "code of every run is taken as python",
        "(maths) is new, with weight 0 in every one of these runs",
    )
    with pytest.raises(ValueError, match="read-only"):
        found.mixtures[0, 0] = 1


def test_the_same_domains_in_another_order_are_the_same_runs():
    found = table().over(["pdf", "web", "code"])
    assert found.notes == ()
    np.testing.assert_array_equal(found.mixtures, np.array(ROWS)[:, [2, 0, 1]])


def test_a_domain_may_keep_its_name_and_lose_a_part():
    found = table().over(["web", "forum", "code", "pdf"], {"web": {"web": 0.9, "forum": 0.1}})
    np.testing.assert_allclose(found.mixtures[0], [0.54, 0.06, 0.4, 0])


def test_a_law_of_old_and_new_runs_is_the_law_of_the_parts():
    """Where the parts of a domain act alike, runs from before its split and runs of its parts follow one law, and it is found."""
    rng = np.random.default_rng(0)
    slopes = np.array([[-1.0, -1.0, 0.5, -0.4]])  # news and forum act alike: web did not mind
    before = rng.dirichlet([3, 2], 12)
    old = mx.Runs.from_arrays(["web", "code"], before, ["loss"], 2 + np.exp(before @ np.array([[-1.0], [0.5]])), ids=map(str, range(12)))
    after = rng.dirichlet(np.ones(4), 12)
    names = ["news", "forum", "code", "maths"]
    new = mx.Runs.from_arrays(names, after, ["loss"], 2 + np.exp(after @ slopes.T), ids=[f"new{i}" for i in range(12)])
    both = old.over(names, {"web": {"news": 0.7, "forum": 0.3}}).joined(new)
    law = mx.laws.Exponential.fit(both)
    fresh = rng.dirichlet(np.ones(4), 5)
    np.testing.assert_allclose(law.predicted(fresh), 2 + np.exp(fresh @ slopes.T), atol=1e-5)


@given(seed=st.integers(0, 10**6), k=st.integers(2, 5))
@settings(deadline=None, max_examples=30)
def test_rows_keep_their_sum_and_come_back_when_the_parts_are_merged(seed, k):
    rng = np.random.default_rng(seed)
    names = [f"d{i}" for i in range(k)]
    runs = mx.Runs.from_arrays(names, rng.dirichlet(np.ones(k), 6), ["loss"], rng.normal(size=(6, 1)))
    shares = dict(zip(("x", "y", "z"), rng.dirichlet(np.ones(3)).tolist(), strict=True))
    found = runs.over(["x", "y", "z", *names[1:]], {"d0": shares})
    np.testing.assert_allclose(found.mixtures.sum(axis=1), 1, atol=1e-12)
    back = mx.problems.merged(found, shares, name="d0")
    np.testing.assert_allclose(back.mixtures, runs.mixtures, atol=1e-12)


@pytest.mark.parametrize(
    ("domains", "became", "words"),
    [
        (["web", "code"], {"books": "web"}, "domain of the runs 'books'"),
        (["web", "code"], {"pdf": "papers"}, "no new domain, which 'pdf' is said to have become, 'papers'"),
        (["web", "code"], {"pdf": "code"}, "'code' and 'pdf' would both become 'code'.*merged"),
        (["web", "a", "b"], {"code": {"a": 0.0, "b": 0.0}}, "all 0"),
        (["web", "a", "b"], {"code": {"a": -0.1, "b": 1.1}}, "share of -0.1"),
        (["maths"], {}, "every run has weight in .*say what became of it"),
    ],
)
def test_refusals_say_what_to_mend(domains, became, words):
    with pytest.raises(mx.InputError, match=words):
        table().over(domains, became)
