"""Prices by hand, and simulated epoching: the part that is kept, and the epochs that it gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixopt as mx
from mixopt.data import Pieces
from mixopt.designs import advised, simulated, subsample

DOMAINS = mx.Domains(["web", "code", "books"], tokens=[6e11, 3e11, 1e11])
TARGET = {"target_params": 7e9, "target_tokens": 2e12}


def test_a_price_by_hand():
    found = mx.price(DOMAINS, **TARGET, gpu_hours=100, params=1e8, tokens=2e9, runs=20, mfu=0.5, peak=1e15)
    assert found.flops == 20 * 6 * 1e8 * 2e9
    assert found.hours == pytest.approx(20 * 1.2e18 / 5e14 / 3600)
    assert found.target_flops == 6 * 7e9 * 2e12
    text = str(found)
    assert "20 proxies of 1e+08 parameters on 2e+09 tokens: 2.4e+19 FLOPs, 13.33 GPU-hours, 0.667 each" in text
    assert "FLOPs = 6 N D (Kaplan et al. 2020" in text
    assert "at 50% of 1e+15 FLOP/s a GPU" in text
    assert "86.67 GPU-hours are left" in text


def test_an_embedding_costs_nothing_and_is_said():
    plain = mx.price(DOMAINS, **TARGET, gpu_hours=100, params=1e8, tokens=2e9, runs=20)
    found = mx.price(DOMAINS, **TARGET, gpu_hours=100, params=1e8, tokens=2e9, runs=20, embedding=4e7)
    assert found.flops == pytest.approx(0.6 * plain.flops)
    assert "4e+07 of them an embedding that multiplies nothing" in str(found)


@settings(deadline=None, max_examples=60)
@given(st.floats(1, 1e5), st.floats(1e9, 1e12), st.floats(1e10, 1e14), st.floats(0, 2e6))
def test_what_is_proposed_is_within_the_budget_and_the_target(hours, params, tokens, embedding):
    found = mx.price(DOMAINS, target_params=params, target_tokens=tokens, gpu_hours=hours, embedding=embedding)
    assert found.hours <= hours * (1 + 1e-9)
    assert found.params <= 0.1 * params * (1 + 1e-9)
    assert found.tokens <= 0.1 * tokens * (1 + 1e-9)
    assert advised(DOMAINS) <= found.runs <= 8 * 4
    if found.runs == advised(DOMAINS):  # nearly all is spent, but for rounding down to two digits
        assert found.hours > 0.6 * hours


def test_runs_of_other_lengths_cost_what_they_read():
    found = mx.price(DOMAINS, **TARGET, gpu_hours=100, runs=7, mean_length=8.2 / 7)
    assert found.flops == pytest.approx(8.2 * 6 * found.params * found.tokens)
    assert 60 < found.hours <= 100
    assert "tokens (1.17 times that on average)" in str(found)


def test_a_budget_that_pays_for_no_model_is_refused_with_what_it_pays_for():
    with pytest.raises(mx.InputError, match=r"1e-10 GPU-hours pay for 12 proxies of 310 parameters on 6.2e.03 tokens, which tell nothing"):
        mx.price(DOMAINS, **TARGET, gpu_hours=1e-10)
    assert mx.price(DOMAINS, **TARGET, gpu_hours=1e-10, params=300, tokens=600).params == 300
    with pytest.raises(
        mx.InputError, match=r"1 proxy of .* cost 126.4 GPU-hours, and 1 are given; give more, or fewer parameters or tokens"
    ):
        mx.price(DOMAINS, **TARGET, gpu_hours=1, params=3e8, tokens=1e11)
    assert "the proxies are 0.00046% of it" in str(mx.price(DOMAINS, **TARGET, gpu_hours=0.27, params=1e7))


def test_small_proxies_and_few_runs_are_noted():
    assert "proxies below 1.5e+07 parameters" in str(mx.price(DOMAINS, **TARGET, gpu_hours=0.1))
    assert "4 runs are fewer than the 12 = 3 (k + 1)" in str(mx.price(DOMAINS, **TARGET, gpu_hours=100, runs=4))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gpu_hours": 0}, "gpu_hours is 0; it is a finite number > 0"),
        ({"mfu": 1.2}, "mfu is 1.2"),
        ({"runs": 0}, "runs is 0"),
        ({"params": 1e8, "embedding": 2e8}, "the embedding has 2e"),
        ({"gpu_hours": 0.001, "embedding": 1e9}, "more than a proxy may have"),
        ({"params": 1e9, "tokens": 2e10, "runs": 50}, "cost .* GPU-hours, and 100 are given"),
    ],
)
def test_a_price_that_cannot_be_is_refused(settings, words):
    with pytest.raises(mx.InputError, match=words):
        mx.price(DOMAINS, **{**TARGET, "gpu_hours": 100, **settings})


def test_simulated_epochs_are_those_of_the_target():
    part = simulated(DOMAINS, 1e9, 2e12)
    weights = {"web": 0.2, "code": 0.3, "books": 0.5}
    assert mx.data.epochs(part, 1e9, weights) == pytest.approx(mx.data.epochs(DOMAINS, 2e12, weights))
    with pytest.raises(mx.InputError, match="give the longer run as the target"):
        simulated(DOMAINS, 2e12, 1e9)
    with pytest.raises(mx.InputError, match="proxy_tokens is 0"):
        simulated(DOMAINS, 0, 1e9)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60_000), st.floats(0.001, 1))
def test_a_part_is_of_its_size_in_order_and_spread(whole, share):
    row, wanted = np.arange(whole), max(1, int(share * whole))
    half = whole // 2
    for given_row in (row, Pieces([row[:half], row[half:]])):
        part = subsample({"a": given_row}, mx.Domains(["a"], [wanted]))["a"]
        assert len(part) == wanted
        assert (np.diff(part) > 0).all()
    if wanted < whole and wanted > 3 * 4096:
        assert part[-1] > 0.6 * whole
        assert (np.diff(part) > 1).sum() <= -(-wanted // 4096)


def test_a_part_that_is_not_there_is_refused():
    with pytest.raises(mx.InputError, match="11 tokens of 'a' are wanted, and there are 10"):
        subsample({"a": np.arange(10)}, mx.Domains(["a"], [11]))
    with pytest.raises(mx.InputError, match="there are no tokens of 'b'"):
        subsample({"a": np.arange(10)}, mx.Domains(["b"], [1]))
