"""The loader: what the consumer has seen is what a state holds, with workers and prefetching, streams, and several ranks."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixopt.errors import InputError
from mixopt.loading import MixtureLoader
from mixopt.loading.sources import Stream


class Counting:
    """A stream of numbers from ``first`` on that can be read again; its epochs differ."""

    def __init__(self, first, n):
        self.first, self.n, self.epoch = first, n, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return (self.first + (i + self.epoch) % self.n for i in range(self.n))


class Learning:
    """Weights that move with each batch that was trained on."""

    def __init__(self):
        self.steps = 0

    @property
    def weights(self):
        first = 1 / (1.5 + self.steps / 10)
        return {"web": first, "code": 1 - first}

    def __call__(self):
        return np.array(list(self.weights.values()))


def sources():
    return {"web": list(range(5000)), "code": Counting(10_000, 37)}


def train(steps, learning=None, state=None, **settings):
    """The data and lag of each batch of a run, the state after it, and the weights."""
    learning, found = learning or Learning(), []
    loader = MixtureLoader(sources(), learning, 8, batches=40, **settings)
    if state is not None:
        loader.load_state_dict(state)
    for batch in loader:
        learning.steps += 1
        found.append((batch.data.tolist(), batch.domains.tolist(), batch.behind))
        if learning.steps == steps:
            break
    return found, loader.state_dict(), learning


@settings(deadline=None, max_examples=15)
@given(cut=st.integers(1, 40), method=st.sampled_from(["stratified", "multinomial"]), seed=st.integers(0, 9))
def test_a_resumed_run_equals_the_uninterrupted_one(cut, method, seed):
    whole, _, _ = train(40, method=method, seed=seed)
    first, state, learning = train(cut, method=method, seed=seed)
    rest, _, _ = train(40, learning, json.loads(json.dumps(state)), method=method, seed=seed)
    assert first + rest == whole
    assert all(behind == 0 for _, _, behind in whole)


@pytest.mark.parametrize("cut", [1, 3, 17])
def test_with_two_workers_the_unseen_batches_come_again_exactly_and_the_lag_is_bounded(cut, tmp_path):
    both = {"num_workers": 2, "prefetch_factor": 2}
    whole, _, _ = train(40, **both)
    first, state, learning = train(cut, **both)
    assert state["batch"] == cut
    assert len(state["ahead"]) == 4
    torch.save(state, tmp_path / "state.pt")
    rest, _, _ = train(40, learning, torch.load(tmp_path / "state.pt", weights_only=True), **both)
    assert first + rest == whole
    lags = [behind for _, _, behind in whole]
    assert max(lags) == 4 == MixtureLoader(sources(), Learning(), 8, **both).lag
    assert lags[4:] == [4] * 36


def test_with_one_lag_the_draws_do_not_depend_on_the_workers():
    whole, _, _ = train(40, lag=4)
    assert [behind for _, _, behind in whole[:6]] == [0, 1, 2, 3, 4, 4]
    assert train(40, num_workers=2, prefetch_factor=2)[0] == whole
    assert train(40, num_workers=1, prefetch_factor=3, lag=4)[0] == whole
    first, state, learning = train(9, num_workers=1, prefetch_factor=2, lag=4)
    assert first + train(40, learning, state, num_workers=2)[0] == whole
    with pytest.raises(InputError, match="lag is 3 batches, and the workers draw num_workers x prefetch_factor = 4 ahead; give 4 or more"):
        train(1, num_workers=2, lag=3)


def test_workers_that_stay_read_streams_from_their_start_again():
    stay = {"num_workers": 2, "options": {"persistent_workers": True}}
    loader, found = MixtureLoader(sources(), [0.5, 0.5], 8, batches=12, **stay), []
    while len(loader):
        for batch in loader:
            found.append(batch.data.tolist())
            if len(found) % 5 == 0:
                break
    assert found == [batch.data.tolist() for batch in MixtureLoader(sources(), [0.5, 0.5], 8, batches=12)]


def test_a_stream_that_is_being_read_can_go_to_a_worker():
    stream = Stream("code", Counting(0, 5))
    assert [stream[i] for i in (0, 3, 7)] == [0, 3, 3]  # the third of the second epoch, which begins at 1
    again = pickle.loads(pickle.dumps(stream))
    assert [again[i] for i in (4, 2, 12)] == [4, 2, 4]


def test_columns_are_added_to_a_collated_mapping():
    data = {"web": [{"x": i} for i in range(20)], "code": [{"x": 100 + i} for i in range(20)]}
    for batch in MixtureLoader(data, [0.5, 0.5], 8, columns=True, batches=3):
        assert torch.equal(batch["domain"], batch["x"] // 100)
        assert batch["importance"].tolist() == [1.0] * 8
    with pytest.raises(InputError, match="the samples are Tensor, and columns are added to mappings only"):
        next(iter(MixtureLoader(sources(), [0.5, 0.5], 8, columns=True)))


def test_the_shares_of_a_batch_are_the_weights_from_before_the_lag():
    learning, loader = Learning(), None
    loader = MixtureLoader(sources(), learning, 8, batches=20, num_workers=2)
    history = [learning()]
    for batch in loader:
        assert batch.shares == pytest.approx(history[loader.seen - 1 - batch.behind])
        learning.steps += 1
        history.append(learning())


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_see_together_what_one_does_and_a_state_moves_between_them(workers):
    def run(rank, ranks, state=None, steps=12):
        weights = {"web": 0.7, "code": 0.3}
        loader = MixtureLoader(sources(), weights, 8, batches=steps, rank=rank, ranks=ranks, num_workers=workers)
        if state:
            loader.load_state_dict(state)
        return [batch.data.tolist() for batch in loader], loader.state_dict()

    whole, _ = run(0, 1)
    early, state = run(1, 2, steps=5)
    parts = [run(rank, 2)[0] for rank in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole
    assert early == parts[1][:5]
    assert run(0, 1, state)[0] == whole[5:]


def test_breaking_off_and_going_on_loses_nothing():
    loader = MixtureLoader(sources(), Learning(), 8, batches=10, num_workers=2)
    found = []
    while len(loader):
        for batch in loader:
            found.append(batch.data.tolist())
            if len(found) % 3 == 0:
                break
    assert found == [b.data.tolist() for b in MixtureLoader(sources(), Learning(), 8, batches=10)]


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    next(iter(MixtureLoader(sources(), Learning(), 8)))
    assert torch.equal(torch.rand(3), expected)


def test_draws_by_other_shares_carry_importance_weights():
    q = np.array([0.5, 0.5])
    loader = MixtureLoader(sources(), {"web": 0.9, "code": 0.1}, 8, draw_by=lambda: q, batches=4)
    for batch in loader:
        assert torch.equal(batch.importance, torch.tensor([1.8, 0.2])[batch.domains])
        assert batch.importance.sum() == pytest.approx(8)
        assert batch.effective == pytest.approx(64 / (4 * 1.8**2 + 4 * 0.2**2))
    q[:] = [0.25, 0.75]
    resumed = MixtureLoader(sources(), {"web": 0.9, "code": 0.1}, 8, draw_by=lambda: q)
    resumed.load_state_dict(loader.state_dict())
    assert next(iter(resumed)).importance.max() == pytest.approx(3.6)


def test_streams_are_read_epoch_by_epoch_and_each_epoch_is_told():
    loader = MixtureLoader({"code": Counting(0, 5)}, [1.0], 10, batches=1)
    (batch,) = loader
    assert batch.data.tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4, 0]
    assert np.isnan(loader.epochs["code"])
    loader = MixtureLoader({"code": Counting(0, 5)}, [1.0], 10, batches=1, lengths={"code": 5}, at_most=2)
    assert len(list(loader)) == 1
    assert loader.epochs == {"code": 2.0}


@pytest.mark.parametrize(
    ("stream", "lengths", "message"),
    [
        (Counting(0, 0), None, "epoch 0 of the stream 'code' ended after 0 samples"),
        (Counting(0, 5), {"code": 7}, "ended after 5 samples, and lengths says 7"),
    ],
)
def test_streams_that_are_empty_or_not_as_long_as_told(stream, lengths, message):
    with pytest.raises(InputError, match=message):
        next(iter(MixtureLoader({"code": stream}, [1.0], 10, lengths=lengths)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": {}}, "there are no domains"),
        ({"sources": {"web": iter([1, 2])}}, "'web' is a list_iterator; give a dataset"),
        ({"sources": {"web": []}}, "domain 'web' is empty"),
        ({"sources": {"web": {"train": [1], "test": [2]}}}, r"'web' is a dict of \['train', 'test'\]; give the one of its entries"),
        ({"lengths": {"web": 7}}, "'web' has 5000 samples, and lengths says 7"),
        ({"lengths": {"cod": 7}}, r"lengths are given for \['cod'\]"),
        ({"options": {"shuffle": True}}, r"the options \['shuffle'\] of a DataLoader are this loader's own"),
        ({"weights": {"web": 1.0}}, "weights are missing for .code."),
    ],
)
def test_bad_arguments_are_named(change, message):
    with pytest.raises(InputError, match=message):
        MixtureLoader(**{"sources": sources(), "weights": Learning(), "batch_size": 8, **change})


def test_a_loader_without_batches_has_no_length():
    with pytest.raises(TypeError, match="give batches"):
        len(MixtureLoader(sources(), Learning(), 8))


def test_states_that_do_not_fit_and_iterations_that_are_overtaken():
    loader = MixtureLoader(sources(), Learning(), 8)
    batches = iter(loader)
    next(batches)
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(InputError, match="iterate over the loader anew"):
        next(batches)
    with pytest.raises(InputError, match="it has no 'ahead'"):
        loader.load_state_dict({"version": 1})
    other = MixtureLoader(sources(), Learning(), 16)
    with pytest.raises(InputError, match="its size is 8, and here it is 16"):
        other.load_state_dict(loader.state_dict())
