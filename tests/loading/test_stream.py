"""The endless dataset: exact alone, and in a DataLoader's workers by weights that lag no more than it says."""

from __future__ import annotations

import json
import pickle
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mixopt.errors import InputError
from mixopt.loading import MixtureLoader, MixtureStream, Sample, from_datasets


class Dealt(IterableDataset):
    """Numbers that are dealt out to a DataLoader's workers, as torch's manual has it."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        return iter(range(1000, 1000 + self.n) if info is None else range(1000 + info.id, 1000 + self.n, info.num_workers))


class Live:
    """Weights that are moved by hand."""

    def __init__(self, *weights):
        self.weights = weights


def sources():
    return {"web": list(range(1000)), "code": Dealt(64)}


def take(stream, n):
    samples = iter(stream)
    return [next(samples) for _ in range(n)]


def test_alone_it_draws_what_a_loader_draws_and_weights_do_not_lag():
    live = Live(0.75, 0.25)
    stream = MixtureStream(sources(), live, 8)
    loader = MixtureLoader(sources(), [0.75, 0.25], 8, batches=5)
    expected = [x for batch in loader for x in batch.data.tolist()]
    samples = iter(stream)
    assert [next(samples).data for _ in range(40)] == expected
    live.weights = (0.0, 1.0)
    assert {(s.domain, s.version) for s in (next(samples) for _ in range(8))} == {(1, 2)}


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 21])
def test_a_state_is_exact_at_any_sample(cut, tmp_path):
    live = Live(0.6, 0.4)
    whole = MixtureStream(sources(), live, 8)
    samples = iter(whole)
    for _ in range(cut):
        next(samples)
    state = whole.state_dict()
    live.weights = (0.1, 0.9)
    rest = [next(samples) for _ in range(30)]
    torch.save(state, tmp_path / "state.pt")
    for saved in (json.loads(json.dumps(state)), torch.load(tmp_path / "state.pt", weights_only=True)):
        again = MixtureStream(sources(), live, 8)
        again.load_state_dict(saved)
        assert [s.data for s in take(again, 30)] == [s.data for s in rest]


def test_two_ranks_share_the_draws():
    whole = [s.data for s in take(MixtureStream(sources(), [0.5, 0.5], 8), 32)]
    parts = [[s.data for s in take(MixtureStream(sources(), [0.5, 0.5], 8, rank=r, ranks=2), 16)] for r in (0, 1)]
    assert [x for i in range(4) for part in parts for x in part[4 * i : 4 * i + 4]] == whole


@pytest.mark.parametrize("prefetch", [1, 3])
def test_in_two_workers_the_weights_lag_by_no_more_batches_than_are_ahead(prefetch):
    live = Live(1.0, 0.0)
    stream = MixtureStream(sources(), live, 8)
    loader = DataLoader(stream, batch_size=8, num_workers=2, prefetch_factor=prefetch)
    versions = []
    for n, batch in enumerate(loader):
        assert isinstance(batch, Sample)
        assert batch.version.unique().numel() == 1
        versions.append(int(batch.version[0]))
        if versions[-1] == 1:
            assert not batch.domain.any()
        else:
            assert batch.domain.all()
        if n == 9:
            live.weights = (0.0, 1.0)
            assert stream.update() == 2
            assert stream.update() == 2  # nothing has changed
        if n == 30:
            break
    assert versions[:10] == [1] * 10
    assert versions[10 + 2 * prefetch + 1 :] == [2] * (21 - 2 * prefetch - 1)


def test_workers_of_all_ranks_read_each_sample_once_an_epoch_and_follow_the_weights():
    seen = []
    for rank in (0, 1):
        stream = MixtureStream(sources(), [0.8, 0.2], 8, rank=rank, ranks=2)
        for n, batch in enumerate(DataLoader(stream, batch_size=4, num_workers=2)):
            seen.append(torch.stack([batch.domain, batch.data]))
            if n == 39:
                break
    domains, data = torch.cat(seen, 1)
    assert torch.bincount(domains).tolist() == [256, 64]
    assert len(data.unique()) == 320  # 64 of code, dealt out to 4 workers, and 256 of web


def test_a_stream_that_deals_itself_out_to_workers_is_whole_in_a_loader():
    loader = MixtureLoader({"code": Dealt(64)}, [1.0], 8, num_workers=2, batches=16)
    data = torch.cat([batch.data for batch in loader])
    assert data.tolist() == [*range(1000, 1064)] * 2


def test_weights_that_cannot_be_pickled_stay_behind():
    stream = MixtureStream(sources(), lambda: [0.5, 0.5], 4, draw_by=lambda: [0.25, 0.75])
    there = pickle.loads(ForkingPickler.dumps(stream))  # as a worker gets it that is spawned
    batch = next(iter(DataLoader(there, batch_size=4, num_workers=1)))
    assert batch.importance.tolist() == pytest.approx([2.0 if d == 0 else 2 / 3 for d in batch.domain])


def test_workers_leave_no_state_here():
    stream = MixtureStream(sources(), [0.5, 0.5], 4)
    next(iter(DataLoader(stream, batch_size=4, num_workers=1)))
    with pytest.raises(InputError, match="read by workers, which know its state; read it by torchdata's StatefulDataLoader"):
        stream.state_dict()
    with pytest.raises(InputError, match="it has no 'done'"):
        stream.load_state_dict(MixtureLoader(sources(), [0.5, 0.5], 4).state_dict())


@pytest.mark.parametrize("cut", [0, 3, 8])
def test_a_worker_goes_on_from_its_state(cut, monkeypatch):
    """As torchdata's StatefulDataLoader has it: each worker's state is asked for there, and given to it before it iterates."""
    begun = MixtureStream(sources(), [0.6, 0.4], 8, rank=1, ranks=2)

    def worker(number, state=None):
        monkeypatch.setattr("mixopt.loading.stream.get_worker_info", lambda: SimpleNamespace(id=number, num_workers=2))
        own = pickle.loads(ForkingPickler.dumps(begun))
        if state is not None:
            own.load_state_dict(json.loads(json.dumps(state)))
        return own, iter(own)

    for number in (0, 1):
        first, samples = worker(number)
        for _ in range(cut):
            next(samples)
        state = first.state_dict()
        rest = [next(samples).data for _ in range(20)]
        _, samples = worker(number, state)
        assert [next(samples).data for _ in range(20)] == rest
    with pytest.raises(InputError, match="the state is of other draws: its seed"):
        worker(0, state)


@pytest.mark.filterwarnings("ignore:.*set_vital")  # torchdata asks for a name that torch has put away
def test_a_stateful_loader_goes_on_exactly():
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def loader(workers):
        return stateful(MixtureStream(sources(), [0.6, 0.4], 8), batch_size=4, num_workers=workers)

    for workers in (0, 2):
        whole = loader(workers)
        batches = iter(whole)
        for _ in range(5):
            next(batches)
        state = whole.state_dict()
        rest = [next(batches).data.tolist() for _ in range(6)]
        again = loader(workers)
        again.load_state_dict(state)
        batches = iter(again)
        assert [next(batches).data.tolist() for _ in range(6)] == rest


def test_a_state_that_does_not_fit_the_readers_is_refused():
    stream = MixtureStream(sources(), [0.5, 0.5], 8, rank=0, ranks=2)
    take(stream, 2)
    whole = MixtureStream(sources(), [0.5, 0.5], 8)
    with pytest.raises(InputError, match="the state is of 4 samples a rank in the middle of a batch"):
        whole.load_state_dict(stream.state_dict())
    whole.load_state_dict(whole.state_dict())
    with pytest.raises(InputError, match="given a state outside its workers"):
        next(iter(DataLoader(whole, batch_size=8, num_workers=1)))


def test_more_workers_than_samples_are_refused(monkeypatch):
    monkeypatch.setattr("mixopt.loading.stream.get_worker_info", lambda: SimpleNamespace(id=1, num_workers=2))
    with pytest.raises(InputError, match=r"\(code\) have fewer samples than there are workers on all ranks, 2"):
        next(iter(MixtureStream({"web": [1, 2, 3], "code": [1]}, [0.5, 0.5], 4)))


def test_a_limit_ends_the_stream():
    with pytest.warns(UserWarning, match="used up: 'b'"):
        samples = list(MixtureStream({"a": [1, 2, 3, 4], "b": [5, 6]}, [0.5, 0.5], 2, at_most=1))
    assert sorted(s.data for s in samples) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("examples", "message"),
    [([1, 2], "the samples are int, and columns are added to mappings"), ([{"domain": 1}], "a column 'domain' already")],
)
def test_examples_that_columns_cannot_be_added_to(examples, message):
    with pytest.raises(InputError, match=message):
        next(iter(from_datasets({"a": examples}, [1.0])))


datasets = pytest.importorskip("datasets")


def hugging(n, first):
    return datasets.Dataset.from_dict({"x": list(range(first, first + n)), "text": [f"text {i}" for i in range(n)]})


@pytest.mark.parametrize("iterable", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_hugging_face_datasets_interleave_by_changing_probabilities(iterable, workers):
    live = Live(0.75, 0.25)
    data = {"web": hugging(300, 0), "code": hugging(40, 1000)}
    if iterable:
        data = {name: one.to_iterable_dataset(num_shards=4).shuffle(seed=1, buffer_size=10) for name, one in data.items()}
    stream = from_datasets(data, live, 8)
    found = []
    for batch in DataLoader(stream, batch_size=8, num_workers=workers):
        assert torch.equal((batch["x"] >= 1000).long(), batch["domain"])
        assert len(batch["text"]) == 8
        found.append(batch["domain"].tolist().count(1))
        if len(found) == 10:
            live.weights = (0.25, 0.75)
            stream.update()
        if len(found) == 24:
            break
    assert found[:10] == [2] * 10
    assert found[16:] == [6] * 8


@pytest.mark.parametrize("workers", [0, 2])
def test_hugging_face_datasets_resume_exactly_in_a_loader(workers):
    def make(state=None):
        code = hugging(40, 1000).to_iterable_dataset(num_shards=4).shuffle(seed=1, buffer_size=10)
        loader = MixtureLoader({"web": hugging(300, 0), "code": code}, [0.5, 0.5], 8, num_workers=workers, batches=20)
        if state:
            loader.load_state_dict(state)
        return loader

    whole = [batch.data["x"].tolist() for batch in make()]
    loader, first = make(), []
    for batch in loader:
        first.append(batch.data["x"].tolist())
        if len(first) == 7:
            break
    assert first + [batch.data["x"].tolist() for batch in make(loader.state_dict())] == whole
    seen = np.array(whole).ravel()
    assert sorted(seen[seen >= 1000][:40].tolist()) == list(range(1000, 1040))
