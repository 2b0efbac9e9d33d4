"""Token streams: windows stay inside their domain, mixtures are met to within one window, and seeds decide everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.runtime.streams import Streams

SIZES = st.lists(st.integers(6, 40), min_size=1, max_size=5)
CONTEXT = 5


def numbered(sizes: list[int]) -> Streams:
    """Domains whose tokens are their own places in the buffer, so that a window tells where it was cut."""
    ends = np.cumsum(sizes)
    return Streams({f"d{i}": np.arange(end - size, end) for i, (size, end) in enumerate(zip(sizes, ends, strict=True))}, CONTEXT)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def domain_of(sizes: list[int], windows: torch.Tensor) -> torch.Tensor:
    """Domain of each window [...], after a check that the window is one run of tokens within it."""
    assert torch.equal(windows - windows[..., :1], torch.arange(CONTEXT + 1).expand_as(windows))
    ends = torch.tensor(np.cumsum(sizes))
    first = torch.searchsorted(ends, windows[..., 0].contiguous(), right=True)
    assert torch.equal(first, torch.searchsorted(ends, windows[..., -1].contiguous(), right=True))
    return first


@settings(deadline=None, max_examples=40)
@given(SIZES, st.integers(1, 9), st.integers(0, 99))
def test_no_stratified_or_fixed_window_crosses_a_boundary(sizes, per_domain, seed):
    streams = numbered(sizes)
    for windows in (streams.draw(per_domain, seeded(seed)), streams.fixed(per_domain)):
        assert windows.shape == (len(sizes), per_domain, CONTEXT + 1)
        assert windows.dtype == torch.int64
        assert torch.equal(domain_of(sizes, windows), torch.arange(len(sizes))[:, None].expand(-1, per_domain))


@settings(deadline=None, max_examples=60)
@given(st.data(), SIZES, st.integers(1, 12), st.integers(0, 99), st.booleans())
def test_each_run_meets_its_mixture_to_within_one_window(data, sizes, batch, seed, paired):
    raw = st.lists(st.sampled_from([0.0, 0.0, 0.2, 1.0, 3.7]), min_size=len(sizes), max_size=len(sizes)).filter(any)
    rows = np.array(data.draw(st.lists(raw, min_size=1, max_size=4)))
    weights = rows / rows.sum(1, keepdims=True)
    drawn = domain_of(sizes, numbered(sizes).draw_mixed(weights, batch, seeded(seed), paired=paired))
    assert drawn.shape == (len(weights), batch)
    for row, domains in zip(weights, drawn, strict=True):
        counts = np.bincount(domains.numpy(), minlength=len(sizes))
        assert np.all(np.abs(counts - batch * row) < 1 + 1e-9)
        assert np.all(counts[row == 0] == 0)


def test_the_mean_share_over_many_batches_is_the_mixture():
    sizes, weights = [40, 40, 40, 40], np.array([[0.01, 0.0, 0.66, 0.33]])
    drawn = domain_of(sizes, numbered(sizes).draw_mixed(np.repeat(weights, 4000, 0), 3, seeded(), paired=False))
    shares = np.bincount(drawn.flatten().numpy(), minlength=4) / drawn.numel()
    np.testing.assert_allclose(shares, weights[0], atol=0.01)


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_a_zero_is_never_drawn_even_at_the_ends_of_the_uniform_numbers(zero):
    sizes, streams = [20, 20, 20], numbered([20, 20, 20])
    bounds = streams.bounds([[0.0 if i == zero else 0.5 for i in range(3)]])
    for edge in (0.0, 1 - 2.0**-53):
        windows = streams.mixed(bounds, torch.full((1, 17), edge, dtype=torch.float64))
        assert zero not in domain_of(sizes, windows)


def test_every_start_is_reached_and_about_equally_often():
    windows = numbered([9, 6]).draw(4000, seeded())
    counts = torch.bincount(windows[0, :, 0], minlength=4)
    assert counts.tolist() == pytest.approx([1000] * 4, rel=0.12)
    assert set(windows[1, :, 0].tolist()) == {9}


def test_paired_runs_see_the_same_windows_where_their_domains_agree():
    sizes, streams = [30, 30], numbered([30, 30])
    windows = streams.draw_mixed([[0.5, 0.5], [0.75, 0.25]], 8, seeded())
    first, second = domain_of(sizes, windows)
    assert (first != second).sum() == 2  # 4 against 6 windows of the first domain
    assert torch.equal(windows[0][first == second], windows[1][first == second])
    apart = streams.draw_mixed([[0.5, 0.5], [0.5, 0.5]], 8, seeded(), paired=False)
    assert not torch.equal(apart[0], apart[1])


def test_the_seed_alone_decides():
    streams, state = numbered([30, 30]), torch.get_rng_state()
    for draw in (lambda g: streams.draw(4, g), lambda g: streams.draw_mixed([0.5, 0.5], 4, g)):
        assert torch.equal(draw(seeded(1)), draw(seeded(1)))
        assert not torch.equal(draw(seeded(1)), draw(seeded(2)))
    assert torch.equal(state, torch.get_rng_state())


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 60), st.integers(1, 10))
def test_fixed_windows_are_apart_where_there_is_room_and_reach_both_ends(size, per_domain):
    streams = numbered([size])
    starts = streams.fixed(per_domain)[0, :, 0]
    assert torch.equal(streams.fixed(per_domain)[0, :, 0], starts)
    if per_domain > 1:
        assert starts[0] == 0
        assert starts[-1] == size - CONTEXT - 1
        if per_domain * (CONTEXT + 1) <= size:
            assert starts.diff().min() >= CONTEXT + 1


def test_streams_move_to_another_device_and_draw_the_same_there():
    streams = Streams({"web": np.arange(40), "code": np.arange(30)}, CONTEXT)
    away = streams.on("meta")
    assert away.draw(3, torch.Generator().manual_seed(0)).device.type == "meta"
    assert away.fixed(2).device.type == "meta"
    assert streams.device.type == "cpu"
    here = [s.draw(3, torch.Generator().manual_seed(0)) for s in (streams, streams.on("cpu"))]
    assert torch.equal(*here)


def test_names_sizes_and_parts():
    streams = Streams({"web": torch.arange(8), "code": [300] * 7}, CONTEXT)
    assert streams.names == ("web", "code")
    assert streams.sizes == {"web": 8, "code": 7}
    assert streams.vocabulary == 301
    assert streams.part("code").tolist() == [300] * 7


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({"web": range(9), "code": []}, "'code' is empty"),
        ({"web": range(9), "code": range(5)}, "'code' has 5 tokens, and a window takes 6"),
        ({"web": [[1, 2]]}, r"shape \(1, 2\)"),
        ({"web": [0.5] * 9}, "float64; give integers"),
        ({"web": [1] * 8 + [-1]}, "holds the token -1"),
        ({}, "no domains"),
    ],
)
def test_streams_that_do_not_fit_are_refused(tokens, message):
    with pytest.raises(InputError, match=message):
        Streams(tokens, CONTEXT)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([0.5, 0.6], "sum to 1.1"), ([1.5, -0.5], "weight of 'd1' is -0.5"), ([np.nan, 1.0], "nan"), ([1.0], r"shape \(1,\)")],
)
@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["array", "tensor"])
def test_mixtures_that_are_none_are_refused(kind, weights, message):
    with pytest.raises(InputError, match=message):
        numbered([9, 9]).draw_mixed(kind([weights]), 4, seeded())


def test_an_unknown_domain_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'd1'"):
        numbered([9, 9]).part("d11")
