"""Limits: what is feasible, what is broken and by how much, and every contradiction told with its numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.fitting.limits import Limits, by_domain, proportions
from mixopt.language.domains import Domains
from mixopt.language.symbols import Mixture

PLAIN = Domains(["web", "code", "books"])
SIZED = Domains(["web", "code", "books"], tokens=[8e11, 1.5e11, 5e10])


def test_caps_bounds_and_fixed_weights_make_a_box():
    limits = Limits(SIZED, budget=1e12, cap=2, at_most={"web": 0.7}, at_least={"web": 0.2}, fixed={"code": 0.25})
    low, high = limits.box()
    np.testing.assert_allclose(low, [0.2, 0.25, 0])
    np.testing.assert_allclose(high, [0.7, 0.25, 0.1])
    names = [r.label for r in limits.relations(Mixture(SIZED))]
    assert names == ["repetition", "at most 0.7 web", "at least 0.2 web", "fixed 0.25 code"]
    np.testing.assert_allclose(limits.epochs(np.array([0.6, 0.3, 0.1])), [0.75, 2, 2])


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_what_is_broken_is_told_by_how_much(seed):
    rng = np.random.default_rng(seed)
    w = rng.dirichlet(np.ones(3))
    limits = Limits(SIZED, budget=1e12, cap=2, at_most={"web": 0.75}, at_least={"code": 0.1}, fixed={"books": 0.05})
    broken = limits.broken(w)
    expected = {
        "repetition of web": w[0] - 1.6,
        "repetition of code": w[1] - 0.3,
        "repetition of books": w[2] - 0.1,
        "at most 0.75 web": w[0] - 0.75,
        "at least 0.1 code": 0.1 - w[1],
        "fixed 0.05 books": abs(w[2] - 0.05),
    }
    assert broken == pytest.approx({n: v for n, v in expected.items() if v > 1e-6})


def test_the_kl_term_of_numbers_is_that_of_the_definition():
    q = np.array([0.8, 0.15, 0.05])
    limits = Limits(PLAIN, natural=q, kl=0.5)
    w = np.array([0.5, 0.5, 0.0])
    assert limits.divergence(w) == pytest.approx(0.5 * (0.5 * np.log(0.5 / 0.8) + 0.5 * np.log(0.5 / 0.15)))
    assert limits.divergence(q) == pytest.approx(0)
    assert Limits(PLAIN).divergence(w) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limits(PLAIN, kl=0.05), r"KL term of 0\.05 needs the natural proportions.*--prior .*--tokens"),
        (
            lambda: Limits(PLAIN, cap=4),
            r"cap of 4 epochs needs the size of each domain \(--tokens.*and the tokens of the training run \(--budget",
        ),
        (lambda: Limits(SIZED, cap=4), r"cap of 4 epochs needs the tokens of the training run"),
        (lambda: Limits(PLAIN, cap=4, budget=1e9), r"needs the size of each domain"),
        (lambda: Limits(PLAIN, at_most={"wep": 0.1}), "no domain 'wep'.*did you mean 'web'"),
        (lambda: Limits(PLAIN, at_most={"web": 1.2}), "at most 1.2 of 'web': a share is from 0 to 1"),
        (lambda: Limits(PLAIN, kl=-1), "the KL weight is -1"),
        (lambda: Limits(SIZED, cap=0, budget=1), "the cap is 0"),
        (lambda: Limits(PLAIN, at_least={"web": 0.5}, at_most={"web": 0.4}), r"'web': it needs at least 0\.5 and may have at most 0\.4"),
        (lambda: Limits(PLAIN, fixed={"web": 0.5}, at_most={"web": 0.4}), "no mixture keeps the bounds of 'web'"),
        (lambda: Limits(PLAIN, at_least={"web": 0.6, "code": 0.6}), r"lower bounds \(web 0\.6, code 0\.6\): they sum to 1\.2, 0\.2 over 1"),
        (lambda: Limits(PLAIN, at_most={"web": 0.3, "code": 0.3, "books": 0.2}), r"upper bounds .*sum to 0\.8, 0\.2 short of 1; raise one"),
        (
            lambda: Limits(SIZED, cap=0.5, budget=1e12),
            r"sum to 0\.5, 0\.5 short of 1\. A run of 1e\+12 tokens at 0\.5 epochs finds only 5e\+11 tokens "
            r".*allow 1 epochs, or train on at most 5e\+11",
        ),
        (lambda: Limits(SIZED, cap=2, budget=1e12, at_most={"web": 0.5}), r"sum to 0\.9, 0\.1 short of 1; raise --at-most or --fix"),
    ],
)
def test_contradictions_and_lacks_are_told_with_the_mend(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_epochs_that_a_message_asks_for_are_enough():
    with pytest.raises(InputError, match=r"allow 1\.34 epochs"):
        Limits(SIZED, cap=1, budget=1.333e12)
    assert Limits(SIZED, cap=1.34, budget=1.333e12).box()[1].sum() >= 1


def test_proportions_are_divided_by_their_sum_and_zeros_are_lifted_with_a_note():
    shares, notes = proportions(PLAIN, {"books": 1, "web": 3, "code": 0})
    np.testing.assert_allclose(shares, [0.75, 0, 0.25], atol=1e-11)
    assert shares[1] > 0
    assert len(notes) == 2
    assert "sum to 4" in notes[0]
    assert "(code) has a natural share of 0" in notes[1]
    assert proportions(PLAIN, {"web": 0.6, "code": 0.3, "books": 0.1})[1] == ()
    with pytest.raises(InputError, match="share of 'web' is -1"):
        proportions(PLAIN, {"web": -1, "code": 1, "books": 1})
    with pytest.raises(InputError, match="every natural share is 0"):
        proportions(PLAIN, dict.fromkeys(PLAIN, 0))


def test_names_go_by_domain_or_by_column_and_mismatches_name_both_sides():
    columns = {"train_web": "web", "train_code": "code"}
    assert by_domain("the prior", {"train_web": 1, "code": 2, "books": 3}, PLAIN, columns, whole=True) == {"web": 1, "code": 2, "books": 3}
    assert by_domain("the bounds", {"train_web": 1}, PLAIN, columns, whole=False) == {"web": 1}
    with pytest.raises(
        InputError, match=r"\(boks\) of the prior match no domain and \(books\) have no entry in the prior: .*did you mean 'books'"
    ):
        by_domain("the prior", {"web": 1, "code": 1, "boks": 1}, PLAIN, columns, whole=True)
    with pytest.raises(InputError, match=r"the prior name \(a, b\) and the mixtures \(web, code, books\); the names must agree"):
        by_domain("the prior", {"a": 1, "b": 1}, PLAIN, columns, whole=True)
