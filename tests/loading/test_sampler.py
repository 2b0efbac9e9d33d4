"""The torch sampler: live weights, indices of concatenated datasets, ranks that share a batch, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset

from mixopt.errors import InputError
from mixopt.loading import MixtureSampler

LENGTHS = {"web": 500, "code": 40, "books": 100}
SHARES = {"web": 0.5, "code": 0.25, "books": 0.25}


def dataset():
    """Samples that tell their domain and their number in it."""
    parts = [TensorDataset(torch.stack([torch.full((n,), i), torch.arange(n)], 1)) for i, n in enumerate(LENGTHS.values())]
    return ConcatDataset(parts)


class Live:
    """Weights that are moved by hand."""

    def __init__(self, weights):
        self.weights = weights


def test_a_data_loader_gets_the_domains_by_their_weights():
    sampler = MixtureSampler(LENGTHS, SHARES, batch_size=8, batches=30)
    seen = torch.cat([batch for (batch,) in DataLoader(dataset(), batch_sampler=sampler)])
    assert torch.bincount(seen[:, 0]).tolist() == [120, 60, 60]
    assert sampler.epochs == {"web": 120 / 500, "code": 1.5, "books": 0.6}
    assert len(seen[:120].unique(dim=0)) == 120
    assert np.array_equal(sampler.domain_of([0, 499, 500, 540, 639]), [0, 0, 1, 2, 2])


@pytest.mark.parametrize("kind", ["mapping", "array", "tensor", "function", "object"])
def test_weights_may_be_given_in_many_ways(kind):
    row = list(SHARES.values())
    weights = {
        "mapping": SHARES,
        "array": np.array(row),
        "tensor": torch.tensor(row),
        "function": lambda: row,
        "object": Live(SHARES),
    }[kind]
    first = next(iter(MixtureSampler(LENGTHS, weights, 8)))
    assert first == next(iter(MixtureSampler(LENGTHS, row, 8)))


def test_weights_are_read_anew_for_each_batch():
    live = Live(SHARES)
    sampler = MixtureSampler(LENGTHS, live, 8)
    draws = iter(sampler)
    next(draws)
    live.weights = {"web": 0.0, "code": 1.0, "books": 0.0}
    assert set(sampler.domain_of(next(draws)).tolist()) == {1}
    live.weights = {"web": float("nan"), "code": 1.0, "books": 0.0}
    with pytest.raises(InputError, match="the weight of 'web' is nan"):
        next(draws)


def test_in_a_data_loader_with_workers_the_weights_lag_by_what_it_draws_ahead():
    live = Live([1.0, 0.0, 0.0])
    sampler, domains = MixtureSampler(LENGTHS, live, 8, batches=20), []
    for n, (batch,) in enumerate(DataLoader(dataset(), batch_sampler=sampler, num_workers=2, prefetch_factor=2)):
        domains.append(int(batch[:, 0].unique()))
        if n == 6:
            live.weights = [0.0, 1.0, 0.0]
    assert domains == [0] * (7 + 4) + [1] * 9


def test_single_draws_follow_the_weights_too():
    sampler = MixtureSampler(LENGTHS, SHARES, batches=80)
    seen = torch.cat([batch for (batch,) in DataLoader(dataset(), sampler=sampler, batch_size=16)])
    assert torch.bincount(seen[:, 0]).tolist() == [40, 20, 20]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_a_global_batch_and_a_state_goes_to_any_number_of_them(ranks):
    whole = list(MixtureSampler(LENGTHS, SHARES, 8, batches=6, rank=0, ranks=1))
    early = MixtureSampler(LENGTHS, SHARES, 8, batches=3, rank=0, ranks=2)
    list(early)
    parts = []
    for rank in range(ranks):
        sampler = MixtureSampler(LENGTHS, SHARES, 8, batches=6, rank=rank, ranks=ranks)
        sampler.load_state_dict(early.state_dict())
        assert len(sampler) == 3
        parts.append(list(sampler))
    assert [[i for part in rows for i in part] for rows in zip(*parts, strict=True)] == whole[3:]


def test_torch_distributed_is_asked_for_the_rank(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        assert len(next(iter(MixtureSampler(LENGTHS, SHARES, 8)))) == 8
    finally:
        dist.destroy_process_group()


def test_the_state_is_plain_and_survives_torch(tmp_path):
    sampler = MixtureSampler(LENGTHS, SHARES, 8, batches=9)
    draws = iter(sampler)
    for _ in range(4):
        next(draws)
    torch.save(sampler.state_dict(), tmp_path / "state.pt")
    again = MixtureSampler(LENGTHS, SHARES, 8, batches=9)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert list(again) == list(draws)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": {"web": None}}, "the length of 'web' is not known"),
        ({"weights": {"web": 1.0, "code": 0.0}}, "weights are missing for .books."),
        ({"weights": [0.5, 0.2, 0.2]}, "the weights sum to 0.9, not 1"),
        ({"batch_size": 8, "rank": 0, "ranks": 3}, "which 3 ranks do not divide; give a multiple of 3"),
        ({"rank": 2, "ranks": 2}, "rank 2 is not among 2 ranks"),
        ({"rank": 1}, "give both or neither"),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(InputError, match=message):
        MixtureSampler(**{"lengths": LENGTHS, "weights": SHARES, "batch_size": 8, **change})


@pytest.mark.filterwarnings("ignore:used up")
def test_a_sampler_ends_with_its_data_and_says_where_more_was_asked_for():
    assert len(list(MixtureSampler(LENGTHS, SHARES, 8, at_most=1))) == 80
    with pytest.raises(InputError, match="every domain is used up after 80 batches of 8, and 81 were asked for"):
        list(MixtureSampler(LENGTHS, SHARES, 8, at_most=1, batches=81))
    with pytest.raises(TypeError, match="give batches"):
        len(MixtureSampler(LENGTHS, SHARES, 8))
